"""Trunks as beginnings of self-play: is AlphaZero, or PPO, strong sooner than from nothing?

Both learn one board game by the same network, from fresh weights and from trunks that an objective
has taught. Snapshots of a run answer positions in which the move matters, without search: strength
is the share of moves that keep the outcome under best play. A curve of it over minutes gives the
time to the strength that a start from nothing reaches. Left out: the page and all other questions
to a trunk (paradigms.py).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import playout
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.alphazero.player import AlphaZeroPlayer
from playout.agents.networks.boards.network import BoardNetwork
from playout.agents.pretraining.data.dataset import Split
from playout.agents.pretraining.data.sources import load
from playout.agents.pretraining.trunk import begin_from, new_trunk, trunk_of
from playout.agents.rating.positions import (
    load_choosing_positions,
    preserved,
)
from playout.agents.runs.directory import RunDir
from playout.benchmarks.studies.cases import kept_run, mean_of_seeds
from playout.benchmarks.studies.games.alphago_training import Snapshots, reinforce
from playout.benchmarks.studies.games.meetings import SNAPSHOT, about, read_network, write_network
from playout.envs.core.state_batch import StateBatch
from playout.errors import DataError
from playout.mcts.exact.positions import Positions, canonical_hashes, random_positions, unseen
from playout.mcts.exact.solver import ILLEGAL_OUTCOME

ALPHAZERO, PPO = LEARNERS = ("AlphaZero", "PPO")
NOTHING = "none"
WAY = 0.9
"""Of the strength that self-play gains, the share up to which it is timed: its end is noisy."""

Curve = list[tuple[float, float]]
"""Minutes of a run, and the share of moves that keep the outcome then, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Board:
    """The board game of the study, and how much is learned on it.

    Attributes:
        game: Its text.
        count: Of positions with labels.
        size: Of the network.
        plies: Of positions in which strength is measured, solved now; None: those of the game's
            file.
        epochs: Of a trunk that is begun from, over the positions.
        starts: Objectives that teach these trunks.
        settings: By learner, of a run that begins with one.
        alone: By learner, of the run from nothing whose trunk is probed.
        snapshots: Of a run, besides its beginning.
    """

    game: str
    count: int
    size: str
    plies: tuple[int, int] | None
    epochs: float
    starts: tuple[str, ...]
    settings: Mapping[str, dict[str, Any]]
    alone: Mapping[str, dict[str, Any]]
    snapshots: int = 10

    def data(self, seed: int = 0) -> Split:
        """Its labelled positions; solved once a process and seed."""
        return load(self.game, count=self.count, seed=seed)

    def deciding(self, seed: int = 0) -> Positions:
        """Positions in which the move matters, without those that labels of a seed give away."""
        return _deciding(self.game, self.count, self.plies, seed)


@lru_cache(maxsize=4)
def _deciding(game: str, count: int, plies: tuple[int, int] | None, seed: int) -> Positions:
    found = load_choosing_positions(game) if plies is None else None
    if found is None:
        found = random_positions(game, 400, plies=plies or (8, 26), seed=2, exact=False)
    train = load(game, count=count, seed=seed).train
    known = StateBatch.from_data(train.game, train.states, check=False)
    rows = unseen(found.states, set(canonical_hashes(known).tolist()))
    if not rows:
        raise DataError(f"{game}: labels give away all positions that strength is measured in")
    return Positions(found.states[rows], [found.moves[row] for row in rows], found.scores[rows])


def kept_share(net: BoardNetwork, positions: Positions) -> float:
    """The share of positions in which a network's likeliest move keeps the outcome, 0 to 1."""
    game = positions.states.game
    player = AlphaZeroPlayer(game, NetworkEvaluator(net), simulations=0, proofs=False)
    return float(preserved(player.act(positions.states), positions.outcomes).mean())


def kept_by_chance(positions: Positions) -> float:
    """The share that random legal moves keep, 0 to 1."""
    outcomes = positions.outcomes
    keeping = (outcomes == outcomes.max(axis=1, keepdims=True)).sum(axis=1)
    return float(np.mean(keeping / (outcomes != ILLEGAL_OUTCOME).sum(axis=1)))


def trunk_run(folder: Path, board: Board, objective: str, seed: int) -> RunDir:
    """The run of pretraining that others begin with."""
    settings = {"objective": objective, "size": board.size, "count": board.count, "seed": seed,
                "data_seed": seed, "epochs": board.epochs, "threads": 1}  # fmt: skip
    path = folder / f"trunk-{objective}-{seed}"
    return kept_run(path, playout.pretrain_trunk, board.game, settings)


