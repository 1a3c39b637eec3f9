"""`Chunk`: some thousands of positions that follow one another, most of them kept as moves alone.

Every so many moves, and wherever the moves that were told do not lead to a position, its state is
kept whole; the others are rebuilt from the one before them, for a whole batch at once. A position
of Go 9x9 then takes 16 bytes of state instead of 392. Probabilities have half precision. A chunk
never changes. Left out: which chunks there are (compact.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.replay.examples import Examples, Finals, values_per_position
from playout.agents.alphazero.replay.finals import finals_from_dict, finals_to_dict
from playout.agents.alphazero.replay.moves import Moves
from playout.agents.alphazero.replay.policies import Policies, action_dtype, ragged
from playout.envs.core.game import NativeGame, StateBatch
from playout.errors import CheckpointError, IllegalActionError, PlayoutError

Index = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]

_STATE_BYTES = 16  # of whole states that a position may cost on average ...
_LEAST_MOVES, _MOST_MOVES = 8, 64  # ... within so many moves between two of them


def interval(game: NativeGame) -> int:
    """The most moves from a state that is kept whole to one that is rebuilt from it."""
    return min(_MOST_MOVES, max(_LEAST_MOVES, game.state_size // _STATE_BYTES))


@dataclass(frozen=True, slots=True)
class Path:
    """How to rebuild M positions.

    Attributes:
        states: uint8 [M, state_size], whole states to begin at.
        counts: int64 [M], moves from there.
        moves: int64 [sum of counts].
    """

    states: UInt8
    counts: Index
    moves: Index

    @staticmethod
    def concatenate(parts: list[Path]) -> Path:
        """All in the order given."""
        return Path(
            np.concatenate([part.states for part in parts]),
            np.concatenate([part.counts for part in parts]),
            np.concatenate([part.moves for part in parts]),
        )

    def rebuilt(self, game: NativeGame) -> UInt8:
        """The positions, uint8 [M, state_size]."""
        states = StateBatch.from_data(game, np.ascontiguousarray(self.states), check=False)
        first = np.cumsum(self.counts) - self.counts
        actions = np.zeros(len(self.counts), np.int32)
        for step in range(int(self.counts.max(initial=0))):
            going = np.flatnonzero(self.counts > step)
            actions[going] = self.moves[first[going] + step]
            states.apply(actions, where=going)
        return states.data


@dataclass(frozen=True, slots=True)
class Chunk:
    """N positions.

    Attributes:
        values: float32 [N, V].
        policy_weights: float32 [N].
        counts: int32 [N], pairs of each policy ...
        starts: ... and the first of them, int64 [N].
        actions: unsigned integers [T], pairs of all policies.
        probabilities: float16 [T].
        keys: int32 [K], rows whose states are whole, rising; the first is 0.
        key_states: uint8 [K, state_size].
        ends: int32 [N], moves up to each row.
        moves: unsigned integers, one after another.
        finals: how their games ended.
    """

    values: npt.NDArray[np.float32]
    policy_weights: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int32]
    starts: Index
    actions: npt.NDArray[Any]
    probabilities: npt.NDArray[np.float16]
    keys: npt.NDArray[np.int32]
    key_states: UInt8
    ends: npt.NDArray[np.int32]
    moves: npt.NDArray[Any]
    finals: Finals | None

    @staticmethod
    def of(game: NativeGame, examples: Examples) -> Chunk:
        """Examples, packed; one at least."""
        told = Moves.none(len(examples)) if examples.moves is None else examples.moves
        whole = _whole(game, examples.states, told)
        counts = np.where(whole, 0, told.counts)
        kept = np.repeat(~whole, told.counts)
        policy = examples.policy
        return Chunk(
            values=examples.values,
            policy_weights=examples.policy_weights,
            counts=policy.counts,
            starts=_starts(policy.counts),
            actions=policy.actions,
            probabilities=policy.probabilities.astype(np.float16),
            keys=np.flatnonzero(whole).astype(np.int32),
            key_states=examples.states[whole],
            ends=np.cumsum(counts).astype(np.int32),
            moves=told.actions[kept].astype(action_dtype(game.num_actions)),
            finals=examples.finals,
        )

    def __len__(self) -> int:
        return len(self.counts)

    def _since_whole(self, rows: Index) -> tuple[Index, Index, Index]:
        """Which of `keys` stands before each row, the first move after it, and how many follow."""
        at = np.searchsorted(self.keys, rows, side="right") - 1
        first = self.ends[self.keys[at]].astype(np.int64)
        return at, first, self.ends[rows] - first

    def path(self, rows: Index) -> Path:
        """How to rebuild the positions of these rows."""
        at, first, counts = self._since_whole(rows)
        return Path(self.key_states[at], counts, self.moves[ragged(first, counts)].astype(np.int64))

    def others(self, rows: Index) -> Examples:
        """The examples of these rows, all but their states: of those there are none."""
        counts = self.counts[rows]
        pairs = ragged(self.starts[rows], counts)
        policy = Policies(counts, self.actions[pairs], self.probabilities[pairs].astype(np.float32))
        return Examples(
            np.empty((len(rows), 0), np.uint8),
            policy,
            self.values[rows],
            self.policy_weights[rows],
            None if self.finals is None else self.finals[rows],
        )

    def examples(self, game: NativeGame) -> Examples:
        """All of them, with their states and moves."""
        rows = np.arange(len(self))
        counts = np.diff(self.ends, prepend=np.int32(0))
        moves = Moves(counts.astype(np.int32), self.moves.astype(np.int32))
        return replace(self.others(rows), states=self.path(rows).rebuilt(game), moves=moves)

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {name: getattr(self, name) for name in _STORED}

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {**self._arrays(), **finals_to_dict(self.finals)}

    @staticmethod
    def from_dict(game: NativeGame, state: Mapping[str, Any], *, finals: bool) -> Chunk:
        """What `to_dict` gave; every state in it is rebuilt once, and has to be one of the game.

        Raises:
            CheckpointError: it does not fit the game.
        """
        try:
            arrays = {name: np.asarray(state[name]) for name in _STORED}
            size = len(arrays["counts"])
            ends = finals_from_dict(state, size, game) if finals else None
            chunk = Chunk(**arrays, starts=_starts(arrays["counts"]), finals=ends)
            fits = chunk._fits(game, size)
        except (KeyError, TypeError, ValueError, IndexError):
            fits = False
        if not fits:
            raise CheckpointError("the checkpoint's replay does not fit this game (chunks)")
        return chunk

    def _fits(self, game: NativeGame, size: int) -> bool:
        """Whether arrays fit one another and the game, and moves can be played."""
        pairs = int(self.counts.sum())
        moves = int(self.ends[-1]) if size else 0
        shapes = (
            self.values.shape == (size, values_per_position(game))
            and self.policy_weights.shape == self.ends.shape == (size,)
            and self.actions.shape == self.probabilities.shape == (pairs,)
            and self.key_states.shape == (len(self.keys), game.state_size)
            and self.moves.shape == (moves,)
        )
        dtypes = (
            self.values.dtype == self.policy_weights.dtype == np.float32
            and self.probabilities.dtype == np.float16
            and self.key_states.dtype == np.uint8
            and self.actions.dtype == self.moves.dtype == action_dtype(game.num_actions)
            and self.counts.dtype == self.keys.dtype == self.ends.dtype == np.int32
        )
        if not (shapes and dtypes and size):
            return False
        numbers = (
            self.counts.min() >= 0
            and self.keys[0] == 0
            and (np.diff(self.keys) > 0).all()
            and self.keys[-1] < size
            and self.ends[0] == 0
            and (np.diff(self.ends) >= 0).all()
            and (self.ends[self.keys[1:]] == self.ends[self.keys[1:] - 1]).all()
            and (not pairs or self.actions.max() < game.num_actions)
            and (not moves or self.moves.max() < game.num_actions)
        )
        if not numbers or self._since_whole(np.arange(size))[2].max() > interval(game):
            return False
        try:  # where moves can be played from sound states, sound states come of them
            StateBatch.from_data(game, self.key_states.copy(), check=True)
            last = np.append(self.keys[1:] - 1, size - 1)
            self.path(last.astype(np.int64)).rebuilt(game)
        except (PlayoutError, ValueError):
            return False
        return True


# What a checkpoint holds of a chunk besides its finals.
_STORED = (
    "values",
    "policy_weights",
    "counts",
    "actions",
    "probabilities",
    "keys",
    "key_states",
    "ends",
    "moves",
)


def _starts(counts: npt.NDArray[np.int32]) -> Index:
    return np.cumsum(counts, dtype=np.int64) - counts


def _whole(game: NativeGame, states: UInt8, told: Moves) -> npt.NDArray[np.bool_]:
    """Which states [N] stay whole: those that the moves told do not lead to, and some others."""
    whole = np.ones(len(states), bool)
    rows = np.flatnonzero((told.counts > 0) & (told.counts <= interval(game)))
    if not len(rows):
        return whole
    counts = told.counts[rows].astype(np.int64)
    moves = told.actions[ragged(_starts(told.counts)[rows], counts)].astype(np.int64)
    try:
        found = Path(states[rows - 1], counts, moves).rebuilt(game)
    except IllegalActionError:  # what was told is of another kind of play: nothing can be relied on
        return whole
    whole[rows] = (found != states[rows]).any(axis=1)
    most, since = interval(game), 0
    for row, (alone, count) in enumerate(zip(whole.tolist(), told.counts.tolist(), strict=True)):
        since = 0 if alone or since + count > most else since + count
        if not since:
            whole[row] = True
    return whole
