"""One network taught by every paradigm: what do labels, its input alone, or reward teach it?

Pictures (Fashion-MNIST where it is installed, else digits, or a folder) and positions of Connect
Four with exact outcomes as hidden labels. Each objective that suits the data has the same number of
gradient steps; features are read by the same probes. A Transformer that tells spam and reviews is
taught likewise (training/texts.py). On the board the trunks of AlphaZero and PPO stand beside them,
and both learners then begin with trunks (games/starts.py): are they strong sooner? Parts run side
by side, one a core.

    playout bench paradigms --quick
    python -m playout.benchmarks.studies.paradigms --seeds 0 1 2
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from playout.agents.pretraining.clusters import draw_maps, maps
from playout.agents.pretraining.config import OBJECTIVES
from playout.agents.pretraining.data.dataset import Split
from playout.benchmarks.studies.cases import (
    difference_of_seeds,
    mean_of_seeds,
    side_by_side,
    study_parser,
)
from playout.benchmarks.studies.games import starts
from playout.benchmarks.studies.games.starts import ALPHAZERO, LEARNERS, NOTHING, PPO, Board
from playout.benchmarks.studies.page import Page, compared
from playout.benchmarks.studies.training import texts
from playout.benchmarks.studies.training.trunks import (
    ALL,
    ARI,
    FEW,
    KEPT,
    MAPPED,
    PIXELS,
    Form,
    data_of,
    part,
    suiting,
)

# Evaluations by matches are left out: strength is measured on snapshots.
_UNRATED = {"eval_every": 1_000_000, "eval_episodes": 2}
_PPO = {
    "num_envs": 128, "num_steps": 32, "minibatch_size": 512, "num_epochs": 3, "gamma": 1.0,
    "learning_rate": 1e-3, "ent_coef": 0.01, **_UNRATED,
}  # fmt: skip
FULL = Form(
    Board(
        "connect_four", 40_000, "small", None, 2.0,
        tuple(one for one in OBJECTIVES if one != "colour"),
        settings={ALPHAZERO: {"updates": 12}, PPO: {**_PPO, "total_timesteps": 200_000}},
        alone={ALPHAZERO: {"minutes": 10.0}, PPO: {**_PPO, "total_timesteps": 600_000}},
        snapshots=12,
    ),
    "impala", 500, 256, 1000, texts="auto", width=128,
)  # fmt: skip
# Proofs would answer nearly all that is asked on so small a board, and games without end be played.
_SMALL = {
    "proofs": False,
    "evaluations": 8192,
    "num_trees": 32,
    "steps": 24,
    "batch_size": 128,
    "warmup_positions": 256,
}
_SMALL_PPO = {**_PPO, "learning_rate": 5e-4, "ent_coef": 0.02}
# The small board: the solver labels it in a second, the large one in minutes.
QUICK = Form(
    Board(
        "connect_four(width=5,height=4)", 4000, "tiny", (4, 14), 4.0,
        ("supervised", "masked", "contrastive"),
        settings={
            ALPHAZERO: {"updates": 6, **_SMALL}, PPO: {**_SMALL_PPO, "total_timesteps": 32_768}
        },
        alone={
            ALPHAZERO: {"updates": 30, **_SMALL}, PPO: {**_SMALL_PPO, "total_timesteps": 65_536}
        },
        snapshots=6,
    ),
    "grid", 60, 96, 300, some=(3000, 1000),
)  # fmt: skip

PROBED = {
    "pictures": "Classes told from frozen features, by the share of labels seen.",
    "positions": "Win, draw or loss told from frozen features.",
    "spam": "Spam told from the features of a Transformer.",
    "reviews": "Reviews above the median told from the features of a Transformer.",
}
TOLD = {"pictures": "pictures' classes", "positions": "positions' outcomes", **texts.TASKS}
EXPLAINED = (
    "Probes are logistic regression on frozen, standardised features; the board's labels are exact "
    "outcomes by the solver, which no objective but supervised has seen. With 5 neighbours, the "
    "nearest features vote. ARI compares the clusters of k-means with the classes: 0 is chance, 1 "
    "the same groups. Classes right are those that a network's own head tells, of supervised and "
    "of networks that play. Objectives have as many steps, so minutes differ; the processor's are "
    "meant."
)
STARTED = (
    "AlphaZero and PPO learn the game by playing with themselves, from fresh weights (nothing) and "
    "from trunks that an objective has taught on random positions. Strength is the share of moves "
    "that keep the outcome, by the bare policy without search, in positions in which the move "
    "matters. The strength to reach is nine tenths of the way from random legal moves to where the "
    "weakest seed from nothing ends; times sooner compares the minutes to it, of play alone and "
    "with the minutes of pretraining, seed by seed."
)


def draw_features(found: dict[str, Any], data: Split, path: Path) -> bool:
    """Maps of held-out pictures and of what trunks make of them; False without scikit-learn."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        return False
    labels = data.test.labels[: len(found[PIXELS])]
    drawn = {name: maps(np.asarray(x), labels, seed=0) for name, x in found.items()}
    draw_maps(drawn, labels, data.train.classes, path)
    return True


