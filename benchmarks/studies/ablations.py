"""Which remedy does what: vanishing gradients by depth, and overfitting on few labels.

A stack of convolutions from 2 to 64 layers, with and without residual connections, normalisation,
careful first weights and clipping: does it learn, and how large is the gradient in each layer at
the first step? And a network that has too few pictures: dropout, weight decay, augmentation, early
stopping, more data. Every row has several seeds, side by side, and their interval.

    playout bench ablations --quick
    python -m playout.benchmarks.studies.ablations --seeds 0 1 2 3 4
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from playout.agents.networks.encoders import Layer
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import Augmentation, Split
from playout.agents.pretraining.data.sources import FASHION_FOLDER, load
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import new_trunk
from playout.benchmarks.studies.cases import side_by_side
from playout.benchmarks.studies.page import Page
from playout.benchmarks.tools.measuring import write_result
from playout.errors import DivergedError

REMEDIES = {
    "nothing, small first weights": {"init": "small"},
    "careful first weights": {"init": "he"},
    "+ residual connections": {"init": "he", "residual": True},
    "+ batch normalisation": {"init": "he", "norm": "batch"},
    "+ both": {"init": "he", "norm": "batch", "residual": True},
}
STILL = Augmentation(shift=0.0)
# Against overfitting: settings, and whether the whole data is there.
OVERFITTING: dict[str, dict[str, Any]] = {
    "nothing": {},
    "dropout": {"dropout": 0.5},
    "weight decay": {"weight_decay": 0.5},
    "augmentation": {"augment": Augmentation(shift=0.12, erase=0.3)},
    "label smoothing": {"label_smoothing": 0.1},
    "early stopping": {"patience": 3},
    "ten times the data": {"labels": 1.0},
}


def network_text(depth: int, width: int, remedy: dict[str, Any]) -> str:
    """The name of a stack."""
    words = [f"depth={depth}", f"width={width}"]
    words += [f"{key}={str(value).lower()}" for key, value in remedy.items()]
    return f"stack({', '.join(words)})"


def run(data: Split, config: PretrainConfig, *, steps: int, seed: int) -> dict[str, Any]:
    """Trains once; accuracy on both sides, curves, and the first gradient's norm by layer."""
    trunk = new_trunk(data.train, network=config.network, seed=seed)
    trainer = PretrainTrainer(trunk, data, config, steps=steps, seed=seed)
    layers = [module for module in trunk.modules() if isinstance(module, Layer)]
    curve, norms = [], []
    try:
        while not trainer.finished:
            trainer.steps_an_update = PretrainTrainer.steps_an_update if trainer.steps else 1
            try:
                found = trainer.update()
            except DivergedError:  # one of the findings here
                break
            if not curve:
                norm, limit = found["train/grad_norm"], config.max_grad_norm
                clipped = limit / norm if limit and norm > limit else 1.0
                norms = [float(_norm(layer.conv.weight)) / clipped for layer in layers]
            held = trainer.evaluate()
            curve.append((trainer.steps, found["train/accuracy"], held["eval/accuracy"]))
    finally:
        trainer.close()
    best = max((point[2] for point in curve), default=0.0)
    last = curve[-1] if curve else (0, 0.0, 0.0)
    return {"held_out": best if config.patience else last[2], "train": last[1], "curve": curve,
            "norms": norms}  # fmt: skip


def _norm(weight: torch.nn.Parameter) -> torch.Tensor:
    return weight.grad.norm() if weight.grad is not None else torch.zeros(())


def summary(values: list[float]) -> tuple[float, float]:
    """Mean, and half of the 95 % interval of the mean by Student's t."""
    if len(values) < 2:
        return values[0], float("nan")
    from scipy import stats

    spread = statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values), float(stats.t.ppf(0.975, len(values) - 1)) * spread


@lru_cache(maxsize=2)
def pictures_of(quick: bool) -> Split:
    """The pictures that this machine has; few of them in the quick form."""
    data = load("fashion-mnist" if FASHION_FOLDER.is_dir() else "digits")
    return data.some(3000, 300) if quick else data


def case(quick: bool, name: str, config: PretrainConfig, steps: int, seed: int) -> dict[str, Any]:
    """`run` on the form's pictures, wherever this process is."""
    found = run(pictures_of(quick), config, steps=steps, seed=seed)
    print(f"{name}, seed {seed}: {100 * found['held_out']:.1f} %", flush=True)
    return found


def all_cases(quick: bool) -> dict[tuple[str, ...], tuple[PretrainConfig, int]]:
    """Settings and steps by the table, the row and the column that they are for, dear ones first.

    Tables are "depth", "clipping" and "overfitting".
    """
    sizes, steps, width = ((2, 12), 50, 8) if quick else ((2, 8, 16, 32, 64), 800, 24)
    found: dict[tuple[str, ...], tuple[PretrainConfig, int]] = {}
    for depth in reversed(sizes):
        for name, remedy in REMEDIES.items():
            config = PretrainConfig(
                network=network_text(depth, width, remedy), batch=128, augment=STILL,
                learning_rate=3e-3, optimizer="adamw",
            )  # fmt: skip
            found["depth", name, f"{depth} layers"] = config, steps
    few = PretrainConfig(
        network="grid", batch=64, labels=0.1, augment=STILL, weight_decay=0.0, learning_rate=2e-3
    )
    for name, settings in OVERFITTING.items():
        found["overfitting", name] = replace(few, **settings), 75 if quick else 1500
    for limit in (0.0, 1.0):
        config = PretrainConfig(
            network=network_text(6 if quick else 16, 16, {"init": "large"}), batch=128,
            augment=STILL, optimizer="momentum", learning_rate=0.02, max_grad_norm=limit,
        )  # fmt: skip
        name = f"clipped to {limit:g}" if limit else "as they are"
        found["clipping", name] = config, 50 if quick else 400
    return found


