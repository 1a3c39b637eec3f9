"""Reading matches of backgammon as .mat text: rows of two turns, played through by the rules.

Programs name men by the points between which they travel, in any order, and one man that plays
both dice by its ends; what a turn leads to is therefore looked for among all that the dice allow.
What the rules here do not know (length and points of the match, the cube, what was won) is kept in
info["mat"]. Left out: files and writing (mat.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from playout.envs.core.game import State
from playout.envs.core.registry import game as make_game
from playout.envs.records.json_lines import GameRecord
from playout.errors import DataError, PlayoutError

MAX_LINE = 1 << 12  # characters
RIGHT = 20  # the second player's part of a row begins here or further to the right
_MATCH = re.compile(r"\s*(\d{1,6}) point match\b.*")
_GAME = re.compile(r"\s*Game (\d{1,6})\s*")
_NAMES = re.compile(r"\s*(\S.*?)\s*: *(\d{1,6})\s{2,}(\S.*?)\s*: *(\d{1,6})\s*")
_ROW = re.compile(r"\s*\d{1,4}\)|(?=\s+Wins )")
_CELL = re.compile(r"[1-6]{2}:|Doubles|Takes|Drops|Passes|Wins")
_Travel = tuple[int, int, bool]  # from a point to another, hitting?
_MEN = re.compile(r"((?:bar|\d\d?)(?:/(?:off|\d\d?)\*?)+)(?:\((\d)\))?", re.IGNORECASE)


def from_mat(lines: Iterable[str]) -> Iterator[GameRecord]:
    """The games of a match; DataError names the first line that does not belong to one."""
    length, game = 0, None
    for number, line in enumerate(lines, 1):
        try:
            if found := _MATCH.fullmatch(line.rstrip()):
                length = int(found[1])
            elif found := _GAME.fullmatch(line):
                if game is not None:
                    yield game.record()
                game = _Game({"match": length, "game": int(found[1])})
            elif game is not None and not game.actions and (found := _NAMES.fullmatch(line)):
                game.players = found[1], found[3]
                game.about["score"] = [int(found[2]), int(found[4])]
            elif game is not None and (found := _ROW.match(line)):
                for side, cell in _cells(line[found.end() :]):
                    game.take(side, cell)
            elif line.strip() and not line.startswith(";"):
                raise DataError(f"{line.strip()[:40]!r} is no part of a game")
        except PlayoutError as error:
            raise DataError(f"line {number}: {error}") from None
    if game is not None:
        yield game.record()


@dataclass(slots=True)
class _Game:
    """A game as far as it was read."""

    about: dict[str, Any]
    players: tuple[str, str] = ("", "")
    state: State = field(default_factory=lambda: make_game("backgammon").initial_state())
    actions: list[int] = field(default_factory=list)

    def take(self, side: int, cell: str) -> None:
        """Adds one player's part of a row."""
        if cell[0].isdigit():
            for action in _turn(self.state, side, cell):
                self.actions.append(action)
                self.state = self.state.apply(action)
        elif cell.startswith("Wins"):
            self.about["wins"] = [side, int((re.findall(r"\d{1,6}", cell) or ["1"])[0])]
        else:
            self.about.setdefault("cube", []).append([len(self.actions), side, cell])

    def record(self) -> GameRecord:
        """The game."""
        info = {"mat": self.about}
        return GameRecord.from_actions(
            self.state.game, self.actions, players=self.players, info=info
        )


def _cells(text: str) -> list[tuple[int, str]]:
    """What the two players did in a row: 0 for the left one or 1 for the right one, and a text."""
    begins = [found.start() for found in _CELL.finditer(text)]
    if len(begins) > 2 or (text.strip() and not begins):
        raise DataError(f"{text.strip()[:40]!r} is not two players' turns")
    sides = [0, 1] if len(begins) == 2 else [int(begin >= RIGHT) for begin in begins]
    ends = [*begins[1:], len(text)][: len(begins)]
    return [(s, text[b:e].strip()) for s, b, e in zip(sides, begins, ends, strict=True)]


def _turn(state: State, side: int, cell: str) -> list[int]:
    """The roll of a part of a row, and the actions that move the men."""
    if state.is_terminal:
        raise DataError("the game is over")
    whose = side_of(state)
    if state.to_play >= 0 or whose not in (None, side):
        raise DataError("it is the other player's turn, or men are still to be moved")
    high, low = max(cell[:2]), min(cell[:2])
    # The opening roll is a die of each player, the higher of whom begins.
    roll = state.read_action(low + high if whose is None and side else high + low)
    travels = (
        [] if "annot" in cell else [one for word in cell[3:].split() for one in _travels(word)]
    )
    after = state.apply(roll)
    return [roll, *_actions(after, side, travels, cell)]


def _travels(word: str) -> list[_Travel]:
    """How men travel in a word such as "24/18*/14(2)"."""
    found = _MEN.fullmatch(word)
    points = found[1].lower().replace("bar", "25").replace("off", "0").split("/") if found else []
    ways = [
        (int(start.strip("*")), int(end.strip("*")), end.endswith("*"))
        for start, end in pairwise(points)
    ]
    if not ways or max(max(way[:2]) for way in ways) > 25:
        raise DataError(f"{word[:20]!r} moves no man")
    return ways * int((found and found[2]) or 1)


def _actions(state: State, side: int, travels: Sequence[_Travel], cell: str) -> list[int]:
    """Actions of a turn after which men stand as if they had travelled so.

    Of several those that end the turn and hit as told, in the order told if that can be.
    """
    men, told = _men(state, side), {there for _, there, hit in travels if hit}
    for here, there, _ in travels:
        men[here], men[there] = men[here] - 1, men[there] + 1
    found: list[tuple[bool, int, list[int]]] = []
    todo, seen = [(state, list[int](), frozenset[int]())], set[tuple[bytes, frozenset[int]]]()
    while todo and (not found or found[-1][:2] != (False, 0)):
        now, actions, taken = todo.pop()
        moving = not now.is_terminal and now.to_play == side
        if _men(now, side)[1:] == men[1:]:
            found.append((moving, len(taken ^ told), actions))
        if not moving or (now.to_bytes(), taken) in seen:
            continue
        seen.add((now.to_bytes(), taken))
        steps = [(a, *_travels(now.action_text(a).split("(")[0])[0]) for a in now.legal_actions]
        here_there = [way[:2] for way in travels[len(actions) : len(actions) + 1]]
        for action, *way, hit in sorted(steps, key=lambda step: step[1:3] in here_there):
            hits = taken | ({way[1]} if hit else set())
            todo.append((now.apply(action), [*actions, action], hits))
    if not found:
        raise DataError(f"{cell[:40]!r} cannot be played")
    return min(found, key=lambda one: one[:2])[2]


def side_of(state: State) -> int | None:
    """Who rolls or moves in a position of backgammon; None before the opening roll."""
    return {"1": 0, "-1": 1}.get(state.text.split(":")[3])


def _men(state: State, side: int) -> list[int]:
    """A player's men on its points 1 to 24 and on its bar, 25; what stands at 0 means nothing."""
    board = state.text[5:31]
    board = board[::-1].swapcase() if side else board
    return [ord(one) - ord("A") + 1 if one.isupper() else 0 for one in board]
