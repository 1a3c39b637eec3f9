"""Games on disk: one JSON object a line, played through again when they are read.

A record names its game by name and parameters; the module of a game of one's own is imported only
if the person trusts it. Appending is one write that is taken back if it fails; reading checks every
field and every move, and errors name the line. Search trees are not kept here.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from playout.envs.core.game import NativeGame, State
from playout.envs.core.registry import game as make_game
from playout.envs.game_text import read as read_form
from playout.envs.records.appending import append_text
from playout.errors import DataError, PlayoutError

MAX_LINE = 4 << 20  # bytes of one record
_FIELDS = (
    "game",
    "params",
    "players",
    "start",
    "moves",
    "result",
    "policy",
    "value",
    "comments",
    "info",
)


@dataclass(frozen=True, slots=True)
class GameRecord:
    """One game, finished or not.

    Attributes:
        game: The game's name; module:Name of one's own.
        params: Its parameters.
        players: A name for each player, in the order of their numbers.
        moves: The moves in the game's notation.
        result: The returns [P] that the moves lead to by the game's own rules, or None if the game
            is not over. What players agreed on, who resigned and who won by territory is in info.
        start: The first position as text, or None for the game's own.
        policy: For each move None or the weights [A] that it was chosen by.
        value: For each move None or the expected result for the side to move, in units of result.
        comments: For each move None or a text.
        info: Anything else of plain JSON types, such as a date or a seed.
    """

    game: str
    params: dict[str, Any]
    players: tuple[str, ...]
    moves: tuple[str, ...]
    result: tuple[float, ...] | None
    start: str | None = None
    policy: tuple[tuple[float, ...] | None, ...] | None = None
    value: tuple[float | None, ...] | None = None
    comments: tuple[str | None, ...] | None = None
    info: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_actions(
        cls,
        game: NativeGame,
        actions: Iterable[int],
        *,
        players: Sequence[str],
        start: State | None = None,
        policy: Sequence[Any] | None = None,
        value: Sequence[float | None] | None = None,
        comments: Sequence[str | None] | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> GameRecord:
        """A record of actions that were played, with the result they lead to.

        Raises:
            IllegalActionError: An action that cannot be played.
            DataError: Something that does not fit the game.
        """
        state = start or game.initial_state()
        moves = []
        for action in actions:
            moves.append(state.action_text(action))
            state = state.apply(action)
        own = None if game.origin is None else read_form(game.origin)
        name, params = own or (game.name, dict(game.params))
        data: dict[str, Any] = {
            "game": name,
            "params": params,
            "players": list(players),
            "moves": moves,
            "result": state.returns.tolist() if state.is_terminal else None,
        }
        if start is not None and start != game.initial_state():
            data["start"] = start.text
        if policy is not None:
            data["policy"] = [None if p is None else np.asarray(p).tolist() for p in policy]
        if value is not None:
            data["value"] = [None if v is None else float(v) for v in value]
        if comments is not None:
            data["comments"] = list(comments)
        if info:
            data["info"] = dict(info)
        return _checked(data, game)

    def to_json(self) -> str:
        """The record as one line, without the line's end; DataError if JSON cannot hold it."""
        data = {name: getattr(self, name) for name in _FIELDS}
        kept = {k: v for k, v in data.items() if v is not None and (k != "info" or v)}
        kept["result"] = self.result
        line = as_json(kept, separators=(",", ":"))
        if len(line.encode()) >= MAX_LINE:
            raise DataError(f"a record may have {MAX_LINE} bytes, this one is longer")
        return line

    @classmethod
    def from_json(cls, line: str) -> GameRecord:
        """Reads one line and plays the game through; DataError says what is wrong."""
        if len(line) >= MAX_LINE:
            raise DataError(f"a record may have {MAX_LINE} bytes, this one is longer")
        try:
            data = json.loads(
                line,
                parse_float=_finite,
                parse_constant=_no_constant,
                object_pairs_hook=_no_twice,
            )
        except DataError:
            raise
        except (ValueError, RecursionError):
            raise DataError("not a JSON object; the line may be cut off") from None
        if not isinstance(data, dict):
            raise DataError(f"a record must be a JSON object, not {_kind(data)}")
        if "\\u" in line or not line.isascii():
            as_json(data)
        return _checked(data)

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> GameRecord:
        """A record from plain JSON types by the names of its fields; plays the game through.

        Raises:
            DataError: What does not hold.
        """
        return _checked(data)

    def states(self) -> Iterator[State]:
        """The positions from the start to the end, one more than there are moves."""
        game = make_game(self.game, **self.params)
        state = game.from_text(self.start) if self.start else game.initial_state()
        yield state
        for move in self.moves:
            state = state.apply(state.read_action(move))
            yield state