Found = dict[tuple[str, ...], list[dict[str, Any]]]
"""What came of each case, by seed."""


def depths(found: Found) -> tuple[list[Any], list[Any]]:
    """Rows of accuracy by depth and remedy, and gradients by layer of the deepest."""
    columns = [key[2] for key in found if key[0] == "depth" and key[1] == next(iter(REMEDIES))]
    rows, gradients = [], []
    for name in REMEDIES:
        row: dict[str, Any] = {"remedy": name}
        for column in reversed(columns):
            mean, half = summary([one["held_out"] for one in found["depth", name, column]])
            row[column] = f"{100 * mean:.1f}" + ("" if half != half else f" ± {100 * half:.1f}")
        gradients.append((name, found["depth", name, columns[0]][0]["norms"]))
        rows.append(row)
    return rows, gradients


def clipping(found: Found) -> list[dict[str, Any]]:
    """First weights twice too large, with and without clipping."""
    rows = []
    for key, runs in found.items():
        if key[0] == "clipping":
            mean, half = summary([one["held_out"] for one in runs])
            rows.append({"gradients": key[1], "held out": mean, "±": half})
    return rows


def overfitting(found: Found) -> tuple[list[Any], dict[str, Any]]:
    """Rows of accuracy on both sides by remedy, with a tenth of the labels; and the curves."""
    rows, curves = [], {}
    for name in OVERFITTING:
        runs = found["overfitting", name]
        mean, half = summary([one["held_out"] for one in runs])
        train = statistics.mean(one["train"] for one in runs)
        rows.append({"remedy": name, "learned from": train, "held out": mean, "±": half,
                     "gap": train - mean})  # fmt: skip
        curves[name] = runs[0]["curve"]
    return rows, curves


def draw_gradients(gradients: list[Any], path: Path) -> None:
    """The norm of the first gradient in each layer."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4))
    for name, norms in gradients:
        axes.semilogy(range(1, len(norms) + 1), np.maximum(norms, 1e-20), label=name)
    axes.set_xlabel("layer, from the picture on")
    axes.set_ylabel("norm of its gradient at the first step")
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def draw_curves(curves: dict[str, Any], path: Path) -> None:
    """Training and held-out accuracy over steps."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for name, curve in curves.items():
        steps, train, held = zip(*curve, strict=True)
        (line,) = axes.plot(steps, held, label=name)
        axes.plot(steps, train, ":", color=line.get_color(), linewidth=1)
    axes.set_xlabel("gradient steps")
    axes.set_ylabel("accuracy: held out (line), learned from (dots)")
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def main(quick: bool = False, seeds: tuple[int, ...] = (), folder: Path | None = None) -> int:
    """Runs the study and writes its page."""
    import matplotlib

    matplotlib.use("Agg")
    seeds = seeds or ((0, 1) if quick else (0, 1, 2, 3, 4))
    folder = folder or Path("runs") / ("ablations-quick" if quick else "ablations")
    folder.mkdir(parents=True, exist_ok=True)
    name = pictures_of(quick).train.name  # read once, for all processes
    plan = all_cases(quick)
    cases = [
        (quick, ", ".join(key), config, steps, seed)
        for key, (config, steps) in plan.items()
        for seed in seeds
    ]
    results = iter(side_by_side(case, cases))
    by_case = {key: [next(results) for _ in seeds] for key in plan}
    page = Page(
        "What makes training work",
        "Deep stacks learn or do not, small data is learned by heart or not: which remedy does "
        "what, with several seeds and their 95 % intervals?",
        quick=quick,
    )
    over = f"95 % intervals over {len(seeds)} seeds"
    rows, gradients = depths(by_case)
    draw_gradients(gradients, folder / "gradients.png")
    page.table(rows, f"per cent right on held-out {name}, by depth; {over}")
    page.picture("gradients.png", "Where nothing helps, the gradient is gone before it arrives.")
    clipped = clipping(by_case)
    page.table(clipped, f"first weights twice too large, gradient descent with momentum; {over}")
    few, curves = overfitting(by_case)
    draw_curves(curves, folder / "overfitting.png")
    page.table(few, f"a tenth of the labels: share right where it learned, and held out; {over}")
    page.picture("overfitting.png", "The gap between dots and line is what was learned by heart.")
    print(f"wrote {page.write(folder)}")
    if not quick:
        found = {"depth": rows, "clipping": clipped, "overfitting": few}
        write_result("ablations", found, settings={"seeds": list(seeds)})
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[])
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    raise SystemExit(main(given.quick, tuple(given.seeds), given.folder))
