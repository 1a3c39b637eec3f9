"""What does a smaller model cost? Distillation, few bits, pruning, experts, less data: one chart.

A board network is taught by the exact solver of Connect Four; students of a fraction of its cost
learn from its answers, or from labels alone; it loses weights or whole channels and learns on; and
each is asked in float32, bfloat16 and int8, with weights of 8 and 4 bits, and the teacher by ONNX
Runtime. Quality is the share of held-out positions where the bare policy keeps the outcome. A
language model goes through the same and more (smaller_language.py).

    playout bench compression --quick
    python -m playout.benchmarks.studies.compression --seeds 0 1 2
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import playout
import torch
from playout.agents.alphazero.evaluator import Float32, NetworkEvaluator
from playout.agents.networks.boards.network import BoardNetwork
from playout.agents.networks.boards.smaller.held import Held, with_codes
from playout.agents.networks.boards.smaller.run import state_bytes
from playout.agents.networks.precision.codes import CODES
from playout.agents.pretraining.data.dataset import Split, some_rows
from playout.agents.pretraining.data.positions import Positions
from playout.agents.pretraining.data.sources import load
from playout.agents.pretraining.trunk import restore_trunk
from playout.agents.runs.devices import resolve_device, resolve_dtype
from playout.agents.runs.directory import RunDir
from playout.benchmarks.studies.cases import (
    beside,
    kept_run,
    note_result,
    noted_result,
    study_parser,
)
from playout.benchmarks.studies.page import Page
from playout.benchmarks.studies.smaller_language import (
    claim_of_experts,
    finding_of_experts,
    language_rows,
    models_of_seed,
    packed_bytes,
    setting,
)
from playout.benchmarks.tools.charts import number_points, plain_log_ticks
from torch import nn

GAMES = {False: "connect_four", True: "connect_four(width=5,height=4)"}
"""The quick form plays on the small board, which the solver labels in a second."""
COUNTS = {False: 40_000, True: 1500}
"""Positions."""
CALIBRATED = 512
"""Positions that int8 chooses its scales by."""
COMMAND = "python -m playout.benchmarks.studies.compression --seeds 0 1 2"
HELD = " weights"
"""Behind the number of bits in which weights are held, while products are of float32."""
RUNTIME = "ONNX Runtime "
MARKS = {
    "float32": ("o", "circle"),
    "bfloat16": ("s", "square"),
    "int8": ("^", "triangle"),
    f"int8{HELD}": ("v", "triangle, point down"),
    f"nf4{HELD}": ("D", "diamond"),
    f"{RUNTIME}float32": ("P", "plus"),
    f"{RUNTIME}int8": ("X", "cross"),
    f"{RUNTIME}int8 dynamic": ("*", "star"),
}
"""What stands for a type in the chart, and what the mark is called."""


def network_of(run: RunDir) -> BoardNetwork:
    """The board network of a run's newest checkpoint."""
    _, state = run.load("latest", only=("model", "network"))
    trunk = restore_trunk(state["network"], run.path)
    trunk.net.load_state_dict(state["model"])
    net: BoardNetwork = trunk.net.eval()  # type: ignore[assignment]
    return net


def shown_of(data: Split) -> Float32:
    """Positions that were learned from, by which int8 chooses its scales."""
    return data.train.images(some_rows(np.arange(len(data.train)), CALIBRATED))


def asked(net: BoardNetwork, data: Split, kind: str, *, rounds: int) -> dict[str, float]:
    """What `judged` says of a network in a type, or with weights of few bits."""
    dtype = kind
    if kind.endswith(HELD):
        net, dtype = with_codes(net, kind.removesuffix(HELD)), "float32"
    evaluator = NetworkEvaluator(net, device="cpu", dtype=dtype, calibration=shown_of(data))
    return judged(evaluator.evaluate_obs, data, rounds=rounds)