def as_json(value: Any, *, separators: tuple[str, str] | None = None) -> str:
    """Plain JSON types as JSON that UTF-8 can hold; numbers of NumPy's are written as numbers.

    Raises:
        DataError: What else there is.
    """
    try:
        text = json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=separators, default=_plain
        )
        text.encode()
    except UnicodeEncodeError as error:
        what = error.object[error.start].encode("unicode_escape").decode()
        raise DataError(f"{what} is half a character, which a record cannot hold") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"a record holds plain JSON types alone: {error}") from None
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"not {type(value).__name__}")


def append(path: str | os.PathLike[str], records: Iterable[GameRecord]) -> int:
    """Adds records to a file (made if missing): all of them, or none if anything fails.

    Returns:
        How many were added.

    Raises:
        DataError: The file's last line is cut off; `repair` removes it.
        OSError: The disk is full, or the file cannot be written.
    """
    lines = [record.to_json() for record in records]
    remedy = "; records.repair() removes it"
    append_text(path, "".join(line + "\n" for line in lines), remedy=remedy)
    return len(lines)


def repair(path: str | os.PathLike[str]) -> int:
    """Removes a last line that has no end, as a crash may leave one; returns the bytes removed."""
    with open(path, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = keep = file.seek(0, os.SEEK_END)
        while keep:
            block = min(keep, 1 << 16)
            file.seek(keep - block)
            found = file.read(block).rfind(b"\n")
            if found >= 0:
                keep += found + 1 - block
                break
            keep -= block
        file.truncate(keep)
        return size - keep


def read(path: str | os.PathLike[str]) -> Iterator[GameRecord]:
    """Reads records one by one; DataError names the first line that is not a proper one."""
    name = os.fspath(path)
    with Path(path).open("rb") as file:
        number = 0
        while raw := file.readline(MAX_LINE + 1):
            number += 1
            try:
                if not raw.endswith(b"\n"):
                    long = len(raw) > MAX_LINE
                    raise DataError("the line is too long" if long else "the last line is cut off")
                yield GameRecord.from_json(raw.decode("utf-8"))
            except UnicodeDecodeError:
                raise DataError(f"{name}, line {number}: not UTF-8 text") from None
            except PlayoutError as error:
                raise DataError(f"{name}, line {number}: {error}") from None


def load(path: str | os.PathLike[str]) -> list[GameRecord]:
    """All records of a file."""
    return list(read(path))


def _no_constant(text: str) -> None:
    raise DataError(f"{text} is not a number that a record may hold")


def _finite(text: str) -> float:
    value = float(text)
    _need(math.isfinite(value), f"{text:.20} is not a number that a record may hold")
    return value


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise DataError("a field is given twice")
    return dict(pairs)


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def _need(good: bool, what: str) -> None:
    if not good:
        raise DataError(what)


def _number(value: Any, low: float, high: float) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max  # neither NaN nor an integer that no float holds
        and low <= value <= high
    )