def snapshots_of(
    path: Path,
    board: Board,
    learner: str,
    seed: int,
    settings: Mapping[str, Any],
    begun_from: RunDir | None = None,
) -> list[Path]:
    """The networks of a run of self-play, its first one included, in their order.

    Args:
        path: Where the run is.
        board: What it learns.
        learner: One of LEARNERS.
        seed: Of the run, and of fresh weights.
        settings: Of the learner.
        begun_from: A run of pretraining whose weights it begins with; None for fresh ones.
    """
    trunk = new_trunk(board.data(seed).train, size=board.size, seed=seed)
    given: dict[str, Any] = {**settings, "seed": seed, "threads": 1}
    if begun_from is not None:
        given["init"] = begun_from
        begin_from(trunk, trunk_of(begun_from), begun_from.path)
    first = path.with_name(f"{path.name}.first{SNAPSHOT}")
    write_network(trunk.net, first, minutes=0.0)
    kept = Snapshots(path, board.snapshots)
    if learner == PPO:
        train = partial(reinforce, first, kept)
        given["self_play"] = True
    else:
        train = partial(playout.alphazero, callbacks=[kept])
        given |= {"size": board.size, "rating": False}
    run = kept_run(path, train, board.game, given)
    return [first, *sorted((run.path / "snapshots").glob(f"*{SNAPSHOT}"))]


def curve_of(folder: Path, board: Board, learner: str, start: str, seed: int) -> Curve:
    """Strength over minutes of a run that begins with a trunk, or with NOTHING."""
    init = None if start == NOTHING else RunDir.open(folder / f"trunk-{start}-{seed}")
    path = folder / f"{learner.lower()}-from-{start}-{seed}"
    files = snapshots_of(path, board, learner, seed, board.settings[learner], init)
    positions = board.deciding(seed)
    curve = [(about(file)["minutes"], kept_share(read_network(file), positions)) for file in files]
    print(
        f"{learner} from {start}, seed {seed}: {curve[0][1]:.3f} to {curve[-1][1]:.3f}", flush=True
    )
    return curve


def reached(curve: Curve, level: float) -> float | None:
    """The minutes after which a curve has first been at a level, on straight lines between points.

    None if it never was.
    """
    if curve[0][1] >= level:
        return curve[0][0]
    for (before, low), (after, high) in itertools.pairwise(curve):
        if high >= level:
            return before + (after - before) * (level - low) / (high - low)
    return None


def level_of(curves: Sequence[Curve], chance: float) -> float:
    """WAY of the way from random moves to the end of the weakest of some runs, which all reach."""
    return chance + WAY * (min(curve[-1][1] for curve in curves) - chance)


def times_sooner(
    ours: Sequence[float | None], theirs: Sequence[float | None]
) -> tuple[float, float, float] | None:
    """How many times sooner we are than they, seed by seed: the geometric mean and its interval.

    None where somebody never arrives or was there from the beginning. Of one seed both ends are
    NaN.
    """
    if not all((*ours, *theirs)):
        return None
    mean, half = mean_of_seeds([math.log(b / a) for a, b in zip(ours, theirs, strict=True)])
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


@dataclass(frozen=True, slots=True)
class Start:
    """What a start is worth to a learner.

    Attributes:
        learner: One of LEARNERS.
        start: The objective, or NOTHING.
        level: The strength that time is measured to, see `level_of`.
        before: Minutes of pretraining, a number a seed.
        first: Strength at the beginning, a number a seed ...
        last: ... and at the end.
        minutes: To the level, a number a seed; None where a seed does not reach it.
        sooner: See `times_sooner`, against NOTHING ...
        sooner_in_all: ... and with the pretraining counted.
    """

    learner: str
    start: str
    level: float
    before: list[float]
    first: list[float]
    last: list[float]
    minutes: list[float | None]
    sooner: tuple[float, float, float] | None
    sooner_in_all: tuple[float, float, float] | None

    def row(self) -> dict[str, Any]:
        """Of the table."""
        came = [one for one in self.minutes if one is not None]
        last, half = mean_of_seeds(self.last)
        return {
            "learner": self.learner,
            "begun from": "nothing" if self.start == NOTHING else self.start,
            "minutes of pretraining": float(np.mean(self.before)),
            "moves kept at first": float(np.mean(self.first)),
            "at the end": last,
            "±": None if math.isnan(half) else half,
            "strength to reach": self.level,
            "minutes to it": float(np.mean(came)) if came else None,
            "seeds that reach it": f"{len(came)} of {len(self.minutes)}",
            "times sooner": _times(self.sooner),
            "with pretraining": _times(self.sooner_in_all),
        }

    def sentence(self) -> str:
        """What it says, of a start from a trunk."""
        came = [one for one in self.minutes if one is not None]
        who = f"{self.learner} that begins with the trunk of {self.start}"
        level = f"{100 * self.level:.0f} % of moves kept"
        if len(came) < len(self.minutes):
            missing = len(self.minutes) - len(came)
            return f"{who} does not reach {level} with {missing} of {len(self.minutes)} seeds."
        if self.sooner is not None:
            words = f"{who} is at {level} {_soon(self.sooner)}"
        elif there := sum(not minutes for minutes in self.minutes):
            words = f"{who} is at {level} before it plays, with {there} of {len(came)} seeds"
        else:
            words = f"{who} has no time to be compared by: from nothing, a seed ends where it began"
        if self.sooner_in_all is not None:
            words += f"; with the minutes of pretraining counted, {_soon(self.sooner_in_all)}"
        return f"{words}."


