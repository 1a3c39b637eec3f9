"""The cases of the study of paradigms: a trunk that one objective or play teaches, and its probes.

A case is one trunk and one seed, wherever its process is; it gives a row of the study's table.
Left out: self-play that begins with trunks (games/starts.py), tables and pictures (paradigms.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from playout.agents.pretraining.clusters import cluster_scores
from playout.agents.pretraining.config import OBJECTIVES, PretrainConfig
from playout.agents.pretraining.data.dataset import Split, labelled_rows, some_rows
from playout.agents.pretraining.data.neighbours import raw
from playout.agents.pretraining.data.pictures import Pictures
from playout.agents.pretraining.data.sources import FASHION_FOLDER, load
from playout.agents.pretraining.objectives.registry import make_objective
from playout.agents.pretraining.probes import MAX_CLUSTERED, MAX_ROWS, features, probe
from playout.agents.pretraining.probes import linear_accuracy as read
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import Trunk, new_trunk
from playout.benchmarks.studies.cases import CoreMinutes
from playout.benchmarks.studies.games import starts
from playout.benchmarks.studies.games.meetings import about, read_network
from playout.benchmarks.studies.games.starts import LEARNERS, NOTHING, Board
from playout.errors import ConfigError

SHARES = (0.01, 1.0)
FEW, ALL, ARI = "linear, 1 % of labels", "linear, all labels", "ARI of k-means"
RIGHT, KEPT = "classes right", "moves that keep the outcome"
PIXELS = "pixels"
MAPPED = (PIXELS, NOTHING, "supervised", "contrastive")


@dataclass(frozen=True, slots=True)
class Form:
    """The sizes of a form of the study.

    Attributes:
        board: The game, and self-play on it.
        network: Of pictures.
        steps: Of an objective ...
        batch: ... and pictures or positions a step.
        mapped: Held-out pictures on a map.
        some: Pictures to learn from and held out, at most; None: all.
        pictures: Whose, as pretrain-trunk takes them; "": Fashion-MNIST if it is there, or digits.
        texts: "real", "synthetic", or "auto": real ones if they are there.
        width: Of the Transformer that reads them.
    """

    board: Board
    network: str
    steps: int
    batch: int
    mapped: int
    some: tuple[int, int] | None = None
    pictures: str = ""
    texts: str = "synthetic"
    width: int = 32


def taught(data: Split, objective: str, form: Form, seed: int) -> tuple[Trunk, float, float | None]:
    """A trunk after the form's steps of an objective, the minutes that they took, classes right.

    These are the share that its own head gets right, of supervised; else None.
    """
    trunk = fresh_trunk(data, form, seed)
    config = PretrainConfig(objective=objective, batch=form.batch)
    taken = CoreMinutes()
    trainer = PretrainTrainer(trunk, data, config, steps=form.steps, seed=seed)
    try:
        while not trainer.finished:
            trainer.update()
        minutes = taken()
        right = all_held_out(trainer)["accuracy"] if objective == "supervised" else None
    finally:
        trainer.close()
    return trunk, minutes, right


def all_held_out(trainer: PretrainTrainer) -> dict[str, float]:
    """The measures of an objective over everything held out; evaluations of a run take a part."""
    test = trainer.data.test
    return trainer.measure(test, trainer.measurable(test))


def fresh_trunk(data: Split, form: Form, seed: int) -> Trunk:
    """One that has learned nothing."""
    network = form.network if isinstance(data.train, Pictures) else "auto"
    return new_trunk(data.train, network=network, size=form.board.size, seed=seed)


def row_of(
    name: str, trunk: Trunk, data: Split, minutes: float, labels: int, seed: int
) -> dict[str, Any]:
    """What the probes make of a trunk; the seed also draws which labels they see."""
    linear = probe(trunk, data, "linear", shares=SHARES, pixels=False, seed=seed)["rows"]
    (nearest,) = probe(trunk, data, "neighbours", shares=SHARES[1:], pixels=False, seed=seed)[
        "rows"
    ]
    found = {
        "paradigm": name,
        "labels used": labels,
        "minutes": minutes,
        FEW: linear[0]["accuracy"],
        ALL: linear[1]["accuracy"],
        "5 neighbours": nearest["accuracy"],
    }
    try:
        found[ARI] = probe(trunk, data, "clusters", seed=seed)["trunk"]["ari"]
    except ConfigError:  # scikit-learn is not there
        found[ARI] = None
    return found


def pixels(data: Split, seed: int = 0) -> dict[str, Any]:
    """The same readers on the pictures themselves, with the labels of that seed."""
    train, test = data.train, data.test
    wanted, classes = raw(test, np.arange(len(test))), len(train.classes)
    found: dict[str, Any] = {"paradigm": "the pictures themselves"}
    for name, share in zip((FEW, ALL), SHARES, strict=True):
        rows = some_rows(labelled_rows(train, share, seed=seed), MAX_ROWS, seed=seed)
        own, labels = raw(train, rows), train.labels[rows]
        found[name] = read(own, labels, wanted, test.labels, classes, seed=seed)
    rows = some_rows(np.flatnonzero(test.labels >= 0), MAX_CLUSTERED)
    try:
        found[ARI] = cluster_scores(wanted[rows], test.labels[rows], classes, seed=seed)["ari"]
    except ConfigError:  # scikit-learn is not there
        found[ARI] = None
    return found


@lru_cache(maxsize=2)
def _pictures(name: str, some: tuple[int, int] | None) -> Split:
    data = load(name or ("fashion-mnist" if FASHION_FOLDER.is_dir() else "digits"))
    return data.some(*some) if some else data


def data_of(what: str, form: Form) -> Split:
    """The form's "pictures", or its "positions"."""
    return form.board.data() if what == "positions" else _pictures(form.pictures, form.some)


