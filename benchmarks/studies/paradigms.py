"""One trunk taught by every paradigm: what do labels, pictures alone, or reward teach it?

Pictures (Fashion-MNIST where it is installed, else digits) and positions of Connect Four with exact
outcomes as hidden labels. Each objective has the same number of gradient steps; features are read
by the same probes. On the board, self-play's own trunk stands beside them, and each trunk then
begins self-play: how good is the policy after a few updates?

    playout bench paradigms --quick
    python -m playout.benchmarks.studies.paradigms --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import playout
import torch
from playout.agents.pretraining.clusters import draw_maps, maps
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import Split, labelled_rows
from playout.agents.pretraining.data.sources import FASHION_FOLDER, load
from playout.agents.pretraining.probes import features, probe, raw
from playout.agents.pretraining.probes import linear_accuracy as read
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import Trunk, begin_from, new_trunk
from playout.agents.runs.directory import RunDir
from playout.benchmarks.studies.page import Page
from playout.benchmarks.tools.measuring import write_result

PICTURES = ("supervised", "autoencoder", "vae", "masked", "rotation", "patches", "contrastive")
BOARDS = ("supervised", "autoencoder", "masked", "contrastive", "next")
GAME = "connect_four"
SHARES = (0.01, 1.0)


def taught(
    data: Split, objective: str, *, steps: int, seed: int, network: str, size: str, batch: int = 256
) -> tuple[Trunk, float]:
    """A trunk after so many steps of an objective, and the minutes that they took."""
    trunk = new_trunk(data.train, network=network, size=size, seed=seed)
    config = PretrainConfig(objective=objective, batch=batch)
    begun = time.monotonic()
    trainer = PretrainTrainer(trunk, data, config, steps=steps, seed=seed)
    try:
        while not trainer.finished:
            trainer.update()
    finally:
        trainer.close()
    return trunk, (time.monotonic() - begun) / 60


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


def compare(
    data: Split, objectives: tuple[str, ...], *, seed: int, size: str, **settings: Any
) -> tuple[list[dict[str, Any]], dict[str, Trunk]]:
    """A row an objective, and the trunks."""
    fresh = new_trunk(data.train, network=settings["network"], size=size, seed=seed)
    rows, trunks = [row_of("none (fresh weights)", fresh, data, 0.0, 0)], {"none": fresh}
    for objective in objectives:
        trunk, minutes = taught(data, objective, seed=seed, size=size, **settings)
        labels = len(data.train) if objective == "supervised" else 0
        rows.append(row_of(objective, trunk, data, minutes, labels))
        trunks[objective] = trunk
        print(f"{objective}: {rows[-1]['linear, 1 % of labels']:.3f}", flush=True)
    return rows, trunks


def learned_by_play(
    folder: Path, data: Split, *, minutes: float, seed: int, size: str
) -> dict[str, Any]:
    """The trunk of a run of self-play, by the same probes."""
    path = folder / f"selfplay-{seed}"
    if not RunDir.is_run(path):
        playout.alphazero(
            GAME, minutes=minutes, size=size, seed=seed, rating=False, quiet=True, run=path
        )
    trunk = new_trunk(data.train, size=size)
    begin_from(trunk, RunDir.open(path))
    return row_of("self-play (AlphaZero)", trunk, data, minutes, 0)


def started(
    folder: Path, objective: str, *, updates: int, seed: int, size: str, count: int
) -> float:
    """Share of moves that keep the outcome after self-play that begins with a trunk."""
    from playout.agents.rating.positions import load_choosing_positions, value_preserving_share

    init = folder / f"trunk-{objective}-{seed}"
    if objective != "none" and not RunDir.is_run(init):
        playout.pretrain_trunk(
            GAME, objective=objective, size=size, seed=seed, count=count, epochs=4, quiet=True,
            run=init,
        )  # fmt: skip
    path = folder / f"from-{objective}-{seed}"
    if not RunDir.is_run(path):
        playout.alphazero(
            GAME, updates=updates, size=size, seed=seed, rating=False, quiet=True, run=path,
            **({} if objective == "none" else {"init": init}),
        )  # fmt: skip
    positions = load_choosing_positions(GAME)
    assert positions is not None
    states = positions.states
    player = playout.load(path, "latest").with_simulations(0)
    return value_preserving_share(player.act(states), positions.outcomes)


def draw_features(trunks: dict[str, Trunk], data: Split, path: Path, *, rows: int) -> bool:
    """Maps of held-out pictures and of what trunks make of them; False without scikit-learn."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        return False
    held = np.arange(min(rows, len(data.test)))
    found = {"pixels": raw(data.test, held)}
    found |= {name: features(trunk, data.test, held) for name, trunk in trunks.items()}
    labels = data.test.labels[held]
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
    torch.set_num_threads(1 if quick else torch.get_num_threads())
    folder = folder or Path("runs") / ("paradigms-quick" if quick else "paradigms")
    folder.mkdir(parents=True, exist_ok=True)
    steps, batch, count, size = (60, 96, 1500, "tiny") if quick else (2000, 256, 40_000, "base")
    page = Page(
        "Four ways to teach one network",
        "The same trunk, taught by labels, by its own input, by tasks made of it, and by reward: "
        "what do its features know, and is it a better beginning for self-play?",
        quick=quick,
    )
    data = load("fashion-mnist" if FASHION_FOLDER.is_dir() else "digits")
    if quick:
        data = data.first(3000, 1000)
    network = "grid" if quick else "impala-2x"
    each = {"steps": steps, "batch": batch}
    found: dict[str, Any] = {"pictures": [], "positions": [], "starts": []}
    trunks: dict[str, Trunk] = {}
    for seed in seeds:
        rows, trunks = compare(data, PICTURES, seed=seed, size=size, network=network, **each)
        found["pictures"] += [*rows, pixels(data)]
    draw(found["pictures"], folder / "pictures.png", data.train.name)
    page.table(found["pictures"], f"{data.train.name}, {steps} steps of {batch} each")
    page.picture("pictures.png", "Classes told from frozen features, by the share of labels seen.")
    shown = {name: trunks[name] for name in ("none", "supervised", "contrastive")}
    if draw_features(shown, data, folder / "maps.png", rows=300 if quick else 1000):
        page.picture("maps.png", "Held-out pictures and their features on a plane, by class.")
    positions = load(GAME, count=count)
    for seed in seeds:
        rows, _ = compare(positions, BOARDS, seed=seed, size=size, network="auto", **each)
        play = learned_by_play(
            folder, positions, minutes=0.3 if quick else 20, seed=seed, size=size
        )
        found["positions"] += [*rows, play]
    draw(found["positions"], folder / "positions.png", "outcomes of Connect Four")
    page.table(found["positions"], f"outcomes of Connect Four, {steps} steps of {batch} each")
    page.picture("positions.png", "Win, draw or loss told from frozen features.")
    updates = 2 if quick else 60
    for objective in ("none", "supervised", "masked", "contrastive"):
        shares = [
            started(folder, objective, updates=updates, seed=seed, size=size, count=count)
            for seed in seeds
        ]
        found["starts"].append(
            {
                "begun from": objective,
                "seeds": len(shares),
                "moves that keep the outcome": float(np.mean(shares)),
                "range": (min(shares), max(shares)),
            }
        )
        print(f"self-play from {objective}: {np.mean(shares):.3f}", flush=True)
    page.table(found["starts"], f"the bare policy after {updates} updates of self-play")
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
