"""Evaluators that need no network: uniform, random rollouts, the exact solver.

An evaluator turns leaves into logits and values, in batches; the network's lives in agents, for
nothing here may import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError
from playout.mcts._search import rollout_values

if TYPE_CHECKING:
    from playout.mcts.exact.solver import Solver
    from playout.mcts.search import LeafBatch

Evaluation = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


class Evaluator(Protocol):
    """What a search asks; set `needs_obs = False` to be spared observations."""

    def evaluate(self, leaves: LeafBatch) -> Evaluation:
        """Logits [M, A] (illegal actions are ignored) and values [M] or [M, P]."""


class UniformEvaluator:
    """The same for every position: equal logits and one value."""

    needs_obs = False

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def evaluate(self, leaves: LeafBatch) -> Evaluation:
        """Zeros, and the constant for every player or the side to move."""
        players = leaves.game.num_players
        shape = (leaves.size,) if players <= 2 else (leaves.size, players)
        return np.zeros(leaves.mask.shape, np.float32), np.full(shape, self.value, np.float32)


class RolloutEvaluator:
    """Equal logits; values are mean returns of random play.

    Args:
        seed: Of the random play. Every leaf draws from a stream of its own, in the order in which
            leaves are asked for.
        num_rollouts: Games a leaf.
    """

    needs_obs = False

    def __init__(self, seed: int = 0, num_rollouts: int = 1) -> None:
        if not isinstance(num_rollouts, int) or num_rollouts < 1:
            raise ConfigError(f"num_rollouts must be an integer >= 1, not {num_rollouts!r}")
        self.seed, self.num_rollouts = seed, num_rollouts
        self.evaluated = 0

    def evaluate(self, leaves: LeafBatch) -> Evaluation:
        """Zeros and [M, P] mean returns."""
        states = np.ascontiguousarray(leaves.states)
        values = rollout_values(
            leaves.game.capsule, states, self.num_rollouts, self.seed, self.evaluated
        )
        leaves.game.raise_pending()
        self.evaluated += leaves.size
        return np.zeros(leaves.mask.shape, np.float32), values


class SolverEvaluator:
    """Exact values, and logits that favour the moves that keep them.

    Args:
        solver: Solves the game's positions.
        sharpness: Logit of a move that keeps the value over one that loses a step of it.
    """

    needs_obs = False

    def __init__(self, solver: Solver, sharpness: float = 5.0) -> None:
        self.solver, self.sharpness = solver, sharpness

    def evaluate(self, leaves: LeafBatch) -> Evaluation:
        """Sharpness * outcome of each move, and the best outcome, for the side to move."""
        states = StateBatch.from_data(leaves.game, leaves.states.copy(), check=False)
        outcomes = self.solver.outcomes(states).astype(np.float32)
        best = np.where(leaves.mask != 0, outcomes, -2.0).max(axis=1)
        return self.sharpness * outcomes, best.astype(np.float32)
