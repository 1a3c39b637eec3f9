"""`measure_speed`: how fast a game, its search and its network are here, in about a second or two.

Games differ by a factor of ten thousand: one in C plays a million moves a second, one in Python a
few hundred. So the work that is timed grows until it says something, and never by more than the
time that is left. Ranks measure at once, by the first one's clock, and what they find is of all.
What follows from the speeds stands in fit.py. Left out: how many updates fit into minutes for a
game whose updates are fixed by its preset (minutes.py).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from playout.agents.alphazero.budget.length import planned_plies
from playout.agents.alphazero.config import AlphaZeroConfig
from playout.agents.alphazero.replay import Examples, values_per_position
from playout.agents.alphazero.trainer import AlphaZeroTrainer
from playout.agents.alphazero.variants import GROUPS
from playout.agents.runs import ranks
from playout.envs.core.game import NativeGame

RANDOM_GAMES = 8
MADE_UP_POSITIONS = 256
PROBE_SECONDS = 0.3  # a first look at self-play takes about so long, by the speed of the rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast a game is on a machine, with a configuration's network and search.

    Attributes:
        plies_per_s: random moves a second by the rules alone, on one thread.
        length: plies of a random game, on average.
        moves_per_s: of self-play, all groups together.
        evaluations_per_s: the network's answers in it.
        row_seconds: of learning, a position of a batch.
    """

    plies_per_s: float
    length: float
    moves_per_s: float
    evaluations_per_s: float
    row_seconds: float

    def answers_per_s(self, num_simulations: int) -> float:
        """How fast a search is answered that knows nothing yet, with so many simulations a move.

        In self-play of small games caches and proofs answer most questions, and the few that are
        left say little of the network. It answers a position at least as fast as it learns from it.
        """
        return max(
            self.evaluations_per_s, min(self.moves_per_s * num_simulations, 1 / self.row_seconds)
        )

    def update_seconds(self, config: AlphaZeroConfig) -> float:
        """What an update of the final network takes."""
        learning = config.steps * config.learner.batch_size * self.row_seconds
        return config.evaluations / self.evaluations_per_s + learning


class RandomPlay(NamedTuple):
    """Random games: moves a second, and how many moves a game has."""

    plies_per_s: float
    length: float


def measure_rules(game: NativeGame, *, seconds: float = 0.5) -> RandomPlay:
    """Plays a few games at random, for `seconds` at most and two moves at least."""
    states, plies = game.batch(RANDOM_GAMES), 0
    ended = np.zeros(RANDOM_GAMES, bool)
    begun, ply = time.perf_counter(), 0
    while not ended.all() and (ply < 2 or time.perf_counter() - begun < seconds):
        actions = states.random_actions(0, counter=ply)
        ended = actions < 0
        states.apply(actions, where=~ended)
        plies, ply = plies + int((~ended).sum()), ply + 1
    taken = max(time.perf_counter() - begun, 1e-6)
    # Games that go on were not timed to their end: half of the longest is a guess.
    length = plies / RANDOM_GAMES if ended.all() else max(ply, planned_plies(game) / 2)
    return RandomPlay(max(plies, 1) / taken, max(length, 1.0))


def usual_speed(game: NativeGame) -> Speed:
    """About how fast such a game is on two cores, by what it says of itself and by no clock.

    Runs whose length is counted share their ratings out by it, so that they repeat anywhere.
    """
    return Speed(
        plies_per_s=2e4 if game.calls_python else 2e6,
        length=planned_plies(game) / 2,
        moves_per_s=100.0 if game.calls_python else 1000.0,
        evaluations_per_s=1e3 if game.calls_python else 1e4,
        row_seconds=1e-4,
    )


def measure_speed(
    game: NativeGame, config: AlphaZeroConfig, *, seconds: float, device: torch.device
) -> Speed:
    """Times rules, self-play and learning on throw-away objects.

    Args:
        game: what is learned.
        config: of the run; its final network is measured.
        seconds: to take for it; one round of self-play and one batch are always timed.
        device: where networks compute.
    """
    begun = time.perf_counter()
    rules = RandomPlay(*ranks.first(list(measure_rules(game, seconds=min(0.5, seconds / 4)))))
    selfplay = config.selfplay
    groups = len(ranks.share(selfplay.num_groups, GROUPS))  # of this rank, of the first one most
    each = rules.plies_per_s * PROBE_SECONDS / selfplay.num_simulations / ranks.first(groups)
    trees = max(1, min(selfplay.num_trees, int(each)))
    probe = replace(
        config,
        first_size="",
        updates=1 << 20,
        games=None,
        minutes=None,
        warmup_positions=1,
        replay_capacity=MADE_UP_POSITIONS,
        overlap=False,
        records=(),
        selfplay=replace(selfplay, num_trees=trees),
    )
    trainer = calibration_trainer(probe, game=game, device=device, count=MADE_UP_POSITIONS)
    asked = 1
    while True:
        start = time.perf_counter()
        _, counts = trainer.selfplay.play(asked)
        (taken,) = ranks.largest([time.perf_counter() - start])
        moves, evaluations = ranks.sums([float(counts.moves), float(counts.evaluations)])
        left = 0.7 * seconds - (time.perf_counter() - begun)
        if ranks.first(4 * taken > left or taken > 0.3 * seconds):
            break
        asked = max(4 * asked, 2 * int(evaluations))
    return Speed(
        plies_per_s=rules.plies_per_s,
        length=rules.length,
        moves_per_s=max(moves, 1) / taken,
        evaluations_per_s=max(evaluations, 1) / taken,
        row_seconds=_row_seconds(trainer, seconds - (time.perf_counter() - begun)),
    )


def _row_seconds(trainer: AlphaZeroTrainer, seconds: float) -> float:
    """Time of a gradient step for each row of its batch; the first step is slow."""
    learner, size = trainer.learners[-1], trainer.config.learner.batch_size
    mine = len(learner.rows(size))
    begun, number, taken = time.perf_counter(), 0, 0.0
    while number < 2 or ranks.first(number < 8 and time.perf_counter() - begun < seconds):
        start = time.perf_counter()
        learner.step(trainer.replay.batch(number, mine), done=0.5, whole=size)
        taken, number = time.perf_counter() - start, number + 1
    (slowest,) = ranks.largest([taken])
    return slowest / size


def calibration_trainer(
    config: AlphaZeroConfig,
    *,
    game: NativeGame | None = None,
    device: torch.device | None = None,
    count: int | None = None,
) -> AlphaZeroTrainer:
    """A trainer with made-up positions to learn from, so that its first update is typical.

    Args:
        config: its configuration.
        game: what is learned, by default as the configuration says.
        device: where networks compute.
        count: of positions, by default as many as it waits for.
    """
    trainer = AlphaZeroTrainer(config, seed=0, game=game, device=device)
    game, count = trainer.game, count or config.warmup_positions
    states = game.batch(count)
    states.random_plies(np.full(count, 2, np.int32), 0)
    mask = states.legal_mask().astype(np.float32)
    policy = mask / np.maximum(mask.sum(axis=1, keepdims=True), 1)
    values = np.zeros((count, values_per_position(game)), np.float32)
    weights = np.ones(count, np.float32)
    trainer.replay.add(Examples.from_dense(states.data.copy(), policy, values, weights))
    return trainer
