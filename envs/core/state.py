"""One state of a game for Python: `State`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from playout.envs.core import _table, _text
from playout.envs.core.arrays import as_index, as_seed
from playout.envs.core.state_batch import StateBatch
from playout.errors import GameError, IllegalActionError

if TYPE_CHECKING:
    from playout.envs.core.game import NativeGame

TERMINAL: int = _table.TERMINAL
CHANCE: int = _table.CHANCE


class State:
    """One state, never changed: `apply` returns a new one.

    Attributes:
        game: The game it belongs to.
        ply: Moves played so far, or None if it was read from text or bytes.
    """

    __slots__ = ("_data", "game", "ply")

    def __init__(self, game: NativeGame, data: bytes, ply: int | None = None) -> None:
        self.game = game
        self._data = data
        self.ply = ply

    @property
    def to_play(self) -> int:
        """The player to move, TERMINAL (-1) or CHANCE (-2)."""
        return _table.to_play(self.game.capsule, self._data)

    @property
    def is_terminal(self) -> bool:
        """Is the game over?"""
        return self.to_play == TERMINAL

    @property
    def legal_actions(self) -> list[int]:
        """The legal actions in rising order, at a chance node its outcomes; none at the end."""
        return _table.legal(self.game.capsule, self._data)

    @property
    def chance_outcomes(self) -> list[tuple[int, float]]:
        """The outcomes of a chance node with their probabilities; nothing elsewhere."""
        return _table.outcomes(self.game.capsule, self._data)

    def resolve_chance(self, seed: int, *, stream: int = 0, counter: int = 0) -> State:
        """Draws chance outcomes until a player is to move or the game is over.

        See `StateBatch.resolve_chance`, whose draws these are.
        """
        if self.to_play != CHANCE:
            return self
        batch = StateBatch.from_states([self])
        played = int(batch.resolve_chance(seed, streams=[stream], counter=counter)[0])
        return State(
            self.game, batch.data.tobytes(), None if self.ply is None else self.ply + played
        )

    @property
    def action_mask(self) -> NDArray[np.uint8]:
        """uint8 [A]: 1 where an action is legal."""
        mask = np.zeros(self.game.num_actions, np.uint8)
        mask[self.legal_actions] = 1
        return mask

    @property
    def returns(self) -> NDArray[np.float32]:
        """float32 [P]: the result of a finished game, zeros before.

        With rewards along the way: what each player has collected so far.
        """
        return _table.returns(self.game.capsule, self._data)

    @property
    def hash(self) -> int:
        """64 bits that are equal for equal positions."""
        return _table.hash_of(self.game.capsule, self._data)

    @property
    def eval_key(self) -> int:
        """64 bits of all that an evaluation of the position depends on; see playout_game.h."""
        return _table.eval_key(self.game.capsule, self._data)

    def info_key(self, player: int | None = None) -> int:
        """64 bits of all that `player` knows here; None: the side to move, else player 0."""
        return _table.info_key(self.game.capsule, self._data, self._viewer(player))

    def _viewer(self, player: int | None) -> int:
        """Who looks: `player`, for None the side to move, else player 0."""
        if player is None:
            return max(self.to_play, 0)
        return as_index(player, "player", self.game.num_players, self.game.name)

    def resample(
        self, seed: int, player: int | None = None, *, stream: int = 0, fill: int = 0
    ) -> State:
        """A state that `player` cannot tell from this one, drawn by the chances of what is hidden.

        Args:
            seed: Names the generator, together with `stream`; 0 to 2^64 - 1.
            player: Who looks; None: the side to move, else player 0.
            stream: Another number gives another draw.
            fill: The byte in the memory that it is written over.
        """
        data = _table.resample(
            self.game.capsule,
            self._data,
            self._viewer(player),
            as_seed(seed),
            as_seed(stream, "a stream"),
            fill=fill,
        )
        return State(self.game, data, self.ply)

    @property
    def score(self) -> NDArray[np.float32] | None:
        """float32 [P]: the game's own score of a finished state, such as a margin in points.

        Zeros before the end; None where the game has none.
        """
        return _table.score(self.game.capsule, self._data)

    def targets(self, player: int = 0) -> NDArray[np.float32] | None:
        """float32 [T, H, W] in [-1, 1]: what a finished state teaches beside its result.

        As `player` sees it, such as who owns each cell. Zeros before the end; None where the game
        has none.
        """
        return _table.targets(self.game.capsule, self._data, self._viewer(player))

    @property
    def text(self) -> str:
        """The position as one line that `NativeGame.from_text` reads."""
        return _text.write_state(self.game.capsule, self._data)

    def apply(self, action: int) -> State:
        """The state after `action`; IllegalActionError if it may not be played."""
        if isinstance(action, bool) or not isinstance(action, int | np.integer):
            raise TypeError(f"an action must be an integer, got {type(action).__name__}")
        if not 0 <= action < self.game.num_actions:
            limit = self.game.num_actions - 1
            raise IllegalActionError(f"{self.game.name}: action {action} is not 0 to {limit}")
        data = _table.apply(self.game.capsule, self._data, int(action))
        return State(self.game, data, None if self.ply is None else self.ply + 1)

    def observe(self, player: int | None = None) -> NDArray[np.float32]:
        """float32 [C, H, W] as `player` sees it; None: the side to move, at the end player 0."""
        return _table.observe(self.game.capsule, self._data, self._viewer(player))

    def view(self, player: int | None = None) -> str:
        """The board for people as `player` sees it; None: the side to move, else player 0."""
        return _text.write_view(self.game.capsule, self._data, self._viewer(player))

    def action_text(self, action: int) -> str:
        """The notation of an action."""
        number = as_index(action, "action", self.game.num_actions, self.game.name)
        return _text.write_action(self.game.capsule, self._data, number)

    def read_action(self, text: str) -> int:
        """The action that `text` names, legal or not; IllegalActionError if it names none."""
        if not isinstance(text, str):
            raise TypeError(f"an action must be text, got {type(text).__name__}")
        return _text.read_action(self.game.capsule, self._data, text)

    def symmetry(self, k: int) -> State:
        """The state as symmetry `k` shows it."""
        k = as_index(k, "symmetry", self.game.num_symmetries, self.game.name)
        return State(self.game, _table.symmetry(self.game.capsule, self._data, k), self.ply)

    def symmetry_key(self, k: int) -> int:
        """`eval_key` of `symmetry(k)`, which some games tell without that state."""
        k = as_index(k, "symmetry", self.game.num_symmetries, self.game.name)
        return _table.symmetry_key(self.game.capsule, self._data, k)

    def to_bytes(self) -> bytes:
        """The state's bytes, which `NativeGame.from_bytes` reads."""
        return self._data

    def __str__(self) -> str:
        return _text.write_board(self.game.capsule, self._data)

    def __repr__(self) -> str:
        return f"<State of {self.game}: {self.text}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, State):
            return NotImplemented
        return self._data == other._data and self.game == other.game

    def __hash__(self) -> int:
        return hash(self._data)

    def __reduce__(self) -> tuple[Any, ...]:
        return restored, (self.game, self._data, self.ply)

    def __deepcopy__(self, memo: object = None) -> State:
        return self

    __copy__ = __deepcopy__


def restored(game: NativeGame, data: bytes, ply: int | None) -> State:
    """A state that was copied to another process; its bytes are examined."""
    state = game.from_bytes(data)
    if ply is not None and not (isinstance(ply, int) and 0 <= ply <= game.max_plies):
        raise GameError(f"{game.name}: {ply!r} is not the number of moves played")
    state.ply = ply
    return state


def possible_moves(state: State) -> str:
    """The legal moves in the game's notation, for people: all of them, or the first and last."""
    names = [state.action_text(action) for action in state.legal_actions]
    return " ".join(names) if len(names) <= 30 else f"{names[0]} ... {names[-1]}"
