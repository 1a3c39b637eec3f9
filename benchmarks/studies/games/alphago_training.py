"""AlphaGo's three steps and AlphaGo Zero's one, as runs with snapshots of their networks.

AlphaGo (Silver et al. 2016): a network learns the moves and results of recorded games; its policy
is reinforced without search against a pool of its past; values are learned from games which that
policy plays with itself. Here one network has policy and value, so that in the third step it goes
on to see the recorded games as well. AlphaGo Zero (Silver et al. 2017): self-play with search from
nothing. Whatever was stopped goes on. Left out: sizes, and what is measured (alphago.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import playout
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.alphazero.player import AlphaZeroPlayer
from playout.agents.alphazero.replay import records
from playout.agents.networks.boards.policy import BoardPolicy
from playout.agents.runs.directory import RunDir
from playout.benchmarks.studies.cases import CoreMinutes, kept_run
from playout.benchmarks.studies.games.meetings import SNAPSHOT, read_network, write_network

STEPS = ("supervised", "reinforced", "value")


@dataclass(frozen=True, slots=True)
class Form:
    """The sizes of a form of the study.

    Attributes:
        game: What is learned.
        teacher: Whose games are recorded where no files are given, two players' texts.
        games: Recorded, and played by the reinforced policy.
        size: Of the network.
        epochs: How often recorded positions are learned from, in the first step and in the third.
        learning: Further settings of these steps.
        reinforce: Settings of PPO in the second step.
        zero: Settings of self-play from nothing.
        snapshots: Of each step, and of self-play as many as of all three together.
        anchors: Players outside both.
        simulations: A move, in matches ...
        matches: ... of so many games.
    """

    game: str
    teacher: tuple[str, str]
    games: int
    size: str
    epochs: float
    learning: dict[str, Any]
    reinforce: dict[str, Any]
    zero: dict[str, Any]
    snapshots: int = 4
    anchors: tuple[str, ...] = ("random", "uct:1000")
    simulations: int = 64
    matches: int = 20
    files: tuple[str, ...] = field(default=())


class Snapshots:
    """A callback of training: writes the network at its beginning and at equal parts of the run.

    Args:
        run: The run's folder; files are named by the part of the run that is done.
        count: How many parts.
    """

    def __init__(self, run: Path, count: int) -> None:
        self.folder, self.count = run / "snapshots", count
        self._minutes: CoreMinutes | None = None
        self._parts: int | None = None

    def __call__(self, trainer: Any, metrics: Mapping[str, float]) -> None:
        """After an update."""
        if self._minutes is None:
            self._minutes = CoreMinutes(metrics["time/elapsed"] / 60)
        done, total = trainer.progress
        parts = int(self.count * done / max(total, 1))
        if parts == self._parts:
            return
        self._parts = parts
        policy = getattr(trainer, "policy", None)
        net = trainer.learners[-1].average if policy is None else policy.net
        path = self.folder / f"{parts:03d}{SNAPSHOT}"
        write_network(net, path, minutes=self._minutes())

    def last(self) -> Path:
        """The newest file."""
        return max(self.folder.glob(f"*{SNAPSHOT}"))


def recorded(folder: Path, form: Form, part: int, parts: int) -> str:
    """A file of games by the teachers, which play some of all; kept from last time if whole."""
    path, count = folder / "records" / f"part-{part}.jsonl", math.ceil(form.games / parts / 2) * 2
    if path.is_file():
        with open(path, encoding="utf-8") as lines:
            if sum(1 for _ in lines) == count:
                return str(path)
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    playout.match(list(form.teacher), game=form.game, games=count, records=path, seed=1000 + part)
    return str(path)


def games_of_policy(net: Path, form: Form, path: Path) -> None:
    """Games that a network's bare policy plays with itself, its moves drawn from it."""
    game = playout.game(form.game)
    evaluator = NetworkEvaluator(read_network(net))
    players = [
        AlphaZeroPlayer(game, evaluator, simulations=0, proofs=False, name=name)
        for name in ("policy", "itself")
    ]
    for player in players:
        player.temperature = 1.0
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"aside-{path.name}")
    aside.unlink(missing_ok=True)
    playout.match(players, game=form.game, games=form.games, records=aside, seed=7)
    aside.rename(path)


def learn_records(
    folder: Path, name: str, form: Form, files: Sequence[str], **settings: Any
) -> RunDir:
    """A run that learns the moves and results of recorded games and plays none itself."""
    game, batch = playout.game(form.game), form.learning["batch_size"] * form.learning["steps"]
    positions = len(records.read(game, list(files)).replay)
    given = {
        **form.learning,
        **settings,
        "size": form.size,
        "records": tuple(files),
        "record_epochs": 1e5,  # longer than the run
        "updates": max(form.snapshots, round(form.epochs * positions / batch)),
        "rating": False,
        "threads": 1,
    }
    kept = Snapshots(folder / name, form.snapshots)
    train = partial(playout.alphazero, callbacks=[kept])
    return kept_run(folder / name, train, form.game, given)


def reinforce(start: Path, kept: Snapshots, game: str | None = None, **options: Any) -> RunDir:
    """PPO against a pool of its past, by the policy of a snapshot; `resume` goes on with a run."""
    policy = BoardPolicy(read_network(start))
    options.pop("init", None)  # names the run whose snapshot it is
    source = playout.game(game) if game else ""
    return playout.ppo(source, policy=policy, callbacks=[kept], **options)


def three_steps(folder: Path, form: Form, seed: int) -> None:
    """AlphaGo's: the network of records, its policy reinforced, the network of its games."""
    first = learn_records(folder, STEPS[0], form, form.files, seed=seed)
    second = Snapshots(folder / STEPS[1], form.snapshots)
    train = partial(reinforce, Snapshots(first.path, form.snapshots).last(), second)
    settings = {**form.reinforce, "init": first, "self_play": True, "seed": seed, "threads": 1}
    policy = kept_run(folder / STEPS[1], train, form.game, settings)
    own = folder / "records" / f"policy-{policy.id}.jsonl"
    if not own.is_file():
        games_of_policy(second.last(), form, own)
    # The recorded games come first: so the same ones of them are held out.
    learn_records(folder, STEPS[2], form, [*form.files, str(own)], seed=seed, init=first)


def one_step(folder: Path, form: Form, seed: int) -> None:
    """AlphaGo Zero's: self-play from nothing."""
    kept = Snapshots(folder / "zero", len(STEPS) * form.snapshots)
    settings = {**form.zero, "size": form.size, "seed": seed, "rating": False, "threads": 1}
    train = partial(playout.alphazero, callbacks=[kept])
    kept_run(folder / "zero", train, form.game, settings)


def way(which: str, folder: Path, form: Form, seed: int) -> None:
    """One of both, wherever this process is."""
    (one_step if which == "zero" else three_steps)(folder, form, seed)
