"""One trunk taught by every paradigm: what do labels, pictures alone, or reward teach it?

Pictures (Fashion-MNIST where it is installed, else digits) and positions of Connect Four with exact
outcomes as hidden labels. Each objective has the same number of gradient steps; features are read
by the same probes. On the board, self-play's own trunk stands beside them, and each trunk then
begins self-play: how good is the policy after a few updates? Parts run side by side, one a core.

    playout bench paradigms --quick
    python -m playout.benchmarks.studies.paradigms --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import playout
from playout.agents.pretraining.clusters import draw_maps, maps
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import Split, labelled_rows
from playout.agents.pretraining.data.pictures import Pictures
from playout.agents.pretraining.data.sources import FASHION_FOLDER, load
from playout.agents.pretraining.probes import features, probe, raw
from playout.agents.pretraining.probes import linear_accuracy as read
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import Trunk, begin_from, new_trunk
from playout.agents.rating.positions import load_choosing_positions, value_preserving_share
from playout.agents.runs.metrics.log import read_rows
from playout.benchmarks.studies.cases import kept_run, side_by_side
from playout.benchmarks.studies.page import Page
from playout.benchmarks.tools.measuring import write_result
from playout.mcts.exact.positions import Positions, random_positions

PICTURES = ("supervised", "autoencoder", "vae", "masked", "rotation", "patches", "contrastive")
BOARDS = ("supervised", "autoencoder", "masked", "contrastive", "next")
STARTS = ("none", "supervised", "masked", "contrastive")
SHARES = (0.01, 1.0)
MAPPED = ("pixels", "none", "supervised", "contrastive")


@dataclass(frozen=True, slots=True)
class Form:
    """The sizes of a form of the study."""

    game: str
    count: int  # of positions
    size: str  # of the board's network
    network: str  # of pictures
    steps: int
    batch: int
    play: dict[str, Any]  # settings of self-play whose trunk is probed
    updates: int  # of self-play that begins with a trunk
    update: dict[str, Any]  # settings of these
    mapped: int  # held-out pictures on a map


FULL = Form(
    "connect_four", 40_000, "base", "impala-2x", 2000, 256, {"minutes": 20.0}, 60, {}, 1000
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
# The small board: the solver labels it in a second, the large one in many minutes.
QUICK = Form(
    "connect_four(width=5,height=4)", 4000, "tiny", "grid", 60, 96, {"updates": 30, **_SMALL}, 6,
    _SMALL, 300,
)  # fmt: skip


def taught(data: Split, objective: str, form: Form, seed: int) -> tuple[Trunk, float]:
    """A trunk after the form's steps of an objective, and the minutes that they took."""
    trunk = fresh_trunk(data, form, seed)
    config = PretrainConfig(objective=objective, batch=form.batch)
    begun = time.monotonic()
    trainer = PretrainTrainer(trunk, data, config, steps=form.steps, seed=seed)
    try:
        while not trainer.finished:
            trainer.update()
    finally:
        trainer.close()
    return trunk, (time.monotonic() - begun) / 60


def fresh_trunk(data: Split, form: Form, seed: int) -> Trunk:
    """One that has learned nothing."""
    network = form.network if isinstance(data.train, Pictures) else "auto"
    return new_trunk(data.train, network=network, size=form.size, seed=seed)


def row_of(name: str, trunk: Trunk, data: Split, minutes: float, labels: int) -> dict[str, Any]:
    """What the probes make of a trunk."""
    linear = probe(trunk, data, "linear", shares=SHARES)["rows"]
    nearest = probe(trunk, data, "neighbours", shares=SHARES[1:])["rows"][0]
    found = {
        "paradigm": name,
        "labels used": labels,
        "minutes": minutes,
        "linear, 1 % of labels": linear[0]["accuracy"],
        "linear, all labels": linear[1]["accuracy"],
        "5 neighbours": nearest["accuracy"],
    }
    try:
        found["ARI of k-means"] = probe(trunk, data, "clusters")["trunk"]["ari"]
    except playout.errors.ConfigError:  # scikit-learn is not there
        found["ARI of k-means"] = None
    return found


