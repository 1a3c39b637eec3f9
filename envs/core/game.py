"""Games for Python: `NativeGame`.

Everything here is derived from the C function table behind `NativeGame.capsule`; no game has code
of its own in this file. Single states stand in state.py, batches of states in state_batch.py, games
written in Python in python_game.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from playout.envs.catalogue import load
from playout.envs.core import _adopt, _batch, _python_game, _table, _text
from playout.envs.core.arrays import as_index, as_players, out_array
from playout.envs.core.state import CHANCE, TERMINAL, State, possible_moves
from playout.envs.core.state_batch import StateBatch
from playout.envs.game_text import instance_params, write
from playout.errors import GameError, IllegalActionError

__all__ = ["CHANCE", "TERMINAL", "NativeGame", "State", "StateBatch", "possible_moves"]


class NativeGame:
    """A game behind a C function table.

    Attributes:
        name: The game's name, such as "connect_four".
        params: The parameters it was made with.
        num_players: P; players are numbered from 0 in the order in which they first move.
        num_actions: A; actions are numbered from 0.
        max_plies: No game is longer.
        obs_shape: (C, H, W) of an observation.
        state_size: Bytes of a state.
        num_symmetries: Symmetries of the board, the identity (number 0) included.
        zero_sum: Do the results of all players add up to 0? Where the game does not declare it:
            True for two players, False for another number.
        has_chance: Are there chance nodes (dice, cards)?
        max_legal: The most legal actions, or chance outcomes, of any state; num_actions where the
            game does not declare it.
        side_planes: Planes (a, b) that tell the side to move apart: it is the sum of plane b less
            the sum of plane a, clamped to 0 and 1; or where b is -1 the mean of plane a. None where
            the game does not declare it.
        hidden: Do players see only a part of the state, such as their own cards?
        has_resample: Can it draw what a player does not see (`State.resample`)?
        step_rewards: Are there rewards along the way? Then results are their sums, of any scale.
        value_scale: Search and learning divide results by it, to [-1, 1]; with rewards along the
            way to about that.
        has_score: Has a finished state a score (`State.score`)?
        target_planes: T, planes that a finished state teaches beside its result (`State.targets`).
        text_leaves_out_history: Does a state's text leave out what only rules of repetition ask
            for?
        capsule: The PyCapsule that native code takes: a completed copy of the table given.
        origin: The text that `playout.game` makes a game of one's own from, "module:Name(size=6)";
            None for a built-in game, and where no text makes it.
    """

    __slots__ = (
        "_has_plies_left",
        "_initial",
        "_prover",
        "_single_letter",
        "_source",
        "_symmetry_actions",
        "capsule",
        "has_chance",
        "has_resample",
        "has_score",
        "hidden",
        "max_legal",
        "max_plies",
        "name",
        "num_actions",
        "num_players",
        "num_symmetries",
        "obs_shape",
        "origin",
        "params",
        "side_planes",
        "state_size",
        "step_rewards",
        "target_planes",
        "text_leaves_out_history",
        "value_scale",
        "zero_sum",
    )

    def __init__(
        self,
        capsule: Any,
        *,
        params: Mapping[str, Any] | None = None,
        prover: Callable[..., Any] | str | None = None,
        source: object = None,
    ) -> None:
        """Examines a capsule.

        Args:
            capsule: What playout_game_capsule() of playout_game.h makes.
            params: Parameters to show in the game's name; None: those that the table names.
            prover: Builds what proves outcomes for this game, or where it stands ("module:name").
            source: The object of a game in Python.
        """
        self.capsule = _adopt.adopt(capsule)
        sizes = _adopt.describe(self.capsule)
        self.name = sizes["name"]
        self.params = dict(sizes["parameters"] if params is None else params)
        self.origin: str | None = None
        self.num_players = sizes["num_players"]
        self.num_actions = sizes["num_actions"]
        self.max_plies = sizes["max_plies"]
        self.obs_shape = sizes["obs_shape"]
        self.state_size = sizes["state_size"]
        self.num_symmetries = sizes["num_symmetries"]
        self.zero_sum = sizes["zero_sum"]
        self.has_chance = sizes["has_chance"]
        self.max_legal = sizes["max_legal"]
        self.side_planes = sizes["side_planes"]
        self.hidden = sizes["hidden"]
        self.has_resample = sizes["has_resample"]
        self.step_rewards = sizes["step_rewards"]
        self.value_scale = sizes["value_scale"]
        self.has_score = sizes["has_score"]
        self.target_planes = sizes["target_planes"]
        self.text_leaves_out_history = sizes["text_leaves_out_history"]
        self._has_plies_left = sizes["has_plies_left"]
        self._prover, self._source = prover, source
        self._initial = _table.initial(self.capsule)
        self._single_letter: bool | None = None
        self._symmetry_actions: NDArray[np.int32] | None = None

    def __repr__(self) -> str:
        return f"<playout game {self}>"

    def __str__(self) -> str:
        """The text that `playout.game` reads back, such as "connect_four(width=5)"."""
        return write(self.name, self.params)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NativeGame):
            return NotImplemented
        if self.capsule is other.capsule:
            return True
        mine, theirs = _adopt.describe(self.capsule), _adopt.describe(other.capsule)
        if mine != theirs or self.params != other.params:
            return False
        return not (self.calls_python or other.calls_python) or self._runs_the_same(other)

    def _runs_the_same(self, other: NativeGame) -> bool:
        """Of games in Python with the same sizes: is it known that their rules are the same?"""
        if self.origin is not None and self.origin == other.origin:
            return True
        if _adopt.same_context(self.capsule, other.capsule):
            return True
        mine, theirs = self._source, other._source
        if mine is None or type(mine) is not type(theirs):
            return False
        return mine is theirs or _hold_the_same(mine, theirs)

    def __hash__(self) -> int:
        return hash((self.name, self.num_actions, self.state_size))

    def __deepcopy__(self, memo: object = None) -> NativeGame:
        return self

    __copy__ = __deepcopy__

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process: the text that makes it again there.

        Raises:
            GameError: It has none.
        """
        text: str | None = load("playout.envs.core.registry:game_text")(self)
        if text is None:
            raise GameError(
                f"{self} cannot be copied to another process, as no text makes it again: name a "
                "class of a module that can be imported, which keeps its arguments as attributes"
            )
        return load("playout.envs.core.registry:given_game"), (text,)

    @property
    def goal(self) -> str:
        """What ends the game and who has won then, in words; empty where the game is silent."""
        return _text.write_goal(self.capsule)

    def initial_state(self) -> State:
        """The state before the first move."""
        return State(self, self._initial, 0)

    def batch(self, n: int) -> StateBatch:
        """`n` first states."""
        return StateBatch(self, n)

    def from_bytes(self, data: bytes, *, check: bool = True) -> State:
        """The state that these bytes are; GameError if play cannot reach it.

        Args:
            data: As `State.to_bytes` gives them.
            check: Examine them; leave it out only for bytes that come from this process.
        """
        if not check:
            return State(self, data)
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"state bytes must be bytes, got {type(data).__name__}")
        data = bytes(data)
        if not _table.is_state(self.capsule, data):
            raise GameError(f"{self.name}: these {len(data)} bytes are not a state of this game")
        return State(self, data)

    def from_text(self, text: str) -> State:
        """The state that one line of text describes, as `State.text` writes it."""
        if not isinstance(text, str):
            raise TypeError(f"a position must be text, got {type(text).__name__}")
        return State(self, _text.read_state(self.capsule, text))

    def from_moves(self, moves: str | Sequence[str | int]) -> State:
        """Plays moves from the first state.

        Args:
            moves: A text of moves in the game's notation, with blanks or commas between them or
                without ("4455", "f5 d6" or "f5d6"), or a sequence whose texts are moves in notation
                and whose integers are action numbers.

        Raises:
            IllegalActionError: Names the ply that cannot be played.
        """
        state = self.initial_state()
        for ply, move in enumerate(self.split_moves(moves), 1):
            action = None
            try:
                action = state.read_action(move) if isinstance(move, str) else move
                state = state.apply(action)
            except IllegalActionError as error:
                reason = f": {error}"
                # Who writes moves as text need not know how actions are numbered.
                if isinstance(move, str) and action is not None and not state.is_terminal:
                    reason = f" cannot be played now; possible are {possible_moves(state)}"
                raise IllegalActionError(f"move {ply} ({str(move)[:40]!r}){reason}") from None
        return state

    def split_moves(self, moves: str | Sequence[str | int]) -> list[str | int]:
        """The single moves of a text; a sequence becomes a list.

        Blanks or commas part moves. Without any, "4455" is four moves where moves have one letter,
        and "f5d6c3" three where these can be played one after the other.
        """
        if not isinstance(moves, str):
            return list(moves)
        parts: list[str | int] = list(moves.replace(",", " ").split())
        if len(parts) != 1:
            return parts
        if self._single_letter is None:
            # Only legal moves have a notation; the first of the text is one of the start's.
            start = self.initial_state()
            texts = [start.action_text(action) for action in start.legal_actions]
            self._single_letter = all(len(text) == 1 for text in texts)
        return list(str(parts[0])) if self._single_letter else self._joined_moves(str(parts[0]))

    def _joined_moves(self, word: str) -> list[str | int]:
        """The moves that a word is made of, the longest first where several fit; else the word."""
        state, rest, found = self.initial_state(), word, list[str | int]()
        while rest:
            texts = [state.action_text(action) for action in state.legal_actions]
            fitting = [text for text in texts if rest.lower().startswith(text.lower())]
            move = rest[: max(map(len, fitting), default=0)]
            if not move:
                return [word]
            try:
                state = state.apply(state.read_action(move))
            except IllegalActionError:
                return [word]
            found.append(move)
            rest = rest[len(move) :]
        return found

    def symmetry_action(self, k: int, action: int) -> int:
        """The action that `action` becomes where symmetry `k` transforms the state."""
        k = as_index(k, "symmetry", self.num_symmetries, self.name)
        action = as_index(action, "action", self.num_actions, self.name)
        return _table.symmetry_action(self.capsule, k, action)

    def symmetry_actions(self) -> NDArray[np.int32]:
        """int32 [num_symmetries, A]: where each symmetry moves each action."""
        if self._symmetry_actions is None:
            kinds, actions = range(self.num_symmetries), range(self.num_actions)
            moved = [[_table.symmetry_action(self.capsule, k, a) for a in actions] for k in kinds]
            table = np.array(moved, np.int32)
            table.setflags(write=False)
            self._symmetry_actions = table
        return self._symmetry_actions

    @property
    def prover(self) -> Callable[..., Any] | None:
        """Builds what proves outcomes for this game (see mcts/exact), or None."""
        prover = load(self._prover) if isinstance(self._prover, str) else self._prover
        self._prover = prover
        return prover

    def plies_left(self, states: StateBatch | NDArray[np.uint8]) -> NDArray[np.int32] | None:
        """At most how many plies are still to come, int32 [B]; None if the game does not say.

        Args:
            states: States of this game, or their bytes uint8 [B, state_size].
        """
        if not self._has_plies_left:
            return None
        data = states.data if isinstance(states, StateBatch) else np.ascontiguousarray(states)
        if isinstance(states, StateBatch):
            self._need_own(states)
        if data.ndim != 2 or data.shape[1] != self.state_size or data.dtype != np.uint8:
            raise ValueError(
                f"states must be uint8 [B, {self.state_size}], got {data.dtype} {data.shape}"
            )
        out = np.empty(len(data), np.int32)
        _batch.plies_left(self.capsule, data, out)
        return out

    def final_scores(
        self, states: StateBatch, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """float32 [B, P]: the game's own scores of finished states, zeros elsewhere.

        Args:
            states: B states of this game.
            out: The array to write into.

        Raises:
            GameError: It has none (`has_score`).
        """
        if not self.has_score:
            raise GameError(f"{self} has no score")
        self._need_own(states)
        scores = out_array(out, (len(states), self.num_players), np.float32)
        _batch.scores(self.capsule, states.data, scores)
        return scores

    def final_targets(
        self,
        states: StateBatch,
        players: ArrayLike,
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """float32 [B, T, H, W]: what finished states teach `players`; zeros elsewhere.

        Args:
            states: B states of this game.
            players: Who looks at each, integers [B], or one for all.
            out: The array to write into.

        Raises:
            GameError: It has no target planes.
        """
        if not self.target_planes:
            raise GameError(f"{self} has no target planes")
        self._need_own(states)
        lookers = as_players(players, len(states), self.num_players)
        planes = out_array(out, (len(states), self.target_planes, *self.obs_shape[1:]), np.float32)
        rows = planes.reshape(len(states), math.prod(planes.shape[1:]))
        _batch.targets(self.capsule, states.data, lookers, rows)
        return planes

    def _need_own(self, states: StateBatch) -> None:
        if states.game != self:
            raise ValueError(f"the states are of {states.game}, not of {self}")

    @property
    def calls_python(self) -> bool:
        """Is the game written in Python, so that it runs at Python's speed?"""
        return _table.calls_python(self.capsule)

    def try_play(self) -> None:
        """Plays a few random games; GameError says what native code could not bear.

        Compiled code trusts a game's table. `playout.testing.check_game` looks much closer.
        """
        _adopt.try_play(self.capsule)

    def forget_decoded(self) -> None:
        """Makes a game written in Python decode every state anew; for checks of its encoding."""
        if self.calls_python:
            _python_game.forget(self.capsule)

    def raise_pending(self) -> None:
        """Raises what a callback of a game written in Python raised, if anything."""
        _table.raise_pending(self.capsule)


def _hold_the_same(one: object, other: object) -> bool:
    """Have two objects of one class equal attributes, or been made with equal arguments?"""
    try:
        same = bool(vars(one) == vars(other))
    except Exception:  # no attributes, or ones that cannot be compared
        same = False
    kept = instance_params(one)
    return same or (kept is not None and kept == instance_params(other))