def _checked(data: dict[str, Any], game: NativeGame | None = None) -> GameRecord:
    """A record from plain JSON types, once everything in it holds."""
    unknown = sorted(name[:40] for name in data.keys() - set(_FIELDS))
    _need(not unknown, f"unknown field {unknown[:1]}; known are {', '.join(_FIELDS)}")
    for name in ("game", "players", "moves", "result"):
        _need(name in data, f"the field {name!r} is missing")
    name, params = data["game"], data.get("params", {})
    _need(isinstance(name, str) and name != "", "game must be a name")
    _need(isinstance(params, dict) and "game" not in params, "params must be an object")
    game = game or _game_of(name, params)
    players = _texts(data["players"], "players")
    _need(
        len(players) == game.num_players,
        f"{name} has {game.num_players} players, not {len(players)}",
    )
    moves = _texts(data["moves"], "moves")
    _need(len(moves) <= game.max_plies, f"{len(moves)} moves are more than a game can have")
    start, info = data.get("start"), data.get("info", {})
    _need(start is None or isinstance(start, str), f"start must be text, not {_kind(start)}")
    _need(isinstance(info, dict), f"info must be an object, not {_kind(info)}")
    try:
        state = game.from_text(start) if start is not None else game.initial_state()
    except PlayoutError as error:
        raise DataError(f"start is no position: {error}") from None
    for ply, move in enumerate(moves, 1):
        try:
            state = state.apply(state.read_action(move))
        except PlayoutError as error:
            raise DataError(f"move {ply} ({move[:20]!r}) cannot be played: {error}") from None
    result = data["result"]
    expected = state.returns.tolist() if state.is_terminal else None
    most = math.inf if game.step_rewards else game.value_scale
    if result is not None:
        good = isinstance(result, list) and all(_number(value, -most, most) for value in result)
        _need(good, f"result must be null or a list of numbers from {-most:g} to {most:g}")
    _need(result == expected, f"the moves lead to the result {expected}, not {result!s:.80}")
    return GameRecord(
        game=name,
        params=dict(params),
        players=players,
        moves=moves,
        result=None if result is None else tuple(float(value) for value in result),
        start=start,
        policy=_policies(data.get("policy"), len(moves), game.num_actions),
        value=_values(data.get("value"), len(moves), most),
        comments=_comments(data.get("comments"), len(moves)),
        info=dict(info),
    )


def _game_of(name: str, params: dict[str, Any]) -> NativeGame:
    try:
        _need(read_form(name)[0] == name, "game must be a name")
        return make_game(name, **params)
    except PlayoutError as error:
        raise DataError(str(error)) from None


def _texts(values: Any, what: str) -> tuple[str, ...]:
    good = isinstance(values, list) and all(isinstance(value, str) for value in values)
    _need(good, f"{what} must be a list of texts")
    return tuple(values)


def _per_move(values: Any, count: int, what: str) -> None:
    good = isinstance(values, list) and len(values) == count
    _need(good, f"{what} must be a list with one entry for each of the {count} moves")


def _policies(
    values: Any, count: int, num_actions: int
) -> tuple[tuple[float, ...] | None, ...] | None:
    if values is None:
        return None
    _per_move(values, count, "policy")
    for weights in values:
        good = weights is None or (
            isinstance(weights, list)
            and len(weights) == num_actions
            and all(_number(weight, 0, 1) for weight in weights)
        )
        _need(good, f"a policy must be null or {num_actions} numbers from 0 to 1")
    return tuple(None if weights is None else tuple(map(float, weights)) for weights in values)


def _values(values: Any, count: int, most: float) -> tuple[float | None, ...] | None:
    if values is None:
        return None
    _per_move(values, count, "value")
    good = all(value is None or _number(value, -most, most) for value in values)
    _need(good, f"a value must be null or a number from {-most:g} to {most:g}")
    return tuple(None if value is None else float(value) for value in values)


def _comments(values: Any, count: int) -> tuple[str | None, ...] | None:
    if values is None:
        return None
    _per_move(values, count, "comments")
    good = all(value is None or isinstance(value, str) for value in values)
    _need(good, "a comment must be null or text")
    return tuple(values)