def pixels(data: Split) -> dict[str, Any]:
    """The same readers on the pictures themselves."""
    train, test = data.train, data.test
    wanted = raw(test, np.arange(len(test)))
    shares = []
    for share in SHARES:
        rows = np.random.default_rng(0).permutation(labelled_rows(train, share, seed=0))[:5000]
        own, labels = raw(train, rows), train.labels[rows]
        shares.append(read(own, labels, wanted, test.labels, len(train.classes), seed=0))
    return {
        "paradigm": "the pictures themselves",
        "linear, 1 % of labels": shares[0],
        "linear, all labels": shares[1],
    }


@lru_cache(maxsize=2)
def _pictures(quick: bool) -> Split:
    data = load("fashion-mnist" if FASHION_FOLDER.is_dir() else "digits")
    return data.some(3000, 1000) if quick else data


def data_of(what: str, form: Form, seed: int = 0) -> Split:
    """The "pictures" that this machine has, some of them in the quick form; or "positions"."""
    if what == "positions":
        return load(form.game, count=form.count, seed=seed)
    return _pictures(form == QUICK)


def told(what: str, objective: str, form: Form, seed: int) -> tuple[dict[str, Any], Any]:
    """The row of an objective, and features of the held-out pictures that maps show, or None.

    Args:
        what: "pictures" or "positions".
        objective: what teaches the trunk; "none" for fresh weights, "pixels" for no trunk.
        form: see Form.
        seed: of all that is random.
    """
    data = data_of(what, form)
    held = np.arange(min(form.mapped, len(data.test)))
    if objective == "pixels":
        return pixels(data), raw(data.test, held)
    if objective == "none":
        trunk, minutes, name = fresh_trunk(data, form, seed), 0.0, "none (fresh weights)"
    else:
        (trunk, minutes), name = taught(data, objective, form, seed), objective
    labels = len(data.train) if objective == "supervised" else 0
    row = row_of(name, trunk, data, minutes, labels)
    print(f"{data.train.name}, {name}, seed {seed}: {row['linear, 1 % of labels']:.3f}", flush=True)
    shown = what == "pictures" and objective in MAPPED
    return row, features(trunk, data.test, held) if shown else None


def learned_by_play(folder: Path, form: Form, seed: int) -> dict[str, Any]:
    """The trunk of a run of self-play, by the same probes."""
    data = data_of("positions", form)
    settings = {"size": form.size, "seed": seed, "rating": False, "threads": 1, **form.play}
    run = kept_run(folder / f"selfplay-{seed}", playout.alphazero, form.game, settings)
    trunk = fresh_trunk(data, form, 0)
    begin_from(trunk, run)
    minutes = [*read_rows(run.path)][-1]["time/elapsed"] / 60
    return row_of("self-play (AlphaZero)", trunk, data, minutes, 0)


def deciding_positions(form: Form) -> Positions:
    """Positions in which the move matters; of the small board they are solved now."""
    if form.game == FULL.game and (found := load_choosing_positions(form.game)) is not None:
        return found
    return random_positions(form.game, 300, plies=(4, 14), seed=2, exact=False)


def started(folder: Path, objective: str, form: Form, seed: int) -> float:
    """Share of moves that keep the outcome after self-play that begins with a trunk."""
    begun = {"size": form.size, "seed": seed, "threads": 1}
    settings: dict[str, Any] = {**begun, "rating": False, "updates": form.updates, **form.update}
    if objective != "none":
        taught = {**begun, "objective": objective, "count": form.count, "epochs": 4.0}
        path = folder / f"trunk-{objective}-{seed}"
        settings["init"] = kept_run(path, playout.pretrain_trunk, form.game, taught)
    path = folder / f"from-{objective}-{seed}"
    run = kept_run(path, playout.alphazero, form.game, settings)
    positions = deciding_positions(form)
    player = playout.load(run.path, "latest").with_simulations(0)
    share = value_preserving_share(player.act(positions.states), positions.outcomes)
    print(f"self-play from {objective}, seed {seed}: {share:.3f}", flush=True)
    return share


def part(what: str, objective: str, form: Form, seed: int, folder: Path) -> Any:
    """One part of the study, wherever this process is: see `told`; of "starts", see `started`."""
    if what == "starts":
        return started(folder, objective, form, seed)
    if objective == "play":
        return learned_by_play(folder, form, seed), None
    return told(what, objective, form, seed)


