"""Games from SGF: the main line of each, played through by the rules of its game.

Files leave out what their readers know: passes, who moves first, the rules. What no position or
move can be made of is named with its place. The grammar is sgf_tree.py's, files are sgf.py's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as make_game
from playout.envs.records.json_lines import GameRecord
from playout.envs.records.sgf_dialects import (
    DIALECTS,
    NOTES,
    OWN_GO_RULES,
    result_of,
    rules_of,
    start_text,
)
from playout.envs.records.sgf_tree import Node, trees
from playout.errors import DataError, IllegalActionError, PlayoutError

_NUMBER = re.compile(r"[+-]?\d{1,6}([.,]\d{0,400})?")
# What the Fox server writes for komi: hundredths of points, or of stones under Chinese rules.
_FOX_KOMI = {375.0: 7.5, 325.0: 6.5, 275.0: 5.5, 750.0: 7.5, 650.0: 6.5, 550.0: 5.5}
# What is called so elsewhere, as ko and suicide here.
_KNOWN_RULES: dict[str, dict[str, Any]] = {
    "aga": {"ko": "situational"},
    "chinese": {"ko": "simple"},
    "japanese": {"ko": "simple"},
    "korean": {"ko": "simple"},
    "nz": {"ko": "situational", "suicide": 1},
    "new zealand": {"ko": "situational", "suicide": 1},
    "tromp-taylor": {"ko": "positional", "suicide": 1},
}


def from_sgf(text: str) -> Iterator[GameRecord]:
    """The games of a text, each played through.

    Raises:
        DataError: What is wrong, and where: line and column, or the number of the move.
    """
    for nodes in trees(text):
        yield _record(nodes)


def _record(nodes: list[Node]) -> GameRecord:
    root = nodes[0]
    number = root.first("GM") or "1"
    names = [name for name, one in DIALECTS.items() if str(one.number) == number.strip()]
    if not names:
        known = ", ".join(f"{one.number} ({name})" for name, one in DIALECTS.items())
        raise DataError(f"{root.place}: GM {number[:20]!r} is not known here; known are {known}")
    name = names[0]
    params = _params(nodes, name)
    try:
        game = make_game(name, **params)
    except PlayoutError as error:
        raise DataError(f"{root.place}: {error}") from None
    reader = _Reader(game, params["size"])
    for node in nodes:
        reader.add(node)
    result = reader.result(nodes)
    data: dict[str, Any] = {
        "game": name,
        "params": params,
        "players": [
            (root.first(tag) or color) for tag, color in (("PB", "Black"), ("PW", "White"))
        ],
        "moves": reader.moves,
        "result": result,
        "info": {tag: root.values[tag][0] for tag in NOTES if root.values.get(tag)},
    }
    info = data["info"]
    if reader.resigned is not None:
        info.setdefault("RE", f"{'WB'[reader.resigned]}+R")
    if result is not None and info.get("RE") == result_of(reader.state):
        info.pop("RE", None)
    if info.get("RU") == rules_of(game).get("RU"):
        info.pop("RU", None)
    if reader.start is not None:
        data["start"] = reader.start
    if any(comment is not None for comment in reader.comments):
        data["comments"] = reader.comments
    if reader.remarks:
        info["C"] = "\n".join(reader.remarks)
    return GameRecord.from_data(data)


def _params(nodes: list[Node], name: str) -> dict[str, Any]:
    """The game's parameters as the root gives them, or a move that only one rule has."""
    root = nodes[0]
    given = (root.first("SZ") or str(DIALECTS[name].size)).split(":")
    sizes = [size.strip() for size in given]
    good = len(set(sizes)) == 1 and len(sizes) <= 2 and sizes[0].isdecimal()
    if not good or len(sizes[0]) > 4:
        raise DataError(f"{root.place}: SZ must be one number, not {':'.join(sizes)[:20]!r}")
    params: dict[str, Any] = {"size": int(sizes[0])}
    if name == "go":
        komi = (root.first("KM") or "").strip()
        if komi and not _NUMBER.fullmatch(komi):
            raise DataError(f"{root.place}: KM must be a number, not {komi[:20]!r}")
        number = float(komi.replace(",", ".")) if komi else 0.0
        rules = (root.first("RU") or "").strip()
        if own := OWN_GO_RULES.match(rules):
            params |= {"komi": number, "ko": own[1].lower(), "suicide": int(own[2] or 0)}
        else:
            params["komi"] = _FOX_KOMI.get(number, number)
            params |= _KNOWN_RULES.get(rules.lower(), {})
    elif name == "gomoku" and root.first("RU") in ("exact", "freestyle"):
        params["rule"] = root.first("RU")
    elif name == "hex":
        swapped = any((node.first("W") or "").startswith("swap") for node in nodes)
        params["swap"] = int(root.first("RU") == "swap" or swapped)
    return params


