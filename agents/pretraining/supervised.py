"""The supervised baseline: the same network, taught by the exact solver instead of by its games.

It shows what self-play has to make up for, and what solving costs: positions come from random play,
labels from the solver (the policy is even over the moves that keep the outcome, the value is the
outcome). Everything after the labels is what self-play uses too: replay, learner, averaged weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from playout.agents.alphazero.config import LearnerConfig
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.alphazero.learner import Learner
from playout.agents.alphazero.replay import Examples, Replay
from playout.agents.networks.boards.network import BoardNetwork
from playout.agents.networks.boards.registry import new_network
from playout.envs.core.game import NativeGame, StateBatch
from playout.errors import ConfigError
from playout.mcts.exact.solver import Solver

LABEL_BATCH = 256  # positions labelled between looks at the clock


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisedConfig:
    """How the baseline learns.

    Attributes:
        size: of the network, as for self-play.
        plies: least and most random plies of a position.
        steps: gradient steps.
        learner: see LearnerConfig.
    """

    size: str = "base"
    plies: tuple[int, int] = (8, 26)
    steps: int = 2000
    learner: LearnerConfig = field(default_factory=LearnerConfig)

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 <= self.plies[0] <= self.plies[1]:
            raise ConfigError("steps must be positive and plies rise from 0 or more")


def label(
    game: NativeGame,
    *,
    count: int,
    plies: tuple[int, int],
    seconds: float | None = None,
    threads: int = 1,
    seed: int = 0,
) -> Examples:
    """Up to `count` different solved positions from random play; stops when `seconds` are over."""
    solver = Solver(game, table_mb=128, threads=threads)
    rng = np.random.default_rng([seed, 8])
    seen: set[int] = set()
    parts: list[Examples] = []
    found, begun, fruitless = 0, time.monotonic(), 0  # batches in a row without a new position
    while found < count and fruitless < 20:
        if parts and seconds is not None and time.monotonic() - begun > seconds:
            break
        states = game.batch(LABEL_BATCH)
        lengths = rng.integers(plies[0], plies[1] + 1, LABEL_BATCH, dtype=np.int32)
        states.random_plies(lengths, int(rng.integers(2**62)))
        rows = []
        for row, number in enumerate(states.hash().tolist()):
            if number not in seen:
                seen.add(number)
                rows.append(row)
        states = states[rows]
        states = states[np.flatnonzero(~states.is_terminal())][: count - found]
        fruitless = 0 if len(states) else fruitless + 1
        if len(states):
            parts.append(examples_of(states, solver))
            found += len(states)
    if not parts:
        raise ConfigError(f"{game}: no position of {plies[0]} to {plies[1]} random plies")
    return Examples.concatenate(parts)


def examples_of(states: StateBatch, solver: Solver) -> Examples:
    """Solved positions as training examples."""
    outcomes = solver.outcomes(states)
    best = outcomes.max(axis=1)
    keeps = (outcomes == best[:, None]).astype(np.float32)
    policy = keeps / keeps.sum(axis=1, keepdims=True)
    values = best.astype(np.float32)[:, None]
    return Examples.from_dense(states.data.copy(), policy, values, np.ones(len(states), np.float32))


def train_supervised(
    game: NativeGame,
    examples: Examples,
    config: SupervisedConfig,
    *,
    seed: int = 0,
    on_step: Callable[[int, NetworkEvaluator], None] | None = None,
) -> BoardNetwork:
    """Teaches a fresh network solved positions; returns the averaged one.

    Args:
        game: a game of two players.
        examples: from `label`.
        config: see SupervisedConfig.
        seed: of weights and batches.
        on_step: called after every hundredth step with its number and an evaluator.
    """
    learner = Learner(new_network(game, config.size, seed=seed), config.learner)
    replay = Replay(game, len(examples), seed=seed)
    replay.add(examples)
    evaluator = NetworkEvaluator(learner.average)
    for step in range(config.steps):
        batch = replay.batch(step, config.learner.batch_size)
        learner.step(batch, done=step / config.steps)
        if on_step is not None and (step + 1) % 100 == 0:
            evaluator.refresh(learner.average)
            on_step(step + 1, evaluator)
    return learner.average