def draw_features(found: dict[str, Any], data: Split, path: Path) -> bool:
    """Maps of held-out pictures and of what trunks make of them; False without scikit-learn."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        return False
    labels = data.test.labels[: len(found["pixels"])]
    drawn = {name: maps(x, labels, seed=0) for name, x in found.items()}
    draw_maps(drawn, labels, data.train.classes, path)
    return True


def draw(rows: list[dict[str, Any]], path: Path, title: str) -> None:
    """Bars of both probes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [row["paradigm"] for row in rows]
    places = np.arange(len(rows))
    figure, axes = pyplot.subplots(figsize=(8, 0.45 * len(rows) + 1.2))
    for shift, key in ((0.2, "linear, 1 % of labels"), (-0.2, "linear, all labels")):
        axes.barh(places + shift, [row.get(key) or 0 for row in rows], 0.38, label=key)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlabel("share of held-out pictures whose class a linear probe tells")
    axes.set_title(title)
    axes.legend(loc="lower left", bbox_to_anchor=(1.01, 0))
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def main(quick: bool = False, seeds: tuple[int, ...] = (0,), folder: Path | None = None) -> int:
    """Runs the study and writes its page."""
    form = QUICK if quick else FULL
    folder = folder or Path("runs") / ("paradigms-quick" if quick else "paradigms")
    folder.mkdir(parents=True, exist_ok=True)
    for seed in sorted({0, *seeds}):
        data_of("positions", form, seed)  # solved once, for all processes
    pictures = data_of("pictures", form)
    parts = [("positions", "play"), *(("starts", start) for start in STARTS)]
    parts += [("pictures", one) for one in ("none", *PICTURES, "pixels")]
    parts += [("positions", one) for one in ("none", *BOARDS)]
    cases = [(*one, form, seed, folder) for one in parts for seed in seeds]
    results = iter(side_by_side(part, cases))
    by_part = {one: [next(results) for _ in seeds] for one in parts}
    page = Page(
        "Four ways to teach one network",
        "The same trunk, taught by labels, by its own input, by tasks made of it, and by reward: "
        "what do its features know, and is it a better beginning for self-play?",
        quick=quick,
    )
    words = {
        "pictures": "Classes told from frozen features, by the share of labels seen.",
        "positions": "Win, draw or loss told from frozen features.",
    }
    columns = {"pictures": ("none", *PICTURES, "pixels"), "positions": ("none", *BOARDS, "play")}
    found: dict[str, Any] = {}
    for what, name in (
        ("pictures", pictures.train.name),
        ("positions", f"outcomes of {form.game}"),
    ):
        of_seed = range(len(seeds))
        found[what] = [by_part[what, one][seed][0] for seed in of_seed for one in columns[what]]
        draw(found[what], folder / f"{what}.png", name)
        page.table(found[what], f"{name}, {form.steps} steps of {form.batch} each")
        page.picture(f"{what}.png", words[what])
        if what == "pictures":
            mapped = {one: by_part["pictures", one][0][1] for one in MAPPED}
            if draw_features(mapped, pictures, folder / "maps.png"):
                page.picture("maps.png", "Held-out pictures and their features, by class.")
    found["starts"] = [
        {
            "begun from": start,
            "seeds": len(seeds),
            "moves that keep the outcome": float(np.mean(by_part["starts", start])),
            "range": (min(by_part["starts", start]), max(by_part["starts", start])),
        }
        for start in STARTS
    ]
    page.table(found["starts"], f"the bare policy after {form.updates} updates of self-play")
    page.text(
        "Probes are logistic regression on frozen, standardised features; the board's labels are "
        "exact outcomes by the solver, which no objective but supervised has seen. With 5 "
        "neighbours, the nearest features vote. ARI compares the clusters of k-means with the "
        "classes: 0 is chance, 1 the same groups. Steps are as many for all, so minutes differ."
    )
    print(f"wrote {page.write(folder)}")
    if not quick:
        write_result("paradigms", found, settings={"seeds": list(seeds)})
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    raise SystemExit(main(given.quick, tuple(given.seeds), given.folder))
