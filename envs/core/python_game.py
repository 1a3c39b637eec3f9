"""Games written in Python: the `Game` protocol, and `from_python` to put one behind the C table.

The table's functions call back into Python, so that search, environments, matches and the solver
know nothing of Python games; they run at Python's speed. An exception inside a callback comes out
of the call that caused it, as the cause of a GameError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from numpy.typing import ArrayLike
from playout.envs.core import _python_game
from playout.envs.core.game import NativeGame
from playout.envs.core.rules import Rules
from playout.errors import GameError

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
        value_scale (float): results lie in [-value_scale, value_scale], 1 by default; search and
            learning divide by it.
        step_rewards (bool): are there rewards along the way? Then `returns` is asked about every
            state, and gives what each player has collected so far, in units of any scale; the
            reward of a move is what that grows by, and value_scale is about what good play brings.
        hidden (bool): players see only a part of the state, as `observe` shows it; needs info_key.
        info_key(state, player) -> str, bytes, int or a tuple of them: all that the player knows,
            equal for states that it cannot tell apart.
        resample(state, player, rng) -> state: one that the player cannot tell from this, drawn by
            the chances of what is hidden; `rng` is a numpy Generator.
        view_text(state, player) -> str: what the player sees of the board, for people.
        hash(state), eval_key(state) -> str, bytes, int or a tuple of them: equal for positions with
            the same future, by default the encoded bytes; and equal where the observation for the
            side to move and its legal actions are, so that searches may share an evaluation, by
            default `hash`.
        score(state) -> [P]: of a state that is over, such as a margin in points; learned beside the
            result.
        target_planes (int), targets(state, player) -> [target_planes, H, W] in [-1, 1]: what a
            state that is over teaches, such as who owns each cell as `player` sees it.
        text_leaves_out_history (bool): read back from its line, a state has the same text, but has
            forgotten what only rules of repetition ask for.
        goal (str): what ends the game and who has won then, in a sentence or two, such as "Who
            takes the last stone wins."; language policies read it.

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
        """The results [P], each in [-1, 1] (see value_scale), of a state that is over.

        With rewards along the way (step_rewards): of any state, what was collected so far.
        """

    def observe(self, state: Any, player: int) -> ArrayLike:
        """Numbers [C, H, W]: the state as `player` sees it."""

    def encode(self, state: Any) -> bytes:
        """The state as bytes; equal positions give equal bytes."""

    def decode(self, data: bytes) -> Any:
        """The state that `encode` wrote; raises ValueError for other bytes."""


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
        source=game,
    )
