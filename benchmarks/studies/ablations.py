"""Which remedy does what: vanishing gradients by depth, and overfitting on little data.

A stack of convolutions from 2 to 64 layers, with and without residual connections, normalisation,
careful first weights and clipping: does it learn, and how large is the gradient in each layer at
the first step? And a network that has too few pictures: dropout, weight decay, augmentation, early
stopping, more data (training/stacks.py). The same of a small Transformer on text
(training/transformers.py). Every row has several seeds, side by side, and their interval.

    playout bench ablations --quick
    python -m playout.benchmarks.studies.ablations --seeds 0 1 2 3 4
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from playout.agents.pretraining.config import PretrainConfig
from playout.benchmarks.studies.cases import (
    difference_of_seeds,
    mean_of_seeds,
    side_by_side,
    study_parser,
)
from playout.benchmarks.studies.page import Page, compared, with_half
from playout.benchmarks.studies.training import stacks, transformers

NO_GRADIENT = 1e-20  # where norms of zero are drawn
NAUGHT = f" (a line at {NO_GRADIENT:g}: none at all)."
CHOSEN = "Early stopping chooses its step by other held-out data than that which is told of."

Case = tuple[PretrainConfig, int] | transformers.Case
"""Settings and steps on pictures, or what is trained on text."""


def case(quick: bool, name: str, one: Case, seed: int) -> dict[str, Any]:
    """A case on the form's pictures or text, wherever this process is."""
    if isinstance(one, transformers.Case):
        found, side = transformers.run(transformers.text_of(quick), one, seed=seed), TEXT
    else:
        config, steps = one
        data = stacks.pictures_of(quick)
        found, side = stacks.run(data, config, steps=steps, seed=seed), PICTURES
    print(f"{name}, seed {seed}: {side.shown(found['held_out'])}", flush=True)
    return found


Found = Mapping[tuple[str, ...], Sequence[Mapping[str, Any]]]
"""What came of each case, by seed."""


@dataclass(frozen=True, slots=True)
class Side:
    """How pictures or text are told of.

    Attributes:
        unit: What is measured on held-out data, after the number.
        scale: By which it is multiplied.
        better: Its sign: 1 where more is better.
        words: For more of it, and for less.
        data: What is held out.
    """

    unit: str
    scale: float
    better: int
    words: tuple[str, str]
    data: str

    def of(self, runs: Sequence[Mapping[str, Any]], key: str = "held_out") -> list[float]:
        """A number a seed, in the unit."""
        return [self.scale * one[key] for one in runs]

    def shown(self, value: float) -> str:
        """One run's number."""
        return f"{self.scale * value:.3g} {self.unit}"

    def cell(self, runs: Sequence[Mapping[str, Any]]) -> str:
        """The mean with half of its interval, and how many runs diverged."""
        mean, half = mean_of_seeds(self.of(runs))
        text = with_half(mean, round(half, 6), "{:.3g}")  # no more than rounding is nothing
        lost = sum(one["diverged"] for one in runs)
        return f"{text} ({lost} of {len(runs)} diverged)" if lost else text

    def against(
        self,
        ours: Sequence[Mapping[str, Any]],
        theirs: Sequence[Mapping[str, Any]],
        than: str,
        *,
        among: int = 1,
    ) -> str:
        """How much better or worse one case, the best of `among`, is than another, in words."""
        mean, half = difference_of_seeds(self.of(ours), self.of(theirs), among=among)
        return compared(mean, half, than, self.unit, self.words, among=among)


PICTURES = Side("points", 100.0, 1, ("better", "worse"), "pictures")
TEXT = Side("bits a byte", 1.0, -1, ("worse", "better"), "text")


def _begun(name: str) -> str:
    """A remedy at the beginning of a sentence; one that begins with + has careful weights too."""
    whole = name.replace("+ ", "careful first weights and ", 1) if name[0] == "+" else name
    return whole[0].upper() + whole[1:]


def _norm_words(norm: float) -> str:
    """A norm of a gradient in a sentence."""
    return "the norm " + (f"{norm:.2g}" if np.isfinite(norm) else "infinity or NaN")