def suiting(what: str, form: Form) -> tuple[list[str], dict[str, str]]:
    """Objectives that "pictures" or "positions" can be learned by, and why not by the others."""
    data, fit, refused = data_of(what, form), [], {}
    trunk = fresh_trunk(data, form, 0)
    for objective in OBJECTIVES:
        try:
            make_objective(trunk, data.train, PretrainConfig(objective=objective))
        except ConfigError as error:
            refused[objective] = str(error)
        else:
            fit.append(objective)
    return fit, refused


def told(what: str, objective: str, form: Form, seed: int) -> tuple[dict[str, Any], Any]:
    """The row of an objective, and features of the held-out pictures that maps show, or None.

    Args:
        what: "pictures" or "positions".
        objective: what teaches the trunk; NOTHING for fresh weights, PIXELS for no trunk.
        form: see Form.
        seed: of all that is random.
    """
    data = data_of(what, form)
    held = np.arange(min(form.mapped, len(data.test)))
    if objective == PIXELS:
        return pixels(data, seed), raw(data.test, held)
    if objective == NOTHING:
        trunk, minutes, right = fresh_trunk(data, form, seed), 0.0, None
        name = "none (fresh weights)"
    else:
        (trunk, minutes, right), name = taught(data, objective, form, seed), objective
    labels = len(data.train) if objective == "supervised" else 0
    row = row_of(name, trunk, data, minutes, labels, seed) | {RIGHT: right}
    if what == "positions":
        plays = objective == "supervised"
        row[KEPT] = starts.kept_share(trunk.net, form.board.deciding()) if plays else None
    print(f"{data.train.name}, {name}, seed {seed}: {row[FEW]:.3f}", flush=True)
    shown = what == "pictures" and objective in MAPPED
    return row, features(trunk, data.test, held) if shown else None


def learned_by_reward(folder: Path, learner: str, form: Form, seed: int) -> dict[str, Any]:
    """The row of a trunk that AlphaZero or PPO has taught by play alone."""
    data, board = data_of("positions", form), form.board
    path = folder / f"{learner.lower()}-{seed}"
    last = starts.snapshots_of(path, board, learner, seed, board.alone[learner])[-1]
    net, minutes = read_network(last), about(last)["minutes"]
    trunk = Trunk(net, data.train.shape, "resnet")
    trainer = PretrainTrainer(trunk, data, PretrainConfig(), steps=1)  # for its evaluation alone
    try:
        right = all_held_out(trainer)["accuracy"]
    finally:
        trainer.close()
    row = row_of(f"{learner}, by play", trunk, data, minutes, 0, seed) | {RIGHT: right}
    return row | {KEPT: starts.kept_share(net, board.deciding())}


def part(what: str, objective: str, form: Form, seed: int, folder: Path) -> Any:
    """One part of the study, wherever this process is.

    Of "trunks", which self-play will begin with, the minutes that one took; else see `told`.
    """
    if what == "trunks":
        run = starts.trunk_run(folder, form.board, objective, seed)
        return float(run.record["study"]["minutes"])
    if objective in LEARNERS:
        return learned_by_reward(folder, objective, form, seed), None
    return told(what, objective, form, seed)