def draw(rows: Sequence[Mapping[str, Any]], path: Path, title: str, told_of: str) -> None:
    """Bars of both probes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [row["paradigm"] for row in rows]
    places = np.arange(len(rows))
    figure, axes = pyplot.subplots(figsize=(8, 0.45 * len(rows) + 1.2))
    for shift, key in ((0.2, FEW), (-0.2, ALL)):
        axes.barh(places + shift, [100 * (row.get(key) or 0) for row in rows], 0.38, label=key)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlabel(f"held-out {told_of} that a linear probe tells, in %")
    axes.set_title(title)
    axes.legend(loc="lower left", bbox_to_anchor=(1.01, 0))
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""A row a seed, by paradigm."""

Curves = Mapping[tuple[str, str], Sequence[starts.Curve]]
"""A curve a seed, by learner and start."""

Minutes = Mapping[str, Sequence[float]]
"""A number a seed, by objective."""


def over_seeds(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the seeds of a paradigm, with half of an interval beside the first probe's."""
    found: dict[str, Any] = {}
    for key, value in rows[0].items():
        found[key] = value
        if isinstance(value, float):
            found[key], half = mean_of_seeds([row[key] for row in rows])
            if key == FEW and len(rows) > 1:
                found["±"] = half
    return found


def in_percent(rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    """A column, a number a seed."""
    return [100 * row[key] for row in rows]


def findings(found: Rows, told_of: str, chance: float | None = None) -> list[str]:
    """What a table of probes says: the best objective without labels, and what plays.

    Args:
        found: The table's rows; NOTHING is among them.
        told_of: What a probe tells.
        chance: Share of random moves that keep the outcome, of positions.
    """
    said = []
    others = (NOTHING, PIXELS, "supervised", texts.BOTH, *LEARNERS)
    plain = found[PIXELS][0]["paradigm"] if PIXELS in found else ""
    unlabelled = [one for one in found if one not in others]
    among = len(unlabelled)
    for key, words in ((FEW, "1 % of the labels"), (ALL, "all labels")):
        best = max(unlabelled, key=lambda one: float(np.mean(in_percent(found[one], key))))
        ours, fresh = in_percent(found[best], key), in_percent(found[NOTHING], key)
        change = difference_of_seeds(ours, fresh, among=among)
        more = compared(*change, "from fresh weights", "points", among=among)
        sentence = (
            f"With {words} a probe tells {np.mean(ours):.1f} % of held-out {told_of} from the "
            f"features of {best}, the best of the objectives without labels: {more}"
        )
        sentence += "".join(
            f"; {name} {np.mean(in_percent(found[one], key)):.1f} %"
            for one, name in (("supervised", "supervised"), (PIXELS, plain))
            if one in found
        )
        said.append(sentence + ".")
    yardstick = PIXELS if PIXELS in found and found[PIXELS][0].get(ARI) is not None else NOTHING
    if found[yardstick][0].get(ARI) is None:
        said.append("Clusters were not looked for: scikit-learn is not installed.")
    else:
        name = plain if yardstick == PIXELS else "fresh weights"
        ari = {one: [row[ARI] for row in rows] for one, rows in found.items()}
        best = max(unlabelled, key=lambda one: float(np.mean(ari[one])))
        change = difference_of_seeds(ari[best], ari[yardstick], among=among)
        more = compared(*change, f"on {name}", among=among)
        said.append(
            f"Clusters of k-means agree with the classes best on the features of {best}, of those "
            f"without labels: ARI {np.mean(ari[best]):.3f}, {more}."
        )
    players = [one for one, rows in found.items() if rows[0].get(KEPT) is not None]
    if chance is not None and players:
        shares = (f"{one} {np.mean(in_percent(found[one], KEPT)):.1f} %" for one in players)
        said.append(
            f"Where the move matters, the bare policies keep the outcome with so many of their "
            f"moves: {', '.join(shares)}; random legal moves {100 * chance:.1f} %."
        )
    return said


def add_probes(page: Page, folder: Path, form: Form, what: str, found: Rows) -> None:
    """Table, findings and picture of "pictures", "positions" or texts."""
    board, seeds = what == "positions", len(found[NOTHING])
    name, told_of = f"outcomes of {form.board.game}" if board else what, TOLD[what]
    if what == "pictures":
        name = data_of(what, form).train.name
    rows = [over_seeds(of_one) for of_one in found.values()]
    many = f"means of {seeds} seeds" if seeds > 1 else "one seed"
    page.table(rows, f"{name}: {form.steps} steps of {form.batch} each; {many}")
    chance = starts.kept_by_chance(form.board.deciding()) if board else None
    page.findings(findings(found, told_of, chance))
    draw(rows, folder / f"{what}.png", name, told_of)
    page.picture(f"{what}.png", PROBED[what])


def add_starts(page: Page, folder: Path, board: Board, curves: Curves, before: Minutes) -> Any:
    """Picture, table and findings of self-play that begins with trunks; the table's rows."""
    chance = starts.kept_by_chance(board.deciding())
    worth = starts.worth(curves, before, chance)
    starts.draw(curves, chance, folder / "starts.png")
    page.text(STARTED)
    page.picture(
        "starts.png",
        "Strength over minutes, the mean of the seeds (thin lines: each of them). Dashed: the "
        "strength to reach; dotted: random legal moves.",
    )
    rows = [one.row() for one in worth]
    page.table(rows, f"{board.game}: self-play that begins with a trunk")
    page.findings([one.sentence() for one in worth if one.start != NOTHING])
    return rows


def any_part(what: str, way: str, form: Form, seed: int, folder: Path) -> Any:
    """One part of the study, of trunks or of texts, wherever this process is."""
    if what in texts.TASKS:
        return texts.told(what, way, form, seed)
    return part(what, way, form, seed, folder)


def main(
    quick: bool = False,
    seeds: tuple[int, ...] = (),
    folder: Path | None = None,
    form: Form | None = None,
) -> int:
    """Runs the study and writes its page."""
    form = form or (QUICK if quick else FULL)
    board, seeds = form.board, seeds or ((0,) if quick else (0, 1, 2))
    folder = folder or Path("runs") / ("paradigms-quick" if quick else "paradigms")
    folder.mkdir(parents=True, exist_ok=True)
    for seed in sorted({0, *seeds}):
        board.data(seed)  # solved once, for all processes
    data_of("pictures", form)
    for what in texts.TASKS:
        texts.task_of(what, form.texts)
    asked = ("pictures", "positions")
    told = dict(zip(asked, side_by_side(suiting, [(one, form) for one in asked]), strict=True))
    columns = {
        "pictures": (NOTHING, *told["pictures"][0], PIXELS),
        "positions": (NOTHING, *told["positions"][0], *LEARNERS),
        **dict.fromkeys(texts.TASKS, texts.WAYS),
    }
    trunks = [one for one in board.starts if one in columns["positions"]]
    parts = [("positions", one) for one in columns["positions"][::-1]]  # dear ones first
    parts += [("trunks", one) for one in trunks]
    parts += [(what, one) for what in ("pictures", *texts.TASKS) for one in columns[what]]
    cases = [(*one, form, seed, folder) for one in parts for seed in seeds]
    kept = folder / "cases.jsonl"
    results = iter(side_by_side(any_part, cases, kept=kept))
    by_part = {one: [next(results) for _ in seeds] for one in parts}
    begun = [(learner, one) for learner in LEARNERS for one in (NOTHING, *trunks)]
    played = [(folder, board, *one, seed) for one in begun for seed in seeds]
    results = iter(side_by_side(starts.curve_of, played, kept=kept))
    curves = {one: [next(results) for _ in seeds] for one in begun}

    page = Page(
        "Four ways to teach one network",
        "The same trunk, taught by labels, by its own input, by tasks made of it, and by reward: "
        "what do its features know, and is it a better beginning for self-play?",
        quick=quick,
    )
    found: dict[str, Any] = {}
    for what, names in columns.items():
        rows = {one: [row for row, _ in by_part[what, one]] for one in names}
        found[what] = [row for of_one in rows.values() for row in of_one]
        add_probes(page, folder, form, what, rows)
        if refused := told[what][1] if what in told else {}:
            reasons = "; ".join(f"{one} ({why})" for one, why in refused.items())
            page.text(f"Objectives that do not suit {what}: {reasons}.")
        if what == "pictures":
            mapped = {one: by_part[what, one][0][1] for one in MAPPED}
            if draw_features(mapped, data_of(what, form), folder / "maps.png"):
                page.picture("maps.png", "Held-out pictures and their features, by class.")
    page.text(EXPLAINED)
    before = {one: by_part["trunks", one] for one in trunks}
    found["starts"] = add_starts(page, folder, board, curves, before)
    found["curves"] = [
        {"learner": learner, "begun from": start, "minutes and strength": many}
        for (learner, start), many in curves.items()
    ]
    print(f"wrote {page.write(folder)}")
    if not quick:
        print(f"wrote {page.publish(folder, 'paradigms', found, seeds=list(seeds))}")
    return 0


if __name__ == "__main__":
    parser = study_parser(__doc__)
    parser.add_argument(
        "--pictures", default="", help="a folder or a name, as pretrain-trunk takes them"
    )
    given = parser.parse_args()
    raise SystemExit(
        main(
            given.quick,
            tuple(given.seeds),
            given.folder,
            replace(QUICK if given.quick else FULL, pictures=given.pictures),
        )
    )
