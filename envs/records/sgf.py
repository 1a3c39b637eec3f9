"""Games as SGF, FF[4]: the main line of Go, Gomoku, Othello and Hex, with comments and names.

SZ, KM, the rules of Go as KataGo writes them (RU), stones set up before the first move (AB, AW,
PL); points are two letters in Go and Gomoku, in Othello and Hex as their players name them ("d3").
A result by agreement or resignation stays text (info["RE"]); the record's own result is what the
moves lead to. Left out: variations, marks, policies and values of moves.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from playout.envs.core.registry import game as make_game
from playout.envs.records.appending import append_text
from playout.envs.records.json_lines import GameRecord
from playout.envs.records.sgf_dialects import (
    NOTES,
    Dialect,
    need_dialect,
    result_of,
    rules_of,
    setup_of,
)
from playout.envs.records.sgf_reader import from_sgf
from playout.envs.records.sgf_tree import decoded, escape
from playout.errors import DataError, PlayoutError

__all__ = ["append", "from_sgf", "load", "read", "to_sgf"]

MAX_BYTES = 256 << 20
MOVES_A_LINE = 12


def append(path: str | os.PathLike[str], records: Iterable[GameRecord]) -> int:
    """Adds games to a file (made if missing): all of them, or none if anything fails.

    Returns:
        How many were added.

    Raises:
        DataError: A game that SGF does not hold, or a file that is cut off.
        OSError: The disk is full, or the file cannot be written.
    """
    texts = [to_sgf(record) for record in records]
    append_text(path, "".join(texts), remedy="; end it with a line break")
    return len(texts)


def read(path: str | os.PathLike[str]) -> Iterator[GameRecord]:
    """Reads games one by one; DataError names the first that is not a proper one."""
    name = os.fspath(path)
    with Path(path).open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise DataError(f"{name}: a file of games may have {MAX_BYTES >> 20} MiB")
    number = 0
    try:
        for record in from_sgf(decoded(data)):
            yield record
            number += 1
    except PlayoutError as error:
        raise DataError(f"{name}, game {number + 1}: {error}") from None


def load(path: str | os.PathLike[str]) -> list[GameRecord]:
    """All games of a file."""
    return list(read(path))


def to_sgf(record: GameRecord) -> str:
    """A game as text, with a line break at the end.

    Raises:
        DataError: A game that SGF does not hold.
    """
    game = make_game(record.game, **record.params)
    dialect, size = need_dialect(record.game, game)
    state = game.initial_state()
    root = [("FF", "4"), ("GM", str(dialect.number)), ("CA", "UTF-8"), ("SZ", str(size))]
    notes = {tag: str(record.info[tag]) for tag in NOTES if tag in record.info}
    notes = _given_up(record.info) | notes | rules_of(game)
    moves: list[tuple[str, str | None]] = []
    setup = ""
    if record.start is not None:
        start = record.start
        if record.game == "go":  # whose positions may hold moves after the stones
            rows, first, *before = start.split(" ")
            start, moves = f"{rows} {first}", [(word, None) for word in before]
        state = game.from_text(start)
        setup = setup_of(dialect, state, size)
    comments = record.comments or (None,) * len(record.moves)
    moves += zip(record.moves, comments, strict=True)
    nodes = []
    for word, comment in moves:
        action, color = state.read_action(word), "BW"[state.to_play]
        said = f"C[{escape(comment)}]" if comment else ""
        nodes.append(f";{color}[{escape(_value(dialect, size, action, word))}]{said}")
        state = state.apply(action)
    if state.is_terminal:
        notes["RE"] = result_of(state)
    root += [("PB", record.players[0]), ("PW", record.players[1]), *notes.items()]
    if "C" in record.info:
        root.append(("C", str(record.info["C"])))
    text = "(;" + "".join(f"{tag}[{escape(value)}]" for tag, value in root) + setup
    for i in range(0, len(nodes), MOVES_A_LINE):
        text += "\n" + "".join(nodes[i : i + MOVES_A_LINE])
    return text + ")\n"


def _value(dialect: Dialect, size: int, action: int, word: str) -> str:
    if not dialect.letters:
        return "" if word == "pass" else word
    return dialect.name(action, size) if action < size * size else ""


def _given_up(info: Mapping[str, Any]) -> dict[str, str]:
    """RE of a game that was given up before its end, as records of a match tell: "B+R", "W+F"."""
    returns, how = info.get("returns"), "R" if info.get("reason") == "resigned" else "F"
    told = ((f"B+{how}", [1, -1]), (f"W+{how}", [-1, 1]), ("0", [0, 0]))
    return next(({"RE": text} for text, result in told if returns == result), {})
