"""`Evaluator`: what a search asks about its leaves; and three that need no network.

`LeafBatch` is what an evaluator is given. Here stand the uniform evaluator, random rollouts and
the exact solver; those with a network stand in agents, for nothing here may import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import NativeGame
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError

if TYPE_CHECKING:
    from playout.mcts.exact.solver import Solver

Evaluation = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class LeafBatch:
    """Positions to be evaluated; views into buffers that the next ask() overwrites.

    Attributes:
        obs: float32 [M, C, H, W], seen by the side to move; None if ask(observe=False).
        mask: uint8 [M, A], 1 = legal.
        states: uint8 [M, state_size].
        to_play: int32 [M].
        size: M, at least 1.
        game: The game.
    """

    obs: npt.NDArray[np.float32] | None
    mask: npt.NDArray[np.uint8]
    states: npt.NDArray[np.uint8]
    to_play: npt.NDArray[np.int32]
    size: int
    game: NativeGame

    @classmethod
    def of(cls, states: StateBatch) -> LeafBatch:
        """Positions, none of them over, as a search would ask about them."""
        obs, mask, to_play = states.observe(), states.legal_mask(), states.to_play()
        return cls(obs, mask, states.data, to_play, len(states), states.game)


class Evaluator(Protocol):
    """Answers the leaves of a search with a policy and a value each.

    No leaf is finished: in each, somebody is to move and an action is legal. An answer may depend
    on nothing but the leaf, for leaves come in batches of any size and a search may remember
    answers (`SearchConfig.cache_size`). `evaluate` is called by one thread at a time, the one that
    drives the search, which need not be the thread that made the evaluator; another search on
    another thread needs an evaluator of its own. While a call runs the search stands still, so one
    that releases the interpreter lock lets other searches go on.

    Attributes:
        needs_obs: Optional, True if left out. With False, `Search.run` spares the observations and
            hands over leaves whose `obs` is None.
    """

    needs_obs: bool = True

    def evaluate(self, leaves: LeafBatch) -> Evaluation:
        """Logits and values of the leaves; it keeps no view of their buffers.

        Args:
            leaves: M positions; their arrays are read only.

        Returns:
            Logits, float32 [M, A], finite where an action is legal and ignored elsewhere; and
            values, float32 [M] in [-1, 1] for the side to move (games of one or two players) or
            [M, P] for every player. Both belong to the caller.
        """
        ...


class UniformEvaluator(Evaluator):
    """The same for every position: equal logits and one value."""

    needs_obs = False

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def evaluate(self, leaves: LeafBatch) -> Evaluation:
        """Zeros, and the constant for every player or the side to move."""
        players = leaves.game.num_players
        shape = (leaves.size,) if players <= 2 else (leaves.size, players)
        return np.zeros(leaves.mask.shape, np.float32), np.full(shape, self.value, np.float32)


class RolloutEvaluator(Evaluator):
    """Equal logits; values are mean returns of random play, in units of the game's value_scale.

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
        """Zeros and [M, P] mean returns; with rewards along the way, of what is still to come."""
        states = StateBatch.from_data(leaves.game, np.array(leaves.states), check=False)
        streams = np.arange(self.evaluated, self.evaluated + leaves.size)
        values = states.playouts(self.seed, count=self.num_rollouts, streams=streams)
        self.evaluated += leaves.size
        values = (values - states.returns()) / np.float32(leaves.game.value_scale)
        return np.zeros(leaves.mask.shape, np.float32), values


class SolverEvaluator(Evaluator):
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
