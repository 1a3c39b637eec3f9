"""How does error fall with size, data and compute? Power laws, and a prediction that is checked.

Language: small Transformers of several sizes, each on several amounts of text, held-out loss in
bits a byte. Games: networks of several sizes imitate exact play on boards of several sizes
(training/solved_boards.py); the moves by which they lose the outcome are counted from zero. Laws
(training/laws.py) are fitted to all runs but the largest, which they have to predict.

    playout bench scaling --quick
    python -m playout.benchmarks.studies.scaling
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from playout.benchmarks.studies.cases import side_by_side
from playout.benchmarks.studies.page import Page
from playout.benchmarks.studies.training import solved_boards
from playout.benchmarks.studies.training.laws import Law, cost_of, frontier, predict_largest, study
from playout.benchmarks.studies.training.solved_boards import BOARD, LOST
from playout.rlhf.data.batches import Corpus
from playout.rlhf.data.corpora import RATED
from playout.rlhf.data.datasets import Datasets, choose_source
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.supervised.pretrain import PretrainConfig, PretrainTrainer

Rows = list[dict[str, Any]]

COMMAND = "python -m playout.benchmarks.studies.scaling"
SQUARES = "Squares are the largest runs, lines laws that have not seen them."

LANGUAGE = {
    True: ((16, 24, 32, 48), (60, 120, 240)),
    False: ((32, 48, 64, 96, 128, 192), (600, 1500, 3000)),
}
"""Widths, and steps of each."""


@lru_cache(maxsize=1)
def language_data(quick: bool) -> tuple[Tokenizer, Corpus, Corpus, int]:
    """Tokeniser, text to learn from and held-out text, and tokens a row.

    The longest run reads two thirds of it: large models that read the same twice stay above laws.
    """
    names = () if quick else ("film-reviews", *RATED)
    texts, held = Datasets(choose_source("synthetic" if quick else "real")).texts(names)
    vocabulary, length = (512, 48) if quick else (2048, 128)
    held = held if quick else held[::8]
    tokenizer = Tokenizer.train(texts[:5000], vocab_size=vocabulary)
    return tokenizer, Corpus.of(tokenizer, texts), Corpus.of(tokenizer, held), length


def language_run(quick: bool, width: int, steps: int, seed: int) -> dict[str, Any]:
    """Held-out loss of a Transformer of a width after so many steps."""
    tokenizer, train, held, length = language_data(quick)
    heads = max(1, width // 16)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=width // heads,
        intermediate_size=4 * width,
        max_position_embeddings=length,
    )
    model = Transformer(config, seed=seed)
    count = sum(p.numel() for p in model.parameters()) - model.embed_tokens.numel()
    settings = PretrainConfig(steps=steps, rows=16, length=length)
    trainer = PretrainTrainer(model, train, held, settings, seed=seed)
    while not trainer.finished:
        trainer.update()
    loss = trainer.evaluate()["eval/bits_per_byte"]
    tokens = steps * 16 * length
    return {"parameters": count, "tokens": tokens, "operations": 6 * count * tokens,
            "held-out loss": loss}  # fmt: skip


def case(kind: str, *what: Any) -> dict[str, Any]:
    """A row of "language" or "boards", wherever this process is."""
    row = (language_run if kind == "language" else solved_boards.board_run)(*what)
    print(row, flush=True)
    return row


def all_runs(
    *, quick: bool, seed: int = 0, kept: Path | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of language by parameters and tokens, of boards by board and network, smallest first.

    Rows are noted in the file `kept` one by one, and not made again.
    """
    language_data(quick)  # read once, for all processes
    boards, sizes = solved_boards.BOARDS[quick], solved_boards.SIZES[quick]
    for board in boards:
        solved_boards.data_of(quick, board, seed)
    widths, budgets = LANGUAGE[quick]
    cases: list[tuple[Any, ...]] = [
        ("boards", quick, board, size, seed) for board in boards for size in sizes
    ]
    played = len(cases)
    cases += [("language", quick, width, steps, seed) for width in widths for steps in budgets]
    found = side_by_side(case, cases[::-1], kept=kept)[::-1]
    return found[played:], found[:played]


