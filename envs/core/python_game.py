"""Games written in Python: the `Game` protocol, and `from_python` to put one behind the C table.

The table's functions call back into Python, so that search, environments, matches and the solver
know nothing of Python games; they run at Python's speed. An exception inside a callback comes out
of the call that caused it, as the cause of a GameError.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from playout.envs.core import _python_game
from playout.envs.core.game import NativeGame
from playout.errors import GameError, IllegalActionError, PlayoutError

_SIZES = ("num_players", "num_actions", "max_plies")
METHODS = (
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
        chance(state) -> [(action, probability), ...]: dice. Asked where `to_play` is -2; the
            outcomes are actions that `apply` plays, and their probabilities add up to 1.
        zero_sum (bool): do the results of all players add up to 0? By default True for two
            players, False for another number.
        max_legal (int): the most legal actions, or chance outcomes, of any state; by default A.
        plies_left(state) -> int: at most how many plies are to come, chance outcomes included.
        side_planes ((int, int)): planes that show the side to move its own side, see
            playout_game.h.
        prover: builds what proves outcomes for the game, see `playout.mcts.exact`.

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
        """The player to move, -1 when the game is over, or -2 at a chance node."""

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


class Rules:
    """A game's answers, examined, and what stands in for the methods that it leaves out.

    Attributes:
        zero_sum: As the game declares it, or None.
        max_legal: As the game declares it, or 0.
        side_planes: As the game declares them, or None.
        has_chance: Has the game chance nodes?
        has_plies_left: Does the game bound the plies to come?
    """

    def __init__(self, game: Game) -> None:
        self.game = game
        self.players, self.actions = game.num_players, game.num_actions
        self.shape = tuple(int(side) for side in game.obs_shape)
        self.zero_sum: bool | None = getattr(game, "zero_sum", None)
        self.max_legal: int = getattr(game, "max_legal", None) or 0
        self.side_planes: tuple[int, int] | None = getattr(game, "side_planes", None)
        self.has_chance = callable(getattr(game, "chance", None))
        self.has_plies_left = callable(getattr(game, "plies_left", None))
        kind = type(game).__name__
        if self.zero_sum is not None and not isinstance(self.zero_sum, bool):
            raise GameError(f"{kind}.zero_sum must be True or False, got {self.zero_sum!r}")
        if not _is_int(self.max_legal) or not 0 <= self.max_legal <= self.actions:
            raise GameError(
                f"{kind}.max_legal must be an integer from 1 to num_actions {self.actions}, "
                f"got {self.max_legal!r}"
            )
        planes = self.side_planes
        if planes is not None and (
            not isinstance(planes, tuple) or len(planes) != 2 or not all(map(_is_int, planes))
        ):
            raise GameError(f"{kind}.side_planes must be two integers, got {planes!r}")

    def to_play(self, state: Any) -> int:
        """The player to move, -1 at the end or -2 at a chance node."""
        player = self.game.to_play(state)
        least = -2 if self.has_chance else -1
        if not isinstance(player, int | np.integer) or not least <= player < self.players:
            others = "-1 at the end"
            if player == -2:
                others += "; -2, a chance node, needs a method chance(state)"
            raise GameError(
                f"to_play() returned {player!r}, not a player 0 to {self.players - 1} or {others}"
            )
        return int(player)

    def legal_actions(self, state: Any) -> list[int]:
        """The legal actions of a state that is not over, in rising order."""
        found: object = self.game.legal_actions(state)
        try:
            given = list(found)  # type: ignore[call-overload]
            actions = sorted(map(int, given))
        except (TypeError, ValueError) as error:
            if own_method(error) is not None:  # a generator's own fault
                raise
            raise GameError(f"legal_actions() returned {found!r:.200}: not actions") from error
        if not actions:
            raise GameError("legal_actions() returned none in a state that is not over")
        self._need_actions(actions, "legal_actions()")
        return actions

    def outcomes(self, state: Any) -> tuple[list[int], list[float]]:
        """The outcomes of a chance node in rising order, and their probabilities."""
        chance: Callable[[Any], Iterable[tuple[int, float]]] = self.game.chance  # type: ignore[attr-defined]
        found = sorted((int(action), float(prob)) for action, prob in chance(state))
        actions, probs = [action for action, _ in found], [prob for _, prob in found]
        if not found:
            raise GameError("chance() returned no outcome")
        self._need_actions(actions, "chance()")
        if min(probs) < 0 or not abs(sum(probs) - 1) < 1e-6:
            raise GameError(
                f"chance() returned probabilities {probs[:20]}: they must not be negative, "
                "and add up to 1"
            )
        return actions, probs

    def _need_actions(self, actions: list[int], what: str) -> None:
        if len(set(actions)) != len(actions) or actions[0] < 0 or actions[-1] >= self.actions:
            raise GameError(
                f"{what} returned {actions[:20]}: not distinct numbers from 0 to {self.actions - 1}"
            )
        if self.max_legal and len(actions) > self.max_legal:
            raise GameError(
                f"{what} returned {len(actions)} actions, more than max_legal {self.max_legal}"
            )

    def plies_left(self, state: Any) -> int:
        """At most how many plies are to come."""
        bound: Callable[[Any], int] = self.game.plies_left  # type: ignore[attr-defined]
        left = bound(state)
        if not _is_int(left) or not 0 <= left <= self.game.max_plies:
            raise GameError(
                f"plies_left() returned {left!r}, not an integer from 0 to {self.game.max_plies}"
            )
        return left

    def returns(self, state: Any) -> NDArray[np.float32]:
        """The results, float32 [P], of a state that is over."""
        numbers = np.asarray(self.game.returns(state), dtype=np.float32)
        if numbers.shape != (self.players,) or not np.all(np.abs(numbers) <= 1):
            raise GameError(
                f"returns() returned {numbers.tolist()}: not {self.players} numbers in [-1, 1]"
            )
        return np.ascontiguousarray(numbers)

    def observe(self, state: Any, player: int) -> NDArray[np.float32]:
        """The planes, float32 [C, H, W], that `player` sees."""
        numbers = np.ascontiguousarray(self.game.observe(state, player), dtype=np.float32)
        if numbers.shape != self.shape:
            raise GameError(f"observe() returned shape {numbers.shape}, not obs_shape {self.shape}")
        if not np.all(np.isfinite(numbers)):
            raise GameError("observe() returned NaN or infinity")
        return numbers

    def symmetry_action(self, k: int, action: int) -> int:
        """Where symmetry `k` moves an action."""
        moved = int(self.game.symmetry_action(k, action))  # type: ignore[attr-defined]
        if not 0 <= moved < self.actions:
            raise GameError(f"symmetry_action({k}, {action}) returned {moved}")
        return moved

    def located(self, error: BaseException, data: bytes) -> BaseException:
        """What a callback raised, with the state it was about, if any, as text.

        `data` are the state's bytes: the length of the encoded state in four, and that state. An
        exception of the game becomes a GameError that names the game, the method and the state, and
        has the exception as its cause; an interrupt and other errors of ours stay what they are.
        """
        raw = data[4 : 4 + int.from_bytes(data[:4], sys.byteorder)]
        try:
            where = f"in the state {self.state_text(self.game.decode(raw))}" if data else ""
        except Exception:
            where = f"in the state {raw.hex()}"
        if isinstance(error, IllegalActionError) or not isinstance(error, Exception):
            return error
        if isinstance(error, GameError):
            what = str(error)
        elif isinstance(error, PlayoutError):
            return error
        else:
            what = f"{type(error).__name__}: {error}"
            method, asked = own_method(error), _asked(error)
            if method is not None:
                what = f"{method}() raised {what}"
            elif asked is not None:
                what = f"{asked}(): {what}"
        text = f"{self.game.name}: {what}{', ' if where else ''}{where}"
        found = GameError(" ".join(text.split()))
        found.__cause__ = error
        return found

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
    missing = [method for method in METHODS if not callable(getattr(game, method, None))]
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
    return NativeGame(
        _python_game.make(game, Rules(game), room),
        params=params,
        prover=getattr(game, "prover", None),
    )


def own_method(error: BaseException) -> str | None:
    """The function of the game's that an exception came out of; None where it is ours."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = (__file__, "_python_game.pyx")
    return next((frame.name for frame in frames if not frame.filename.endswith(ours)), None)


def _asked(error: BaseException) -> str | None:
    """The game's method that was asked when an exception arose outside of it."""
    frames = traceback.extract_tb(error.__traceback__)
    names = {"outcomes": "chance"}
    here = (frame.name for frame in frames if frame.filename == __file__)
    return next((names.get(name, name) for name in here if not name.startswith("<")), None)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
