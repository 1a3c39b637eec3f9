"""What a game written in Python answers, examined: its mistakes become a GameError that names them.

`Rules` stands between the game and the C table (_python_game.pyx), and stands in for the methods
that the game leaves out. What a game may have, and how it is put behind the table, says
python_game.py.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from playout.errors import GameError, IllegalActionError, PlayoutError

if TYPE_CHECKING:
    from playout.envs.core.python_game import Game


MAX_GOAL = 1000
"""Characters in which a game says how it is won; prompts hold them every time."""


def is_sentence(text: str) -> bool:
    """Can this be told in a line?"""
    return len(text) <= MAX_GOAL and (text.isprintable() or not text) and text == text.strip()


class Rules:
    """A game's answers, examined, and what stands in for the methods that it leaves out.

    Attributes:
        zero_sum: Do the results add up to 0?
        max_legal: As the game declares it, or 0.
        side_planes: As the game declares them, or None.
        hidden: Do players see a part only?
        target_planes: Planes that `targets` gives; 0 without it.
        text_leaves_out_history: Does a state's text leave out what only rules of repetition ask?
        value_scale: How large results may be, or with rewards along the way about are.
        step_rewards: Are there rewards along the way?
        goal: What ends the game and who has won then, in words; empty where nothing is said.
    """

    def __init__(self, game: Game) -> None:
        self.game = game
        self.players, self.actions = game.num_players, game.num_actions
        self.shape = tuple(int(side) for side in game.obs_shape)
        declared = getattr(game, "zero_sum", None)
        self.zero_sum: bool = self.players == 2 if declared is None else declared
        self.max_legal: int = getattr(game, "max_legal", None) or 0
        self.side_planes: tuple[int, int] | None = getattr(game, "side_planes", None)
        self.has_chance = self.has("chance")
        self.hidden: bool = getattr(game, "hidden", False)
        self.text_leaves_out_history: bool = getattr(game, "text_leaves_out_history", False)
        self.target_planes: int = getattr(game, "target_planes", 0)
        self.value_scale = getattr(game, "value_scale", 1.0)
        self.step_rewards: bool = getattr(game, "step_rewards", False)
        goal = getattr(game, "goal", "")
        # A number or a cell of that name is the game's own affair.
        self.goal = goal if isinstance(goal, str) else ""
        kind = type(game).__name__
        if not is_sentence(self.goal):
            raise GameError(
                f"{kind}.goal must be a text of one line and at most {MAX_GOAL} characters, got "
                f"{self.goal!r:.80}"
            )
        for flag in ("step_rewards", "hidden", "zero_sum", "text_leaves_out_history"):
            if not isinstance(getattr(self, flag), bool):
                raise GameError(f"{kind}.{flag} must be True or False, got {getattr(self, flag)!r}")
        planes_given = self.target_planes
        if not _is_int(planes_given) or not 0 <= planes_given <= 64:
            raise GameError(f"{kind}.target_planes must be an integer to 64, got {planes_given!r}")
        if bool(planes_given) != self.has("targets"):
            raise GameError(f"{kind} needs both target_planes and targets(state, player), or none")
        if self.hidden and not callable(getattr(game, "info_key", None)):
            raise GameError(f"{kind}.hidden is True, but there is no info_key(state, player)")
        scale = self.value_scale
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < np.inf:
            raise GameError(f"{kind}.value_scale must be a positive number, got {scale!r}")
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

    def has(self, method: str) -> bool:
        """Has the game a method of that name, which it may leave out?"""
        return callable(getattr(self.game, method, None))

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
        """The results, float32 [P], of a state that is over; or what was collected until any."""
        most = np.float32(np.finfo(np.float32).max if self.step_rewards else self.value_scale)
        numbers = np.asarray(self.game.returns(state), dtype=np.float32)
        if numbers.shape != (self.players,) or not np.all(np.abs(numbers) <= most):
            raise GameError(
                f"returns() returned {numbers.tolist()}: not {self.players} numbers in "
                f"[-{most:g}, {most:g}]"
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

    def score(self, state: Any) -> NDArray[np.float32]:
        """The game's own score, float32 [P], of a state that is over."""
        numbers = np.ascontiguousarray(self.game.score(state), dtype=np.float32)  # type: ignore[attr-defined]
        if numbers.shape != (self.players,) or not np.all(np.isfinite(numbers)):
            raise GameError(f"score() returned {numbers.tolist()}: not {self.players} numbers")
        return numbers

    def targets(self, state: Any, player: int) -> NDArray[np.float32]:
        """What a state that is over teaches, float32 [T, H, W] in [-1, 1], as `player` sees it."""
        given = self.game.targets(state, player)  # type: ignore[attr-defined]
        numbers = np.ascontiguousarray(given, dtype=np.float32)
        shape = (self.target_planes, *self.shape[1:])
        if numbers.shape != shape or not np.all(np.abs(numbers) <= 1):
            raise GameError(
                f"targets() returned shape {numbers.shape}, up to {np.max(np.abs(numbers)):g}: "
                f"not {shape} in [-1, 1]"
            )
        return numbers

    def hash(self, state: Any) -> int:
        """64 bits that are equal for equal positions."""
        return _key(self.game.hash(state), "hash()")  # type: ignore[attr-defined]

    def eval_key(self, state: Any) -> int:
        """64 bits of what the observation for the side to move and its legal actions depend on."""
        return _key(self.game.eval_key(state), "eval_key()")  # type: ignore[attr-defined]

    def info_key(self, state: Any, player: int) -> int:
        """64 bits of all that `player` knows."""
        return _key(self.game.info_key(state, player), "info_key()")  # type: ignore[attr-defined]

    def resample(self, state: Any, player: int, seed: int) -> Any:
        """A state that `player` cannot tell from this one."""
        draw = self.game.resample  # type: ignore[attr-defined]
        found = draw(state, player, np.random.default_rng(seed))
        if found is None:
            raise GameError("resample() returned None: it must return a state")
        return found

    def view_text(self, state: Any, player: int) -> str:
        """What `player` sees, as several lines for people."""
        return str(self.game.view_text(state, player))  # type: ignore[attr-defined]

    def symmetry(self, state: Any, k: int) -> Any:
        """The state as symmetry `k` shows it."""
        return self.game.symmetry(state, k) if k else state  # type: ignore[attr-defined]

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


def _key(known: Any, what: str) -> int:
    """64 bits of text, bytes, an integer or a tuple of them."""
    parts = known if isinstance(known, tuple) else (known,)
    if not all(isinstance(part, str | bytes | int) for part in parts):
        raise GameError(
            f"{what} returned {known!r:.200}: not text, bytes, an integer or a tuple of them"
        )
    return int.from_bytes(blake2b(repr(known).encode(), digest_size=8).digest(), "little")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
