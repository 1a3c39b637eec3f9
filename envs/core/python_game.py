"""Games written in Python: the `Game` protocol, and `from_python` to put one behind the C table.

The table's functions call back into Python, so that search, environments, matches and the solver
know nothing of Python games; they run at Python's speed. An exception inside a callback comes out
of the call that caused it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from numpy.typing import ArrayLike
from playout.envs.core import _python_game
from playout.envs.core.game import NativeGame
from playout.errors import GameError

_SIZES = ("num_players", "num_actions", "max_plies")
_METHODS = (
    "initial_state",
    "to_play",
    "legal_actions",
    "apply",
    "returns",
    "observe",
    "encode",
    "decode",
)


@runtime_checkable
class Game(Protocol):
    """What a game written in Python has to offer. States are objects that nobody changes.

    Besides these, a game may have:
        state_bytes (int): the most bytes that `encode` returns; by default as many as the first
            state has.
        action_text(state, action) -> str, read_action(state, text) -> int: notation; by default
            the action's number.
        state_text(state) -> str, read_state(text) -> state: a state as one line; by default its
            bytes in hexadecimal digits. Both or none.
        board_text(state) -> str: several lines for people.
        check(state) -> bool: can play reach it? Asked about states from files.
        num_symmetries (int), symmetry(state, k) -> state, symmetry_action(k, action) -> int:
            symmetries of the board, number 0 being the identity. All or none.

    Attributes:
        name: An identifier such as "nim".
        num_players: P.
        num_actions: A; actions are numbered from 0.
        max_plies: No game is longer.
        obs_shape: (C, H, W) of an observation.
    """

    name: str
    num_players: int
    num_actions: int
    max_plies: int
    obs_shape: tuple[int, int, int]

    def initial_state(self) -> Any:
        """The state before the first move."""

    def to_play(self, state: Any) -> int:
        """The player to move, or -1 when the game is over."""

    def legal_actions(self, state: Any) -> Iterable[int]:
        """The legal actions of a state that is not over; at least one."""

    def apply(self, state: Any, action: int) -> Any:
        """The state after a legal action, as a new object."""

    def returns(self, state: Any) -> Sequence[float]:
        """The results [P], each in [-1, 1], of a state that is over."""

    def observe(self, state: Any, player: int) -> ArrayLike:
        """Numbers [C, H, W]: the state as `player` sees it."""

    def encode(self, state: Any) -> bytes:
        """The state as bytes; equal positions give equal bytes."""

    def decode(self, data: bytes) -> Any:
        """The state that `encode` wrote; raises ValueError for other bytes."""


class Notation:
    """Text and validity of a game's states: by its own methods, or by what stands in for them."""

    def __init__(self, game: Game) -> None:
        self.game = game

    def action_text(self, state: Any, action: int) -> str:
        """The game's notation, or the action's number."""
        own = getattr(self.game, "action_text", None)
        return str(action) if own is None else str(own(state, action))

    def read_action(self, state: Any, text: str, legal: Sequence[int]) -> int | None:
        """The action of that notation, or the legal one that is written so, or None."""
        if hasattr(self.game, "read_action"):
            found: int | None = self.game.read_action(state, text)
            return found
        return next((action for action in legal if self.action_text(state, action) == text), None)

    def state_text(self, state: Any) -> str:
        """One line, or the encoded bytes in hexadecimal digits."""
        own = getattr(self.game, "state_text", None)
        return str(self.game.encode(state).hex() if own is None else own(state))

    def read_state(self, text: str) -> Any:
        """The state that `state_text` wrote; raises anything for other text."""
        own = getattr(self.game, "read_state", None)
        return self.game.decode(bytes.fromhex(text)) if own is None else own(text)

    def board_text(self, state: Any) -> str:
        """Several lines for people, or the state's line."""
        own = getattr(self.game, "board_text", None)
        return self.state_text(state) if own is None else str(own(state))

    def is_reachable(self, state: Any) -> bool:
        """Can play reach the state? True where the game cannot tell."""
        own = getattr(self.game, "check", None)
        return own is None or bool(own(state))


def from_python(game: Game, *, params: Mapping[str, Any] | None = None) -> NativeGame:
    """Puts a game written in Python behind the C table.

    Args:
        game: An object that follows `Game`.
        params: Parameters to show in its name and in records.

    Raises:
        GameError: Something is missing or of the wrong kind.
    """
    kind = type(game).__name__
    missing = [method for method in _METHODS if not callable(getattr(game, method, None))]
    missing += [field for field in ("name", *_SIZES, "obs_shape") if not hasattr(game, field)]
    if missing:
        raise GameError(f"{kind} is not a game: it lacks {', '.join(missing)}")
    if not isinstance(game.name, str) or not game.name.isidentifier() or len(game.name) > 63:
        raise GameError(f"{kind}.name must be an identifier such as 'nim', got {game.name!r}")
    for field in _SIZES:
        value = getattr(game, field)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
            raise GameError(f"{kind}.{field} must be a positive integer, got {value!r}")
    shape = game.obs_shape
    if len(shape) != 3 or not all(isinstance(side, int) and 0 < side < 2**31 for side in shape):
        raise GameError(f"{kind}.obs_shape must be three positive integers, got {shape!r}")
    for group in (
        ("state_text", "read_state"),
        ("num_symmetries", "symmetry", "symmetry_action"),
    ):
        there = [field for field in group if hasattr(game, field)]
        if there and len(there) != len(group):
            raise GameError(f"{kind} has {there[0]} but not all of {', '.join(group)}")
    symmetries = getattr(game, "num_symmetries", 1)
    if isinstance(symmetries, bool) or not isinstance(symmetries, int) or symmetries < 1:
        raise GameError(f"{kind}.num_symmetries must be a positive integer, got {symmetries!r}")
    first = game.encode(game.initial_state())
    if not isinstance(first, bytes):
        raise GameError(f"{kind}.encode() returned {type(first).__name__}, not bytes")
    room = getattr(game, "state_bytes", len(first))
    if isinstance(room, bool) or not isinstance(room, int) or not len(first) <= room <= 2**19:
        raise GameError(
            f"{kind}.state_bytes must be an integer from {len(first)} to {2**19}, got {room!r}"
        )
    return NativeGame(_python_game.make(game, Notation(game), room), params=params)
