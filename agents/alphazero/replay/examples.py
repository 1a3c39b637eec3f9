"""What self-play says of positions, and a training batch as the network sees it.

A position is its state's bytes, a policy target the moves that have a probability (policies.py).
Where a game teaches more than its result, positions also know the state in which it ended: planes
and scores are made from that when a batch is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.replay.moves import Moves
from playout.agents.alphazero.replay.policies import Policies
from playout.agents.networks.boards.network import values_for
from playout.envs.core.game import NativeGame

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Finals:
    """The states in which the games of N positions ended.

    Attributes:
        states: uint8 [G, state_size], one a game that ended by its rules.
        rows: int64 [N], the place of each position's among them; -1 where its game was cut short.
    """

    states: UInt8
    rows: npt.NDArray[np.int64]

    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> Finals:
        kept = self.rows[rows]
        places, at = np.unique(kept[kept >= 0], return_inverse=True)
        new = np.full(len(kept), -1, np.int64)
        new[kept >= 0] = at
        return Finals(self.states[places], new)

    @staticmethod
    def concatenate(parts: Sequence[Finals | None]) -> Finals | None:
        """Joins what all parts have; None if one has none."""
        known = [part for part in parts if part is not None]
        if not known or len(known) < len(parts):
            return None
        before = np.cumsum([0, *(len(part.states) for part in known)])
        rows = [
            np.where(part.rows >= 0, part.rows + shift, -1)
            for part, shift in zip(known, before[:-1], strict=True)
        ]
        return Finals(np.concatenate([part.states for part in known]), np.concatenate(rows))


@dataclass(frozen=True, slots=True)
class Examples:
    """What self-play (or a solver) says of N positions.

    Attributes:
        states: uint8 [N, state_size].
        policy: target probabilities, none on illegal actions.
        values: target values, float32 [N, V]; V = 1 for the side to move, or one a player.
        policy_weights: float32 [N]; 0 where only the value is to be learned.
        finals: how their games ended, for what that teaches besides; None: not told.
        moves: which moves led from one to the next; None: not told.
    """

    states: UInt8
    policy: Policies
    values: Float32
    policy_weights: Float32
    finals: Finals | None = None
    moves: Moves | None = None

    @staticmethod
    def from_dense(
        states: UInt8, policy: Float32, values: Float32, policy_weights: Float32
    ) -> Examples:
        """The same from dense policies [N, A]."""
        return Examples(states, Policies.from_dense(policy), values, policy_weights)

    @staticmethod
    def none(game: NativeGame, *, finals: bool = False, moves: bool = False) -> Examples:
        """No positions of a game."""
        states = np.empty((0, game.state_size), np.uint8)
        return Examples(
            states,
            Policies.from_dense(np.empty((0, game.num_actions), np.float32)),
            np.empty((0, values_per_position(game)), np.float32),
            np.empty(0, np.float32),
            Finals(states, np.empty(0, np.int64)) if finals else None,
            Moves.none() if moves else None,
        )

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> Examples:
        moves = None  # rows in any order do not follow one another
        if self.moves is not None and isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            moves = self.moves.slice(start, max(start, stop)) if step == 1 else None
        return Examples(
            self.states[rows],
            self.policy[rows],
            self.values[rows],
            self.policy_weights[rows],
            None if self.finals is None else self.finals[rows],
            moves,
        )

    @staticmethod
    def concatenate(parts: list[Examples]) -> Examples:
        """Joins examples in the order given."""
        return Examples(
            np.concatenate([part.states for part in parts]),
            Policies.concatenate([part.policy for part in parts]),
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.policy_weights for part in parts]),
            Finals.concatenate([part.finals for part in parts]),
            Moves.concatenate([part.moves for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """One batch as the network sees it: `obs [M, C, H, W]`, `mask uint8 [M, A]`, targets.

    Attributes:
        planes: float32 [M, T, H, W] in [-1, 1], what the end of the game teaches the side to move;
            None where that is not learned.
        scores: float32 [M], the game's own score for the side to move, divided by the cells of the
            board; None as well.
        ended: float32 [M]; 0 where the end is not known, since a proof ended the game.
    """

    obs: Float32
    mask: UInt8
    policy: Float32
    values: Float32
    policy_weights: Float32
    planes: Float32 | None = None
    scores: Float32 | None = None
    ended: Float32 | None = None

    def __getitem__(self, rows: slice) -> TrainingBatch:
        return TrainingBatch(
            self.obs[rows],
            self.mask[rows],
            self.policy[rows],
            self.values[rows],
            self.policy_weights[rows],
            None if self.planes is None else self.planes[rows],
            None if self.scores is None else self.scores[rows],
            None if self.ended is None else self.ended[rows],
        )

    def __len__(self) -> int:
        return len(self.obs)


def values_per_position(game: NativeGame) -> int:
    """V of `Examples`: 1 where the value for the side to move says all, else one a player."""
    return values_for(game.num_players, game.zero_sum)
