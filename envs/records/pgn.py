"""Chess games as PGN: tags, moves in standard algebraic notation, comments and results.

Reading plays every game through, so what it gives can be played; errors name the line and the move.
Variations and numeric marks ($1, !?) are skipped. Tags become `info`, those that begin with a small
letter as JSON; what is said before the first move is "C" there, as in SGF. A result that the moves
do not lead to, by resignation for one, stays in `info` as "Result". Policies and values are not
kept: JSON lines are for those.
"""

from __future__ import annotations

import io
import json
import os
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NoReturn

from playout.envs.core.game import NativeGame, State
from playout.envs.core.registry import game as make_game
from playout.envs.game_text import read as read_form
from playout.envs.records.appending import append_text
from playout.envs.records.json_lines import GameRecord, as_json
from playout.errors import DataError, PlayoutError

MAX_LINE = 1 << 20  # characters
MAX_DEPTH = 100  # of variations in variations
_WIDTH = 80  # of lines of moves that are written

_ROSTER = {"Event": "?", "Site": "?", "Date": "????.??.??", "Round": "?"}
_RESULTS: dict[tuple[float, ...], str] = {
    (1.0, -1.0): "1-0",
    (-1.0, 1.0): "0-1",
    (0.0, 0.0): "1/2-1/2",
}
_PLAYERS = ("White", "Black")
_OWN_TAGS = (*_PLAYERS, "FEN", "SetUp", "PlayoutGame")
# Games that are played on where draws could have been claimed, or for very long, have other rules.
_RULES: tuple[dict[str, Any], ...] = (
    {},
    {"draws": "automatic"},
    {"draws": "automatic", "max_plies": 20_000},
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TOKEN = re.compile(
    r"""(?P<blank>\s+)
    |\{(?P<comment>[^}]*)(?P<closed>\}?)
    |;(?P<rest>.*)
    |\[\s*(?P<tag>[A-Za-z0-9_]+)\s*"(?P<value>(?:[^"\\]|\\.|"(?!\s*\]))*)"\s*\]
    |(?P<result>1-0|0-1|1/2-1/2|\*)
    |(?P<skipped>e\.p\.|(?!0-0)\d+\.*|\.+|\$\d+|[!?]+|-/?\+|\+/?-|\+/?=|=(?:/?\+)?|~)
    |(?P<move>(?:[a-zA-Z]|0-0)[A-Za-z0-9+\#=:-]*|--)
    |(?P<bracket>[()])""",
    re.VERBOSE,
)


@dataclass(slots=True)
class _Game:
    """What was read of one game."""

    tags: dict[str, str] = field(default_factory=dict)
    moves: list[tuple[str, int]] = field(default_factory=list)  # with the line of each
    comments: list[str | None] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # comments before the first move
    result: str | None = None


def san(state: State, action: int) -> str:
    """A legal action of chess in standard algebraic notation, such as "Nbd2" or "exd8=Q+"."""
    game = _in_san(str(state.game))
    return game.from_bytes(state.to_bytes(), check=False).action_text(action)


@cache
def _in_san(form: str) -> NativeGame:
    name, params = read_form(form)
    if name != "chess":
        raise DataError(f"PGN and SAN are notations of chess, not of {name}")
    return make_game(name, **{**params, "notation": "san"})


def write(record: GameRecord) -> str:
    """The game as PGN, ending with an empty line.

    Raises:
        DataError: Another game than chess, or `info` that no tag can hold.
    """
    if record.game != "chess":
        raise DataError(f"PGN holds games of chess, not of {record.game}")
    states = list(record.states())
    game = states[0].game
    result = _RESULTS[record.result] if record.result else _told(record)
    tags = {**_ROSTER, **dict(zip(_PLAYERS, record.players, strict=True)), "Result": result}
    if record.start is not None:
        tags |= {"SetUp": "1", "FEN": states[0].text}
    if not _is_plain(game):
        tags["PlayoutGame"] = str(game)
    for name, value in record.info.items():
        if not _NAME.fullmatch(name) or name in _OWN_TAGS:
            raise DataError(f"PGN has no place for info {name!r}: tags are letters and digits")
        if name[0].isupper() and not isinstance(value, str):
            raise DataError(f"PGN's tag {name} must be text, not {value!r}")
        if name not in ("Result", "C"):
            tags[name] = value if name[0].isupper() else as_json(value)
    words = list[str]() if not record.info.get("C") else _braced(record.info["C"])
    for ply, before in enumerate(states[:-1]):
        _, colour, *_, number = before.text.split()
        comment = record.comments[ply] if record.comments else None
        if colour == "w":
            words.append(f"{number}.")
        elif ply == 0 or (record.comments and record.comments[ply - 1]):
            words.append(f"{number}...")
        words.append(san(before, before.read_action(record.moves[ply])))
        if comment is not None:
            words += _braced(comment)
    lines = [f'[{name} "{_escaped(value)}"]' for name, value in tags.items()]
    moves = " ".join([*words, result])
    text = textwrap.fill(moves, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join([*lines, "", text, "", ""])


def _told(record: GameRecord) -> str:
    """The result of a game that its moves do not end, given up or lost on time."""
    returns = record.info.get("returns")
    for values, result in _RESULTS.items():
        if returns == list(values) or record.info.get("Result") == result:
            return result
    return "*"


def _braced(comment: str) -> list[str]:
    return ("{" + _one_line(comment).replace("}", ")") + "}").split(" ")


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _escaped(value: str) -> str:
    return _one_line(value).replace("\\", "\\\\").replace('"', '\\"')


def _is_plain(game: NativeGame) -> bool:
    """Whether it is found by reading alone."""
    return game == make_game("chess")


def append(path: str | os.PathLike[str], records: Iterable[GameRecord]) -> int:
    """Adds games to a file (made if missing): all of them, or none if anything fails.

    Returns:
        How many were added.

    Raises:
        DataError: A game that PGN cannot hold, or a file whose last line is cut off.
        OSError: The disk is full, or the file cannot be written.
    """
    texts = [write(record) for record in records]
    append_text(path, "".join(texts))
    return len(texts)


def read(path: str | os.PathLike[str]) -> Iterator[GameRecord]:
    """Reads games one by one; DataError names the line and the move that cannot be read."""
    name = os.fspath(path)
    with open(path, "rb") as file:
        lines = (_decoded(raw) for raw in iter(lambda: file.readline(4 * MAX_LINE), b""))
        try:
            for one in _games(lines):
                yield _record(one)
        except DataError as error:
            raise DataError(f"{name}, {error}") from None


def parse(text: str) -> list[GameRecord]:
    """The games of a text; DataError names the line and the move that cannot be read."""
    return [_record(one) for one in _games(io.StringIO(text.removeprefix("\ufeff")))]


def load(path: str | os.PathLike[str]) -> list[GameRecord]:
    """All games of a file."""
    return list(read(path))


def _decoded(raw: bytes) -> str:
    """UTF-8, or Latin-1 as older files are."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _fail(line: int, what: str) -> NoReturn:
    raise DataError(f"line {line}: {what}")


def _games(lines: Iterable[str]) -> Iterator[_Game]:
    """Splits lines into games, variations left out."""
    one, depth, number = _Game(), 0, 0
    ended: _Game | None = None  # on this line; a comment behind its result is its own
    open_comment: list[str] | None = None
    for number, line in enumerate(lines, 1):
        if ended is not None and open_comment is None:
            yield ended
            ended = None
        if len(line) > MAX_LINE:
            _fail(number, f"longer than {MAX_LINE} characters")
        at = 0
        if open_comment is not None:
            at = line.find("}") + 1
            open_comment.append(line[: at - 1] if at else line)
            if not at:
                continue
            _comment(ended or one, depth, "".join(open_comment))
            open_comment = None
        elif line.startswith("%"):
            continue
        while at < len(line):
            token = _TOKEN.match(line, at)
            if token is None:
                _fail(number, f"{line[at : at + 20].strip()!r} is not PGN")
            at = token.end()
            kind = token.lastgroup
            if ended is not None and kind in ("value", "move", "result"):
                yield ended
                ended = None
            if kind == "closed":
                if token["closed"]:
                    _comment(ended or one, depth, token["comment"])
                else:
                    open_comment = [token["comment"]]
            elif kind == "rest":
                _comment(ended or one, depth, token["rest"])
            elif kind == "bracket":
                depth += 1 if token["bracket"] == "(" else -1
                if not 0 <= depth <= MAX_DEPTH or not one.moves:
                    _fail(number, "brackets of variations do not match")
            elif kind == "value":
                if depth:
                    _fail(number, "a tag in a variation that is not closed")
                if one.moves:  # the last game has no result
                    yield one
                    one = _Game()
                if token["tag"] in one.tags:
                    _fail(number, f"the tag {token['tag'][:30]} is given twice")
                one.tags[token["tag"]] = re.sub(r"\\(.)", r"\1", token["value"])
            elif kind == "move" and not depth:
                one.moves.append((token["move"], number))
                one.comments.append(None)
            elif kind == "result" and not depth:
                one.result = token["result"]
                ended, one = one, _Game()
    if ended is not None:
        yield ended
    if open_comment is not None or depth:
        _fail(number, f"a {'variation' if depth else 'comment'} is not closed")
    if one.moves or one.tags:
        yield one


def _comment(one: _Game, depth: int, text: str) -> None:
    """Keeps a comment with the move before it, or with the game."""
    words = " ".join(text.split())
    if not words or depth:
        return
    if one.moves:
        known = one.comments[-1]
        one.comments[-1] = f"{known} {words}" if known else words
    else:
        one.remarks.append(words)


def _record(one: _Game) -> GameRecord:
    """The game played through, by the first rules under which it can be."""
    line = one.moves[0][1] if one.moves else 1
    variant = one.tags.get("Variant", "Standard").lower()
    if variant not in ("standard", "chess", "normal", "from position"):
        raise DataError(f"line {line}: {one.tags['Variant'][:30]!r} is not the chess known here")
    own = one.tags.get("PlayoutGame")
    rules = _RULES if own is None else (_own_rules(own, line),)
    failure: DataError | None = None
    for params in rules:
        try:
            return _played(one, make_game("chess", **params), line)
        except _OtherRulesError as error:
            failure = failure or error
    assert failure is not None
    raise DataError(str(failure)) from None


def _own_rules(form: str, line: int) -> dict[str, Any]:
    try:
        name, params = read_form(form)
        if name == "chess":
            make_game(name, **params)
            return params
    except PlayoutError:
        pass
    raise DataError(f"line {line}: the tag PlayoutGame names no chess: {form[:60]!r}")


class _OtherRulesError(DataError):
    """Other rules may allow it: moves after the end, or more without progress before the first."""


def _played(one: _Game, game: NativeGame, line: int) -> GameRecord:
    fen = one.tags.get("FEN")
    try:
        state = game.initial_state() if fen is None else game.from_text(fen)
    except PlayoutError as error:
        why = str(error).partition("of this game")[2]
        message = f"line {line}: the tag FEN is no position: {str(fen)[:100]!r}{why}"
        raise _OtherRulesError(message) from None
    start = None if state == game.initial_state() else state.text
    moves = list[str]()
    for ply, (name, at) in enumerate(one.moves):
        if state.is_terminal:
            raise _OtherRulesError(f"line {at}: move {ply + 1} ({name[:20]!r}) comes after the end")
        try:
            action = state.read_action(name)
            moves.append(state.action_text(action))
            state = state.apply(action)
        except PlayoutError:
            _fail(at, f"move {ply + 1} ({name[:20]!r}) cannot be played in {state.text}")
    result = tuple(state.returns.tolist()) if state.is_terminal else None
    told = one.result or one.tags.get("Result", "*")
    if result is not None and told != "*" and told != _RESULTS[result]:
        message = f"line {line}: the moves lead to {_RESULTS[result]}, not {told[:20]!r}"
        raise _OtherRulesError(message)
    info: dict[str, Any] = {
        key: _value(key, value)
        for key, value in one.tags.items()
        if key not in _OWN_TAGS and _ROSTER.get(key) != value
    }
    if one.remarks:
        info["C"] = " ".join([*([info["C"]] if "C" in info else []), *one.remarks])
    info.pop("Result", None)
    if result is None and told in _RESULTS.values():
        info["Result"] = told
    return GameRecord(
        game="chess",
        params=dict(game.params),
        players=tuple(one.tags.get(seat, "?") for seat in _PLAYERS),
        moves=tuple(moves),
        result=result,
        start=start,
        comments=tuple(one.comments) if any(one.comments) else None,
        info=info,
    )


def _value(name: str, value: str) -> Any:
    if name[0].islower():
        try:
            found = json.loads(value, parse_constant=_no_constant)
            as_json(found)  # it can be written again
            return found
        except (ValueError, RecursionError):
            return value
    return value


def _no_constant(text: str) -> NoReturn:
    raise ValueError(text)