def depths(found: Found, side: Side) -> tuple[list[Any], list[Any], list[str]]:
    """Rows by depth and remedy, gradients by layer of the deepest, and what they say."""
    names = list(dict.fromkeys(key[1] for key in found if key[0] == "depth"))
    columns = list(dict.fromkeys(key[2] for key in found if key[0] == "depth"))[::-1]
    rows, gradients, said = [], [], []
    for name in names:
        of_depth = {one: found["depth", name, one] for one in columns}
        rows.append({"remedy": name} | {one: side.cell(runs) for one, runs in of_depth.items()})
        norms = of_depth[columns[-1]][0]["norms"] or [np.nan]  # of none, it diverged at once
        gradients.append((name, norms))
        ends = of_depth[columns[-1]], of_depth[columns[0]]
        change = side.against(*ends, f"with {columns[0]}")
        said.append(
            f"{_begun(name)}: with {columns[-1]} {change}. At the first step the gradient of the "
            f"first layer has {_norm_words(norms[0])}, that of the last {_norm_words(norms[-1])}."
        )
    deepest = {one: found["depth", one, columns[-1]] for one in names}
    best = max(names, key=lambda one: side.better * np.mean(side.of(deepest[one])))
    both = deepest[best], deepest[names[0]]
    gain = side.against(*both, f"{names[0]!r}", among=len(names) - 1)
    said.append(f"With {columns[-1]} the best is {best!r}: {gain}.")
    return rows, gradients, said


def clipping(found: Found, side: Side) -> tuple[list[Any], list[str]]:
    """Rows with and without clipping, and what they say."""
    runs = {key[1]: runs for key, runs in found.items() if key[0] == "clipping"}
    held = f"held out, {side.unit}"
    rows = [{"gradients": name, held: side.cell(of)} for name, of in runs.items()]
    (plain, without), (clipped, with_limit) = runs.items()
    return rows, [f"Gradients {clipped}: {side.against(with_limit, without, plain)}."]


def overfitting(found: Found, side: Side) -> tuple[list[Any], dict[str, Any], list[str]]:
    """Rows on both sides by remedy, with little data; the curves; and what they say."""
    runs = {key[1]: runs for key, runs in found.items() if key[0] == "overfitting"}
    nothing = runs["nothing"]
    rows, said = [], []
    for name, of_one in runs.items():
        train, _ = mean_of_seeds(side.of(of_one, "train"))
        held, half = mean_of_seeds(side.of(of_one))
        rows.append({"remedy": name, "learned from": train, "held out": held,
                     "±": None if np.isnan(half) else half,
                     "gap": side.better * (train - held)})  # fmt: skip
        if name != "nothing":
            change = side.against(of_one, nothing, f"nothing on held-out {side.data}")
            said.append(f"{_begun(name)}: {change}.")
    gaps = {row["remedy"]: row["gap"] for row in rows}
    least = min(gaps, key=lambda one: gaps[one])
    said.append(
        f"Between both sides lie {gaps['nothing']:.3g} {side.unit} with nothing, and least "
        f"({gaps[least]:.3g}) with {least}."
    )
    return rows, {name: of_one[0]["curve"] for name, of_one in runs.items()}, said


def draw_gradients(gradients: list[Any], path: Path, begins: str) -> None:
    """The norm of the first gradient in each layer, from what a network `begins` with on."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4))
    for name, norms in gradients:
        axes.semilogy(range(1, len(norms) + 1), np.maximum(norms, NO_GRADIENT), label=name)
    axes.set_xlabel(f"layer, from {begins} on")
    axes.set_ylabel("norm of its gradient at the first step")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def draw_curves(curves: dict[str, Any], path: Path, side: Side, what: str) -> None:
    """What is measured on both sides over steps."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for name, curve in curves.items():
        steps, *sides = zip(*curve, strict=True)
        train, held = ([side.scale * value for value in one] for one in sides)
        (line,) = axes.plot(steps, held, label=name)
        axes.plot(steps, train, ":", color=line.get_color(), linewidth=1)
    axes.set_xlabel("gradient steps")
    axes.set_ylabel(f"{what}: held out (line), learned from (dots)")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def add_pictures(page: Page, folder: Path, found: Found, name: str, over: str) -> dict[str, Any]:
    """Tables, pictures and findings of stacks of convolutions; the tables' rows."""
    page.text(
        "Where residual connections are, normalisation and ReLU come before each convolution, so "
        "that what is added may have either sign, and first weights are smaller by the root of the "
        f"number of layers. In the row {stacks.BEHIND!r} they come behind it: what is added is "
        "never below zero, and the sum grows with every layer."
    )
    rows, gradients, said = depths(found, PICTURES)
    draw_gradients(gradients, folder / "gradients.png", "the picture")
    page.table(rows, f"per cent right on held-out {name}, by depth; {over}")
    page.findings(said)
    page.picture("gradients.png", f"The gradient in each layer of the deepest stack{NAUGHT}")
    clipped, said = clipping(found, PICTURES)
    page.table(clipped, f"first weights twice too large, gradient descent with momentum; {over}")
    page.findings(said)
    few, curves, said = overfitting(found, PICTURES)
    draw_curves(curves, folder / "overfitting.png", PICTURES, "per cent right")
    page.table(few, f"a tenth of the labels: per cent right where it learned, and held out; {over}")
    page.findings([*said, CHOSEN])
    page.picture("overfitting.png", "The gap between dots and line was learned by heart.")
    return {"depth": rows, "clipping": clipped, "overfitting": few}