def draw(of: Mapping[str, tuple[Rows, Law]], x: str, y: str, path: Path) -> None:
    """Points and laws by name on logarithmic axes; a law has not seen its last point, a square."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for number, (name, (rows, law)) in enumerate(of.items()):
        xs, ys = [row[x] for row in rows], [row[y] for row in rows]
        axes.loglog(xs[:-1], ys[:-1], "o", color=f"C{number}")
        axes.loglog(xs[-1:], ys[-1:], "s", color=f"C{number}")
        line = np.geomspace(min(xs), max(xs), 50)
        axes.loglog(line, [law(v) for v in line], "-", color=f"C{number}", label=name)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:.3g}"))
    axes.yaxis.set_minor_formatter(ticker.StrMethodFormatter("{x:.3g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def add_boards(page: Page, folder: Path, rows: Rows) -> dict[str, Any]:
    """Table, picture and laws of strength by board; the table's rows and the laws."""
    by_board: dict[str, Rows] = {}
    for row in sorted(rows, key=lambda row: row["operations"]):
        by_board.setdefault(row[BOARD], []).append(row)
    by_board = {name: by_board[name] for name in dict.fromkeys(row[BOARD] for row in rows)}
    laws = {name: study(own, "operations", LOST, floor=0.0) for name, own in by_board.items()}
    page.table(rows, "Connect Four: networks that imitate exact play, which loses no move")
    draw({f"board {name}": (own, laws[name]["law"]) for name, own in by_board.items()},
         "operations", LOST, folder / "boards.png")  # fmt: skip
    page.picture("boards.png", f"Moves that lose the outcome, on held-out positions. {SQUARES}")
    said = [f"Board {name}: {_words(law, 'what is lost')}" for name, law in laws.items()]
    reached = max(min(row[LOST] for row in own) for own in by_board.values())
    costs = (f"{cost_of(law['law'], reached):.2g} on {name}" for name, law in laws.items())
    said.append(
        f"To lose the outcome by {100 * reached:.1f} % of moves it takes, by these laws, so many "
        f"operations: {', '.join(costs)}."
    )
    page.findings(said)
    told = {n: {k: v for k, v in law.items() if k != "law"} for n, law in laws.items()}
    return {"boards": rows, "board laws": told}


def main(quick: bool = False, folder: Path | None = None) -> int:
    """Runs the study and writes its page."""
    folder = folder or Path("runs") / ("scaling-quick" if quick else "scaling")
    folder.mkdir(parents=True, exist_ok=True)
    page = Page(
        "How error falls with compute",
        "Do small runs tell how good a larger one will be? Each law is fitted without the largest "
        "run and then has to predict it.",
        quick=quick,
    )
    language, boards = all_runs(quick=quick, kept=folder / "cases.jsonl")
    best = frontier(language)
    found: dict[str, Any] = {"language": language}
    page.table(language, "language: Transformers of two layers; loss in bits a byte")
    if len(best) >= 4:
        law = study(best, "operations", "held-out loss")
        laws = {"runs that no cheaper one beats": (best, law["law"])}
        draw(laws, "operations", "held-out loss", folder / "language.png")
        page.picture("language.png", f"{_words(law)} {SQUARES}")
        found["language law"] = {key: value for key, value in law.items() if key != "law"}
    surface = predict_largest(language)
    found["language surface"] = surface
    page.findings([_surface_words(surface)])
    found |= add_boards(page, folder, boards)
    print(f"wrote {page.write(folder)}")
    if not quick:
        print(f"wrote {page.publish(folder, 'scaling', found | {'claims': claims_of(found)})}")
    return 0


def claims_of(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How far predictions of held-out larger runs are off, as tools/report.py reads them."""
    laws = {"language, by parameters and text": found["language surface"]}
    if "language law" in found:
        laws["language, by operations"] = found["language law"]
    laws |= {f"Connect Four {name}": law for name, law in found["board laws"].items()}
    return [
        {
            "claim": f"loss of the largest run, predicted without it: {name}",
            "ours": 100 * law["off by"],
            "unit": "%",
            "command": COMMAND,
            "note": f"predicted {law['predicted']:.3f}, measured {law['measured']:.3f}",
            **({"target": 2, "better": "lower"} if name.startswith("language") else {}),
        }
        for name, law in laws.items()
    ]


def _surface_words(surface: Mapping[str, Any]) -> str:
    """How the form was chosen, and what it foretold."""
    off = [f"{form} by {100 * value:.1f} %" for form, value in surface["off, of left out"].items()]
    low, high = surface["range"]
    return (
        f"Parameters and tokens together: of runs that are left out one by one, {' and '.join(off)}"
        f" off, so {surface['form']} is taken, with the exponents {surface['alpha']:.2f} and "
        f"{surface['beta']:.2f}. The dearest run, which none of this has seen, should need "
        f"{surface['predicted']:.3f} bits a byte (leaving out any other: {low:.3f} to {high:.3f}); "
        f"measured were {surface['measured']:.3f}: off by {100 * surface['off by']:.1f} %."
    )


def _words(law: dict[str, Any], what: str = "Loss") -> str:
    low, high = law["range"]
    bottom = law["law"].floor
    above = f"{what} above {bottom:.3f}" if bottom > 0 else what
    return (
        f"{above} falls as the power -{law['exponent']:.3f} (leaving out any run: {low:.3f} to "
        f"{high:.3f}). Predicted for the largest run {law['predicted']:.3f}, measured "
        f"{law['measured']:.3f}: off by {100 * law['off by']:.1f} %."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path)
    raise SystemExit(main(**vars(parser.parse_args())))
