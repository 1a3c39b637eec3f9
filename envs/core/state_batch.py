"""Many states of one game in one array: `StateBatch`.

Shapes: B states, P players, A actions, (C, H, W) an observation. Every method is one pass in C
without the GIL. Wrong shapes, types and illegal actions are refused before anything is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from playout.envs.core import _batch, arrays
from playout.envs.core.arrays import ALL, as_integers, as_rows, as_seed, as_streams, out_array
from playout.errors import GameError, IllegalActionError

if TYPE_CHECKING:
    from playout.envs.core.game import NativeGame, State


class StateBatch:
    """B states in one array."""

    __slots__ = ("_data", "_game")

    def __init__(self, game: NativeGame, n: int) -> None:
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
            raise ValueError(f"a batch needs a number of states from 0 up, got {n!r}")
        self._game = game
        self._data: NDArray[np.uint8] = np.zeros((int(n), game.state_size), np.uint8)
        _batch.fill(game.capsule, self._data, ALL)

    @property
    def game(self) -> NativeGame:
        """The game they belong to."""
        return self._game

    @property
    def data(self) -> NDArray[np.uint8]:
        """uint8 [B, state_size], the states themselves; valid state bytes may be written to it."""
        return self._data

    @classmethod
    def from_data(
        cls, game: NativeGame, data: NDArray[np.uint8], *, check: bool = True
    ) -> StateBatch:
        """A batch over an array of state bytes.

        Args:
            game: The game they belong to.
            data: uint8 [B, state_size], C-contiguous; used as it is, not copied.
            check: Examine every row; leave it out only for bytes that come from this process.
        """
        data = out_array(data, (len(data), game.state_size), np.uint8, "data")
        if data.ctypes.data % 8:
            data = data.copy()
        batch = cls.__new__(cls)
        batch._game, batch._data = game, data
        if check:
            for row in range(len(data)):
                try:
                    game.from_bytes(data[row].tobytes())
                except GameError as error:
                    raise GameError(f"row {row}: {error}") from None
        return batch

    @classmethod
    def from_states(cls, states: Sequence[State]) -> StateBatch:
        """A batch of single states of one game."""
        if not states:
            raise ValueError("from_states needs at least one state")
        game = states[0].game
        if any(state.game != game for state in states):
            raise ValueError("the states belong to different games")
        data = np.frombuffer(b"".join(state.to_bytes() for state in states), np.uint8)
        return cls.from_data(game, data.reshape(len(states), game.state_size).copy(), check=False)

    @staticmethod
    def concatenate(batches: Sequence[StateBatch]) -> StateBatch:
        """All states of several batches of one game."""
        if not batches:
            raise ValueError("concatenate needs at least one batch")
        game = batches[0].game
        if any(batch.game != game for batch in batches):
            raise ValueError("the batches belong to different games")
        data = np.concatenate([batch.data for batch in batches])
        return StateBatch.from_data(game, data, check=False)

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[State]:
        return (self[row] for row in range(len(self)))

    @overload
    def __getitem__(self, rows: int) -> State: ...
    @overload
    def __getitem__(self, rows: slice | NDArray[Any] | list[int]) -> StateBatch: ...
    def __getitem__(self, rows: Any) -> State | StateBatch:
        if isinstance(rows, int | np.integer):
            return self.game.from_bytes(self.data[rows].tobytes(), check=False)
        data = np.array(self.data[rows], order="C", copy=True)
        return StateBatch.from_data(self.game, data, check=False)

    def __setitem__(self, rows: Any, states: State | StateBatch) -> None:
        if states.game != self.game:
            raise ValueError(f"states of {states.game} do not fit into a batch of {self.game}")
        if isinstance(states, StateBatch):
            self.data[rows] = states.data
        else:
            self.data[rows] = np.frombuffer(states.to_bytes(), np.uint8)

    def __repr__(self) -> str:
        return f"<{len(self)} states of {self.game}>"

    def __reduce__(self) -> tuple[Any, ...]:  # every row is examined when they come back
        return StateBatch.from_data, (self.game, self.data)

    def __deepcopy__(self, memo: object = None) -> StateBatch:
        return self.copy()

    __copy__ = __deepcopy__

    def copy(self) -> StateBatch:
        """An independent copy."""
        return StateBatch.from_data(self.game, self.data.copy(), check=False)

    def tile(self, n: int) -> StateBatch:
        """Each state `n` times in a row: B * n states."""
        return StateBatch.from_data(self.game, np.repeat(self.data, n, axis=0), check=False)

    def to_play(self) -> NDArray[np.int32]:
        """int32 [B]: the player to move, TERMINAL (-1) or CHANCE (-2)."""
        out = np.empty(len(self), np.int32)
        _batch.to_play(self.game.capsule, self.data, out)
        return out

    def is_terminal(self) -> NDArray[np.bool_]:
        """For every row, bool [B]: is the game over?"""
        return self.to_play() == -1

    def legal_mask(self, out: NDArray[Any] | None = None) -> NDArray[np.uint8]:
        """uint8 [B, A]: 1 where an action is legal; at a chance node its outcomes."""
        mask = out_array(out, (len(self), self.game.num_actions), np.uint8)
        _batch.legal_mask(self.game.capsule, self.data, mask.view(np.uint8))
        return mask

    def observe(
        self, out: NDArray[Any] | None = None, player: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """float32 [B, C, H, W] as `player` (one number or [B]) sees it; None is the side to move.

        At the end of a game None is player 0.
        """
        size = len(self)
        obs = out_array(out, (size, *self.game.obs_shape), np.float32)
        players = self._players(player)
        _batch.observe(self.game.capsule, self.data, players, obs.reshape(size, self._plane))
        return obs

    def _players(self, player: ArrayLike | None) -> NDArray[np.int32]:
        return arrays.as_players(player, len(self), self.game.num_players)

    @property
    def _plane(self) -> int:
        channels, height, width = self.game.obs_shape
        return channels * height * width

    def returns(self) -> NDArray[np.float32]:
        """float32 [B, P]: results of finished games, zeros elsewhere.

        With rewards along the way: what each player has collected so far.
        """
        out = np.empty((len(self), self.game.num_players), np.float32)
        _batch.returns(self.game.capsule, self.data, out)
        return out

    def hash(self) -> NDArray[np.uint64]:
        """uint64 [B], equal for equal positions."""
        out = np.empty(len(self), np.uint64)
        _batch.hashes(self.game.capsule, self.data, out)
        return out

    def info_key(self, player: ArrayLike | None = None) -> NDArray[np.uint64]:
        """uint64 [B]: what `player` (as in `observe`) knows; the same where it sees the same."""
        players, out = self._players(player), np.empty(len(self), np.uint64)
        _batch.info_keys(self.game.capsule, self.data, players, out)
        return out

    def resample(
        self, seed: int, player: ArrayLike | None = None, *, streams: ArrayLike | None = None
    ) -> StateBatch:
        """States that `player` (as in `observe`) cannot tell from these; see `State.resample`."""
        players, out = self._players(player), np.zeros_like(self.data)
        named = as_streams(streams, len(self))
        _batch.resample(self.game.capsule, self.data, players, as_seed(seed), named, out)
        return StateBatch.from_data(self.game, out, check=False)

    def eval_key(self) -> NDArray[np.uint64]:
        """uint64 [B]: all that an evaluation of each position depends on."""
        out = np.empty(len(self), np.uint64)
        _batch.eval_keys(self.game.capsule, self.data, out)
        return out

    def chance_probs(self) -> NDArray[np.float64]:
        """float64 [B, A]: probabilities at chance nodes, zeros in other rows."""
        out = np.empty((len(self), self.game.num_actions), np.float64)
        _batch.chance_probs(self.game.capsule, self.data, out)
        return out

    def symmetry(self, k: ArrayLike, *, fill: int = 0) -> StateBatch:
        """Each state as symmetry `k` (one number or [B]) shows it, written over bytes of `fill`."""
        kinds = as_integers(k, len(self), "k")
        if len(self) and not 0 <= kinds.min() <= kinds.max() < self.game.num_symmetries:
            raise ValueError(
                f"a symmetry of {self.game} must be 0 to {self.game.num_symmetries - 1}"
            )
        out = np.full_like(self.data, fill)
        _batch.symmetry(self.game.capsule, self.data, kinds, out)
        return StateBatch.from_data(self.game, out, check=False)

    def _raise_illegal(self, row: int, action: int) -> None:
        try:
            self[row].apply(action)
        except IllegalActionError as error:
            raise IllegalActionError(f"row {row}: {error}") from None
        raise IllegalActionError(f"row {row}: action {action} is not legal here")

    def apply(self, actions: ArrayLike, where: ArrayLike | None = None) -> None:
        """Plays one action a row, in place.

        Args:
            actions: Integers [B].
            where: bool [B] or row numbers: only these rows move.

        Raises:
            IllegalActionError: Names the first bad row; no state has changed then.
        """
        moves = as_integers(actions, len(self), "actions")
        bad = _batch.apply(self.game.capsule, self.data, moves, as_rows(where, len(self)))
        if bad >= 0:
            self._raise_illegal(bad, int(moves[bad]))

    def reset(self, where: ArrayLike | None = None) -> None:
        """Sets rows (default all) to the first state."""
        _batch.fill(self.game.capsule, self.data, as_rows(where, len(self)))

    def step(
        self,
        actions: ArrayLike,
        where: ArrayLike | None = None,
        *,
        reset_finished: bool = False,
        obs: NDArray[np.float32] | None = None,
        mask: NDArray[Any] | None = None,
        rewards: NDArray[np.float32] | None = None,
        returns: NDArray[np.float32] | None = None,
        ended: NDArray[Any] | None = None,
        to_play: NDArray[np.int32] | None = None,
    ) -> None:
        """`apply` and all that an environment tells about the new states, in one pass.

        Only the arrays that are given are written, and only in rows that `where` picks.

        Args:
            actions: Integers [B].
            where: bool [B] or row numbers: only these rows are touched.
            reset_finished: Rows that are over on entry restart, whatever their action is.
            obs: float32 [B, C, H, W], as the side to move sees the new state (player 0 at the end).
            mask: uint8 (or bool, int8) [B, A], legal actions of the new state.
            rewards: float32 [B], the result for the player who has just moved; with rewards along
                the way, what the move has brought that player (nothing at a chance node).
            returns: float32 [B, P], the result for every player, as `returns` gives it.
            ended: uint8 (or bool) [B], is the new state the end?
            to_play: int32 [B], who moves next.

        Raises:
            IllegalActionError: Names the first bad row; nothing has changed then.
        """
        game, size = self.game, len(self)
        moves = as_integers(actions, size, "actions")
        given = {
            "obs": (obs, (size, *game.obs_shape), np.float32),
            "mask": (mask, (size, game.num_actions), np.uint8),
            "rewards": (rewards, (size,), np.float32),
            "returns": (returns, (size, game.num_players), np.float32),
            "ended": (ended, (size,), np.uint8),
            "to_play": (to_play, (size,), np.int32),
        }
        for what, (array, shape, dtype) in given.items():
            if array is not None:
                out_array(array, shape, dtype, what)
        bad = _batch.step(
            game.capsule,
            self.data,
            moves,
            as_rows(where, len(self)),
            reset_finished,
            arrays.NO_FLOAT_ROWS if obs is None else obs.reshape(size, self._plane),
            arrays.NO_BYTE_ROWS if mask is None else mask.view(np.uint8),
            arrays.NO_FLOATS if rewards is None else rewards,
            arrays.NO_FLOAT_ROWS if returns is None else returns,
            ALL if ended is None else ended.view(np.uint8),
            arrays.NO_INTS if to_play is None else to_play,
        )
        if bad >= 0:
            self._raise_illegal(bad, int(moves[bad]))

    def random_actions(
        self, seed: int, *, streams: ArrayLike | None = None, counter: int = 0
    ) -> NDArray[np.int32]:
        """int32 [B]: a random action a row, -1 where the game is over.

        Legal actions are equally likely, the outcomes of a chance node have their probabilities.
        The draw is a function of (seed, stream of the row, counter): pass the ply or a running
        number as `counter`.
        """
        size = len(self)
        out = np.empty(size, np.int32)
        _batch.random_actions(
            self.game.capsule,
            self.data,
            as_seed(seed),
            as_streams(streams, size),
            as_seed(counter),
            out,
        )
        return out

    def resolve_chance(
        self, seed: int, *, streams: ArrayLike | None = None, counter: int = 0
    ) -> NDArray[np.int32]:
        """Draws chance outcomes in place until in each row a player is to move or the game is over.

        The draws are a function of (seed, stream of the row, counter): pass the ply as `counter`,
        counting outcomes as plies, and no number is used twice.

        Returns:
            int32 [B]: how many outcomes were played.
        """
        size = len(self)
        played = np.zeros(size, np.int32)
        if self.game.has_chance:
            _batch.resolve_chance(
                self.game.capsule,
                self.data,
                as_seed(seed),
                as_streams(streams, size),
                as_seed(counter),
                played,
            )
        return played

    def random_plies(
        self, plies: ArrayLike, seed: int, *, streams: ArrayLike | None = None
    ) -> NDArray[np.int32]:
        """Plays `plies` (one number or [B]) random moves in place, never past the end.

        As `random_actions` draws them; a chance outcome is a ply.

        Returns:
            int32 [B]: how many plies were played.
        """
        size = len(self)
        counts = as_integers(plies, size, "plies")
        if size and counts.min() < 0:
            raise ValueError("plies must not be negative")
        played = np.empty(size, np.int32)
        _batch.random_plies(
            self.game.capsule, self.data, counts, as_seed(seed), as_streams(streams, size), played
        )
        return played

    def playouts(
        self, seed: int, *, count: int = 1, streams: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """float32 [B, P]: the mean result of `count` uniformly random games from each state."""
        if not 1 <= count < 2**31:
            raise ValueError(f"count must be at least 1, got {count}")
        size = len(self)
        out = np.empty((size, self.game.num_players), np.float32)
        scratch = np.empty(self.game.state_size, np.uint8)
        _batch.playouts(
            self.game.capsule,
            self.data,
            as_seed(seed),
            as_streams(streams, size),
            count,
            scratch,
            out,
        )
        return out