def judged(
    ask: Callable[[Float32], tuple[Float32, Float32]], data: Split, *, rounds: int
) -> dict[str, float]:
    """Share of held-out moves that keep the outcome, and evaluations a second on one thread."""
    held: Positions = data.test
    rows = np.arange(len(held))
    obs = held.images(rows)
    logits, _ = ask(obs)
    policy = held.policy(rows)
    assert policy is not None
    legal = np.where(policy > 0, 1, 0)
    kept = legal[rows, np.argmax(logits, axis=1)].mean()
    large = np.tile(obs, (max(1, 2048 // len(obs)), 1, 1, 1))
    best = 0.0
    for _ in range(rounds):
        begun = time.perf_counter()
        ask(large)
        best = max(best, len(large) / (time.perf_counter() - begun))
    return {"moves kept": float(kept), "evaluations/s": best}


def stored_bytes(net: BoardNetwork, kind: str) -> float:
    """What the weights take of the copy that answers, as "float32", "bfloat16" or "int8".

    In int8 the first convolution, heads and biases stay float32, and every channel has a scale.
    Where weights are held in few bits, their codes and scales stand for them.
    """
    total = 0.0
    if kind.endswith(HELD):
        assert isinstance(net, nn.Module)
        for name, layer in with_codes(net, kind.removesuffix(HELD)).named_modules():
            if isinstance(layer, Held):
                plain = net.get_parameter(f"{name}.weight")
                total += state_bytes({"codes": layer.codes, "scales": layer.scales})
                total -= packed_bytes(plain, 4)
    copy = net.inference_copy(dtype=torch.float32, device=torch.device("cpu"))
    assert isinstance(copy, nn.Module)
    for name, weight in copy.named_parameters():
        size = 2 if kind == "bfloat16" else 4
        if kind == "int8" and name.startswith(("convs.", "head.")) and weight.ndim > 1:
            size = 1
            total += 4 * len(weight)
        total += packed_bytes(weight, size)
    return total


def rows_of(
    name: str, runs: list[RunDir], data: Sequence[Split], *, rounds: int
) -> list[dict[str, Any]]:
    """A row a type, means over the seeds.

    Args:
        name: Of the network.
        runs: One a seed.
        data: Of each run: it is judged on what it has held out.
        rounds: Of measuring speed.
    """
    nets = [network_of(run) for run in runs]
    count = sum(int((p != 0).sum()) if p.ndim > 1 else p.numel() for p in nets[0].parameters())
    kinds = ["float32", "int8", *(bits + HELD for bits in CODES)]
    if resolve_dtype("auto", resolve_device("cpu")) == "bfloat16":
        kinds.insert(1, "bfloat16")
    found = []
    for kind in kinds:
        measured = [
            asked(net, own, kind, rounds=rounds) for net, own in zip(nets, data, strict=True)
        ]
        about = {"network": name, "type": kind, "parameters": count}
        found.append(_row(about, stored_bytes(nets[0], kind), measured))
    return found


def _row(about: dict[str, Any], size: float, measured: list[dict[str, float]]) -> dict[str, Any]:
    """What was measured of one network a seed, in one type."""
    row = {
        **about,
        "kB": size / 1000,
        "moves kept": float(np.mean([one["moves kept"] for one in measured])),
        "evaluations/s": float(np.median([one["evaluations/s"] for one in measured])),
    }
    print(row, flush=True)
    return row


def runtime_rows(
    name: str, runs: list[RunDir], data: Sequence[Split], folder: Path, *, rounds: int
) -> Iterator[dict[str, Any]]:
    """The same of ONNX Runtime, where it is installed: float32, and its two kinds of int8.

    Args:
        name: Of the network.
        runs: One a seed.
        data: Of each run.
        folder: For the files.
        rounds: Of measuring speed.
    """
    if any(find_spec(module) is None for module in ("onnxruntime", "onnxscript")):
        return
    from playout.agents.networks.boards.smaller.onnx_bytes import (
        answers_of,
        session_of,
        write_bytes_onnx,
    )
    from playout.agents.networks.export import ExportedBoard, write_onnx

    for kind in ("float32", "int8", "int8 dynamic"):
        measured, path = [], folder / f"{kind.replace(' ', '-')}.onnx"
        for run, own in zip(runs, data, strict=True):
            net = network_of(run)
            if kind == "float32":
                write_onnx(ExportedBoard(net), path)
            else:
                write_bytes_onnx(net, path, shown_of(own), dynamic=kind.endswith("dynamic"))
            measured.append(judged(partial(answers_of, session_of(path)), own, rounds=rounds))
        count = sum(parameter.numel() for parameter in net.parameters())
        about = {"network": name, "type": RUNTIME + kind, "parameters": count}
        yield _row(about, path.stat().st_size, measured)


def draw(rows: list[dict[str, Any]], language: list[dict[str, Any]], path: Path) -> None:
    """Quality against bytes and against speed, of board networks above, of language below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (sides, below) = pyplot.subplots(2, 2, figsize=(11, 9), sharey="row")
    names = list(dict.fromkeys(row["network"] for row in rows))
    types = {row["type"] for row in rows}
    told = [(kind, mark) for kind, mark in MARKS.items() if kind in types]
    for axes, key in zip(sides, ("kB", "evaluations/s"), strict=True):
        for number, name in enumerate(names):
            mine = sorted((r for r in rows if r["network"] == name), key=lambda r: r[key])
            axes.plot([r[key] for r in mine], [100 * r["moves kept"] for r in mine], "-",
                      color=f"C{number}", linewidth=0.7, label=name)  # fmt: skip
            for row in mine:
                axes.plot(row[key], 100 * row["moves kept"], MARKS[row["type"]][0],
                          color=f"C{number}")  # fmt: skip
        axes.set_xscale("log")
        plain_log_ticks(axes.xaxis)
        axes.set_xlabel(key)
    kinds = list(dict.fromkeys(row["kind"] for row in language))
    numbers = [str(number) for number in range(1, len(language) + 1)]
    for axes, key in zip(below, ("kB", "tokens/s"), strict=True):
        for number, row in zip(numbers, language, strict=True):
            axes.plot(row[key], row["bits a byte"], "o", color=f"C{kinds.index(row['kind'])}",
                      label=f"{number}  {row['model']}")  # fmt: skip
        axes.axhline(language[0]["bits a byte"], color="0.8", zorder=0)
        axes.set_xscale("log")
        axes.margins(0.08)
        plain_log_ticks(axes.xaxis)
        axes.set_xlabel(key)
        found = [row[key] for row in language], [row["bits a byte"] for row in language]
        number_points(axes, *found, numbers)
    sides[0].set_ylabel("per cent of moves that keep the outcome")
    below[0].set_ylabel("held-out bits a byte (less is better)")
    for axes, title in (
        (sides[1], "board networks\n" + "\n".join(f"{word}: {kind}" for kind, (_, word) in told)),
        (below[1], "language models"),
    ):
        axes.legend(
            fontsize=8, title=title, title_fontsize=9, alignment="left",
            loc="center left", bbox_to_anchor=(1.02, 0.5),
        )  # fmt: skip
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def board_runs(quick: bool, seed: int, folder: Path) -> dict[str, Path]:
    """Networks of one seed by what they are: taught, kept from before, or both."""
    large, small = ("24x2", "12x2") if quick else ("64x4", "32x4")
    epochs = 20.0 if quick else 16.0
    common = {"count": COUNTS[quick], "batch": 128, "seed": seed, "data_seed": seed}

    def made(name: str, **settings: Any) -> RunDir:
        given = {"epochs": epochs, **common, **settings}
        path = folder / f"{name}-{seed}"
        return kept_run(path, playout.pretrain_trunk, GAMES[quick], given)

    teacher = made("teacher", size=large)
    found = {
        f"teacher {large}": teacher,
        f"student {small}, distilled": made("distilled", size=small, teacher=teacher),
        f"student {small}, labels alone": made("labels", size=small),
    }
    for share, pattern in ((0.5, "2:4"), (0.75, "unstructured")):
        name = f"teacher pruned by {100 * share:.0f} % ({pattern}), learned on"
        found[name] = made(
            f"pruned-{pattern.replace(':', '-')}", size=large, init=teacher, sparsity=share,
            pattern=pattern, epochs=epochs / 4,
        )  # fmt: skip
    for name, part, share, length in (
        ("channels", "half", 0.5, epochs / 4), ("quarter", "a quarter", 0.25, epochs)
    ):  # fmt: skip
        found[f"student with {part} of its teacher's inner channels, distilled"] = made(
            name, size=large, init=teacher, teacher=teacher, sparsity=1 - share,
            pattern="channels", epochs=length,
        )  # fmt: skip
    return {name: run.path for name, run in found.items()}


def main(quick: bool = False, seeds: tuple[int, ...] = (0,), folder: Path | None = None) -> int:
    """Runs the study and writes its page."""
    torch.set_num_threads(1)
    folder = folder or Path("runs") / ("compression-quick" if quick else "compression")
    folder.mkdir(parents=True, exist_ok=True)
    # Solved once, for all processes.
    data = [load(GAMES[quick], count=COUNTS[quick], seed=seed) for seed in seeds]
    # Boards learn beside language; speeds are measured when nothing else runs any more.
    kept, case = folder / "language.jsonl", (quick, seeds)
    language = noted_result(kept, "language", case)
    with beside(board_runs, [(quick, seed, folder) for seed in seeds]) as boards:
        if language is None:
            models = [models_of_seed(setting(quick=quick, seed=seed)) for seed in seeds]
        paths = [of_seed.result() for of_seed in boards]
    if language is None:
        language = language_rows(models)
        note_result(kept, "language", case, language)
    rows, rounds = [], 3 if quick else 15
    for name in paths[0]:
        runs = [RunDir.open(one[name]) for one in paths]
        rows += rows_of(name, runs, data, rounds=rounds)
        if name == next(iter(paths[0])):  # the teacher
            rows += runtime_rows(name, runs, data, folder, rounds=rounds)
    page = Page(
        "What a smaller model costs",
        "A network that plays Connect Four and a language model made smaller: fewer channels "
        "taught by the larger network, fewer bits, fewer weights, experts, less text. What is "
        "lost, what is gained?",
        quick=quick,
    )
    draw(rows, language, folder / "chart.png")
    page.table(
        rows,
        f"{GAMES[quick]}: {len(seeds)} seed(s), each judged on the {len(data[0].test):,} positions "
        "or so that it has held out; one thread",
    )
    page.picture(
        "chart.png",
        "Left is smaller, and on the right side right is faster. Up is better above, down below. "
        "Numbers below are those of the list, where dense is an ordinary model of that width.",
    )
    page.text(
        "Zeros of pruned networks are not counted as parameters, and their bytes are those of the "
        "other weights with a bit a weight that says where they are. A processor multiplies zeros "
        "all the same: pruning saves bytes here and no time, unless whole heads or channels go. "
        "Weights of 8 and 4 bits are made plain before products of float32: they save bytes alone. "
        "In int8 products are of bytes, here and in ONNX Runtime; dynamic means that scales of "
        "activations are found for every batch. Files of ONNX hold the graph besides the weights."
    )
    page.table(
        language,
        f"language: held-out bits a byte, {len(seeds)} seed(s); 'more bits' than the first row, "
        "seed by seed; every model but the quantised and pruned ones learned for the same steps",
    )
    page.findings([finding_of_experts(language)])
    print(f"wrote {page.write(folder)}")
    if not quick:
        claims = [*claims_of(rows), claim_of_experts(language, COMMAND)]
        found = {"rows": rows, "language": language, "claims": claims}
        print(f"wrote {page.publish(folder, 'compression', found, seeds=list(seeds))}")
    return 0


def claims_of(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What int8 and a student cost and gain, as tools/report.py reads it."""
    teacher = {row["type"]: row for row in rows if row["network"] == rows[0]["network"]}
    usual = teacher.get("bfloat16", teacher["float32"])
    students = [
        next(row for row in rows if row["network"].startswith("student") and size in row["network"])
        for size in ("32x4, distilled", "a quarter")
    ]

    def claim(text: str, ours: float, unit: str, **more: Any) -> dict[str, Any]:
        return {"claim": text, "ours": ours, "unit": unit, "command": COMMAND, **more}

    def lost(row: dict[str, Any], limit: float) -> dict[str, Any]:
        points = 100 * (teacher["float32"]["moves kept"] - row["moves kept"])
        text = f"moves lost: {row['network']}, {row['type']}"
        return claim(text, points, "points", target=limit, better="lower")

    speed = "evaluations/s"
    return [
        claim(
            f"board network in int8 beside {usual['type']}, one thread", teacher["int8"][speed],
            speed, peer=usual[speed], peer_name=f"the same network in {usual['type']}",
            ratio=teacher["int8"][speed] / usual[speed], target=1.3,
        ),
        lost(teacher["int8"], 0.5),
        *(lost(student, 1.0) for student in students),
    ]  # fmt: skip


if __name__ == "__main__":
    parser = study_parser(__doc__)
    given = parser.parse_args()
    raise SystemExit(main(given.quick, tuple(given.seeds) or (0,), given.folder))