class _Reader:
    """Turns nodes into moves of a game, in the game's own words."""

    def __init__(self, game: NativeGame, size: int) -> None:
        self.game, self.name, self.size = game, game.name, size
        self.dialect = DIALECTS[game.name]
        self.state = game.initial_state()
        self.start: str | None = None
        self.moves: list[str] = []
        self.comments: list[str | None] = []
        self.remarks: list[str] = []  # comments before the first move
        self.stones = ["."] * (size * size)
        self.first: int | None = None
        self.set_up = False
        self.resigned: int | None = None

    def add(self, node: Node) -> None:
        """One node: stones that are set up, who moves first, moves, a comment."""
        if any(tag in node.values for tag in ("AB", "AW", "AE")):
            self._set_up(node)
        if "PL" in node.values and not self.moves:
            first = (node.first("PL") or "")[:1].upper()
            if first not in ("B", "W"):
                raise DataError(f"{node.place}: PL must be B or W")
            self.first = "BW".index(first)
        for tag in node.values:
            if tag in ("B", "W"):
                self._move("BW".index(tag), node.values[tag][0], node)
        if text := node.first("C"):
            if self.moves:  # nodes without a move of their own go on with what was said before
                before = self.comments[-1]
                self.comments[-1] = text if before is None else f"{before}\n{text}"
            else:
                self.remarks.append(text)

    def _set_up(self, node: Node) -> None:
        if self.moves:
            raise DataError(
                f"{node.place}: stones are set up after move {len(self.moves)}, which a game "
                "cannot hold"
            )
        for tag, sign in (("AB", "X"), ("AW", "O"), ("AE", ".")):
            for value in node.values.get(tag, ()):
                for point in self._points(value, node):
                    self.stones[point] = sign
        self.set_up = True

    def _points(self, value: str, node: Node) -> list[int]:
        """The points of "dd", or of the rectangle "aa:cc"."""
        corners = [self._point(one, node) for one in value.split(":")[:2]]
        (top, left), (bottom, right) = (divmod(corner, self.size) for corner in (corners * 2)[:2])
        if top > bottom or left > right or value.count(":") > 1:
            raise DataError(f"{node.place}: {value[:20]!r} is no rectangle of points")
        columns = range(left, right + 1)
        return [row * self.size + x for row in range(top, bottom + 1) for x in columns]

    def _point(self, value: str, node: Node) -> int:
        point = self.dialect.point(value, self.size)
        if point is None:
            name = value.strip()[:20]
            raise DataError(f"{node.place}: {name!r} is no point of a board of {self.size}")
        return point

    def _begin(self, mover: int, node: Node) -> None:
        """The first position, once it is known who moves first."""
        first = mover if self.first is None else self.first
        if not self.set_up and (self.name != "go" or not first):
            return
        start = start_text(self.game, self.stones, first)
        try:
            self.state = self.game.from_text(start)
        except PlayoutError:
            why = ": a group has no liberties" if self.name == "go" else f" of {self.name}"
            raise DataError(
                f"{node.place}: the stones set up before are no position{why}"
            ) from None
        if self.first is not None and self.state.to_play == 1 - self.first:
            raise DataError(f"{node.place}: by the stones set up before it is not PL's turn")
        if self.state != self.game.initial_state():
            self.start = start

    def _move(self, mover: int, value: str, node: Node) -> None:
        if not self.moves:
            self._begin(mover, node)
        word = " ".join(value.split())
        passes = self.name == "go" and (word == "" or (word == "tt" and self.size <= 19))
        if word.lower() in ("resign", "forfeit"):  # as HexGui and others write it
            self.resigned = mover
            return
        if self.resigned is not None:
            raise DataError(f"{node.place}: a move after {'BW'[self.resigned]} has resigned")
        if self.state.is_terminal and self.moves[-2:] == ["pass", "pass"]:
            if passes:
                return  # by some rules White has to pass last
            self._play_on()
        if self.state.to_play == 1 - mover and self.name in ("go", "othello"):
            self._play("pass", node)  # files leave out passes
        if self.dialect.letters:
            word = "pass" if passes else self.state.action_text(self._point(word, node))
        elif word == "" and self.name == "othello":
            word = "pass"
        if self.state.to_play == 1 - mover:
            raise DataError(f"{node.place}: move {len(self.moves) + 1} is not {'BW'[mover]}'s")
        self._play(word if self.dialect.letters else word.lower(), node)

    def _play_on(self) -> None:
        """Takes two passes back that did not end the game: players saw dead stones differently."""
        del self.moves[-2:], self.comments[-2:]
        self.state = self.game.from_text(self.start) if self.start else self.game.initial_state()
        for word in self.moves:
            self.state = self.state.apply(self.state.read_action(word))

    def _play(self, word: str, node: Node) -> None:
        try:
            self.state = self.state.apply(self.state.read_action(word))
        except PlayoutError as error:
            where = f"{node.place}: move {len(self.moves) + 1} ({word[:20]!r})"
            why: object = error
            if isinstance(error, IllegalActionError):  # which names the action's number
                why = "the game is over" if self.state.is_terminal else "against the rules there"
            raise DataError(f"{where} cannot be played: {why}") from None
        self.moves.append(word)
        self.comments.append(None)

    def result(self, nodes: list[Node]) -> list[float] | None:
        """The returns at the end of a finished game, whose nodes these are."""
        if not self.moves:
            # Handicap stones are Black's first moves.
            handicap = (nodes[0].first("HA") or "").strip()
            white = self.set_up and handicap.isdecimal() and handicap.lstrip("0") not in ("", "1")
            self._begin(int(white), nodes[-1])
        return self.state.returns.tolist() if self.state.is_terminal else None
