"""Matches of backgammon as .mat text, the form of Jellyfish that most programs read and write.

Before each game stand its number, both names and points; then a row for a turn of each: the dice,
and men from point to point as the mover counts them, 25 the bar, 0 off, * a hit. The rules here
have no cube: what a file says of it stays in info["mat"], and is written again. Left out: first
positions of one's own, comments, and what was thought of moves. Reading is mat_reader.py's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from playout.envs.records.appending import append_text
from playout.envs.records.json_lines import GameRecord
from playout.envs.records.mat_reader import MAX_LINE, from_mat, side_of
from playout.errors import DataError

_WIDTH = 32  # of the first player's part of a row


def append(path: str | os.PathLike[str], records: Iterable[GameRecord]) -> int:
    """Adds games to a file (made if missing): all of them, or none if anything fails.

    Returns:
        How many were added.

    Raises:
        DataError: A game that the format does not hold, or a file whose last line is cut off.
    """
    texts = [to_mat(record) for record in records]
    append_text(path, "".join(texts), remedy="; end it with a line break")
    return len(texts)


def read(path: str | os.PathLike[str]) -> Iterator[GameRecord]:
    """Reads games one by one; DataError names the first line that does not belong to one."""
    with Path(path).open(encoding="utf-8", errors="replace") as file:
        try:
            yield from from_mat(iter(lambda: file.readline(MAX_LINE), ""))
        except DataError as error:
            raise DataError(f"{os.fspath(path)}, {error}") from None


def load(path: str | os.PathLike[str]) -> list[GameRecord]:
    """All games of a file."""
    return list(read(path))


def to_mat(record: GameRecord) -> str:
    """A game as text, behind the length of its match, with an empty line at the end.

    Raises:
        DataError: Another game than backgammon in which a gammon counts, or one that begins in the
            middle.
    """
    if record.game != "backgammon" or not record.params.get("gammons", 1):
        raise DataError(f".mat holds backgammon with gammons, not {record.game}{record.params}")
    if record.start is not None:
        raise DataError(".mat has no place for the position that a game begins with")
    try:
        return _written(record, dict(record.info.get("mat", {})))
    except (TypeError, ValueError, IndexError):
        raise DataError('info["mat"] is not what .mat files say') from None


def _written(record: GameRecord, about: dict[str, Any]) -> str:
    """The same, with what is known of the match."""
    names = [" ".join(name.split()) or "?" for name in record.players]
    score = [int(points) for points in about.get("score", (0, 0))]
    left, right = (f"{name} : {points}" for name, points in zip(names, score, strict=True))
    lines = [f" {int(about.get('match', 0))} point match", ""]
    lines += [f" Game {int(about.get('game', 1))}", f" {left:{_WIDTH + 4}} {right}"]
    rows = list[list[str]]()
    for side, text in _cells(
        record, [(int(a), int(b), str(c)) for a, b, c in about.get("cube", ())]
    ):
        if side == 0 or not rows or rows[-1][1]:
            rows.append(["", ""])
        rows[-1][side] = " ".join(text.split())
    lines += [f"{number:3}) {one:{_WIDTH}} {two}" for number, (one, two) in enumerate(rows, 1)]
    winner = about.get("wins")
    if winner is None and record.result is not None and any(record.result):
        winner = int(record.result[0] < 0), abs(record.result[0])
    if winner is not None:
        side, points = int(winner[0]), int(winner[1])
        lines.append(f"{'':{6 + side * _WIDTH}}Wins {points} point{'s' * (points != 1)}")
    return "\n".join(line.rstrip() for line in lines) + "\n\n"


def _cells(record: GameRecord, cube: list[tuple[int, int, str]]) -> Iterator[tuple[int, str]]:
    """What each player did in turn: 0 for the first one or 1 for the second, and a text.

    Args:
        record: The game.
        cube: What was done with the cube: before which move, by whom, and what.
    """
    turn: tuple[int, str] | None = None
    for ply, state in enumerate(record.states()):
        ends = ply == len(record.moves)
        if turn is not None and (ends or state.to_play < 0):
            yield turn
            turn = None
        yield from ((side, text) for at, side, text in cube if at == ply)
        if ends:
            return
        move = record.moves[ply]
        if state.to_play < 0:  # a roll
            side = side_of(state)
            first = int(move[0] < move[1]) if side is None else side
            turn = first, f"{max(move)}{min(move)}:"
        elif turn is not None:
            turn = turn[0], f"{turn[1]} {re.sub('off.*', '0', move.replace('bar', '25'))}"