def _ratio(x: float) -> str:
    return f"{x:.2f}" if x < 10 else f"{x:.0f}"


def _times(found: tuple[float, float, float] | None) -> str | None:
    if found is None:
        return None
    mean, low, high = map(_ratio, found)
    return mean if math.isnan(found[1]) else f"{mean} ({low} to {high})"


def _soon(found: tuple[float, float, float]) -> str:
    """A ratio of times in words, with its interval."""
    mean, low, high = found
    side = f"{_ratio(mean)} times sooner" if mean >= 1 else f"{_ratio(1 / mean)} times later"
    if math.isnan(low):
        return f"{side} than from nothing (one seed, so this may be chance)"
    doubt = ", which may be chance" if low <= 1 <= high else ""
    return f"{side} than from nothing{doubt} (95 %: {_ratio(low)} to {_ratio(high)} times sooner)"


def worth(
    curves: Mapping[tuple[str, str], Sequence[Curve]],
    before: Mapping[str, Sequence[float]],
    chance: float,
) -> list[Start]:
    """What each start is worth, in the order given.

    Args:
        curves: A curve a seed, by learner and start; NOTHING is among the starts of each learner.
        before: Minutes of pretraining, a number a seed, by objective.
        chance: Share of random moves that keep the outcome.
    """
    found = []
    for (learner, start), mine in curves.items():
        nothing = curves[learner, NOTHING]
        level = level_of(nothing, chance)
        theirs, minutes = ([reached(one, level) for one in many] for many in (nothing, mine))
        pretraining = list(before.get(start, [0.0] * len(mine)))
        in_all = [
            None if one is None else one + more
            for one, more in zip(minutes, pretraining, strict=True)
        ]
        compared = start != NOTHING
        found.append(
            Start(
                learner,
                start,
                level,
                pretraining,
                [curve[0][1] for curve in mine],
                [curve[-1][1] for curve in mine],
                minutes,
                times_sooner(minutes, theirs) if compared else None,
                times_sooner(in_all, theirs) if compared else None,
            )
        )
    return found


def draw(curves: Mapping[tuple[str, str], Sequence[Curve]], chance: float, path: Path) -> None:
    """Strength over minutes: a panel a learner, a line a start, thin lines its seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(LEARNERS), figsize=(11, 4.2), sharey=True)
    for axes, learner in zip(panels, LEARNERS, strict=True):
        mine = {start: many for (who, start), many in curves.items() if who == learner}
        for number, (start, many) in enumerate(mine.items()):
            colour = "black" if start == NOTHING else f"C{number}"
            mean = np.array([np.mean(column, axis=0) for column in zip(*many, strict=False)])
            name = "nothing" if start == NOTHING else start
            axes.plot(
                mean[:, 0], 100 * mean[:, 1], color=colour, label=name, marker="o", markersize=3
            )
            for curve in many if len(many) > 1 else ():
                xs, ys = zip(*curve, strict=True)
                axes.plot(xs, [100 * y for y in ys], color=colour, linewidth=0.6, alpha=0.4)
        level = level_of(mine[NOTHING], chance)
        axes.axhline(100 * level, color="black", linewidth=0.8, linestyle="--")
        axes.axhline(100 * chance, color="grey", linewidth=0.8, linestyle=":")
        axes.set_title(f"{learner}, by the trunk that it begins with")
        axes.set_xlabel("minutes of self-play on one core")
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("moves that keep the outcome, without search, in %")
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