def add_text(page: Page, folder: Path, found: Found, over: str) -> dict[str, Any]:
    """The same of Transformers."""
    page.text(
        "The same of a small Transformer on text. What is measured are bits a byte of held-out "
        "text: less is better. It learns by Adam, which divides each weight's gradient by its "
        "usual size. The norm after the last block always stays; augmentation is not looked at, "
        "for text has none here. A run that diverges counts with the last number that it had."
    )
    rows, gradients, said = depths(found, TEXT)
    draw_gradients(gradients, folder / "text_gradients.png", "the embeddings")
    page.table(rows, f"bits a byte of held-out text, by depth; {over}")
    page.findings(said)
    words = f"The gradient in each block of the deepest Transformer{NAUGHT}"
    page.picture("text_gradients.png", words)
    clipped, said = clipping(found, TEXT)
    page.table(
        clipped, f"first weights twice too large, a high learning rate without warm-up; {over}"
    )
    page.findings(said)
    few, curves, said = overfitting(found, TEXT)
    draw_curves(curves, folder / "text_overfitting.png", TEXT, "bits a byte")
    page.table(few, f"little text: bits a byte where it learned, and held out; {over}")
    page.findings([*said, CHOSEN])
    page.picture("text_overfitting.png", "Where the line rises, text is learned by heart.")
    return {"text depth": rows, "text clipping": clipped, "text overfitting": few}


def main(quick: bool = False, seeds: tuple[int, ...] = (), folder: Path | None = None) -> int:
    """Runs the study and writes its page."""
    import matplotlib

    matplotlib.use("Agg")
    seeds = seeds or ((0, 1, 2) if quick else (0, 1, 2, 3, 4))
    folder = folder or Path("runs") / ("ablations-quick" if quick else "ablations")
    folder.mkdir(parents=True, exist_ok=True)
    name = stacks.pictures_of(quick).train.name  # read once, for all processes, as the text is
    transformers.text_of(quick)
    plans: list[Mapping[Any, Case]] = [stacks.all_cases(quick), transformers.all_cases(quick)]
    cases = [
        (quick, ", ".join(key), one, seed)
        for plan in plans
        for key, one in plan.items()
        for seed in seeds
    ]
    results = iter(side_by_side(case, cases, kept=folder / "cases.jsonl"))
    pictures, text = ({key: [next(results) for _ in seeds] for key in plan} for plan in plans)
    page = Page(
        "What makes training work",
        "Deep stacks learn or do not, small data is learned by heart or not: which remedy does "
        "what, with several seeds and their 95 % intervals?",
        quick=quick,
    )
    over = f"95 % intervals over {len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    found = add_pictures(page, folder, pictures, name, over) | add_text(page, folder, text, over)
    print(f"wrote {page.write(folder)}")
    if not quick:
        print(f"wrote {page.publish(folder, 'ablations', found, seeds=list(seeds))}")
    return 0


if __name__ == "__main__":
    parser = study_parser(__doc__)
    given = parser.parse_args()
    raise SystemExit(main(given.quick, tuple(given.seeds), given.folder))
