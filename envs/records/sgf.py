"""Games as SGF, FF[4]: the main line of Go, Gomoku, Othello and Hex, with comments and names.

Go: SZ, KM, the rules as KataGo writes them (RU), stones set up before the first move (AB, AW, PL);
points are two letters, as in Gomoku. Othello and Hex name points as their players do ("d3"). A
result by agreement or resignation stays text (info["RE"]); the record's own result is what the
moves lead to. Left out: variations, marks, policies and values of moves.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playout.envs.core.game import NativeGame, State
from playout.envs.core.registry import game as make_game
from playout.envs.records.appending import append_text
from playout.envs.records.json_lines import GameRecord
from playout.envs.records.sgf_tree import Node, decoded, escape, trees
from playout.errors import DataError, PlayoutError

MAX_BYTES = 256 << 20
MOVES_A_LINE = 12
# What a root may say beside what a record holds: kept as info under the same letters.
NOTES = (
    *("AN", "BR", "BT", "CP", "DT", "EV", "GC", "GN", "HA", "ON", "OT"),
    *("PC", "RE", "RO", "RU", "SO", "TM", "US", "WR", "WT"),
)
_NUMBER = re.compile(r"[+-]?\d{1,6}([.,]\d{0,6})?")
# What the Fox server writes for komi: hundredths of points, or of stones under Chinese rules.
_FOX_KOMI = {375.0: 7.5, 325.0: 6.5, 275.0: 5.5, 750.0: 7.5, 650.0: 6.5, 550.0: 5.5}
_POINT = re.compile(r"[a-z]{2}")
_RULES = re.compile(
    r"ko(SIMPLE|POSITIONAL|SITUATIONAL)(?:score[A-Z]+)?(?:tax[A-Z]+)?(?:sui([01]))?"
)
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


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one game is written.

    Attributes:
        number: GM.
        size: its usual size, where SZ is missing.
        letters: a point is two letters, column and row from the top left; else the move's text.
    """

    number: int
    size: int
    letters: bool


DIALECTS = {
    "go": Dialect(1, 19, True),
    "othello": Dialect(2, 8, False),
    "gomoku": Dialect(4, 15, True),
    "hex": Dialect(11, 11, False),
}


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
    reader = _Reader(game, name, params["size"])
    for node in nodes:
        reader.add(node)
    data: dict[str, Any] = {
        "game": name,
        "params": params,
        "players": [
            (root.first(tag) or color) for tag, color in (("PB", "Black"), ("PW", "White"))
        ],
        "moves": reader.moves,
        "result": reader.result(nodes[-1]),
        "info": {tag: root.values[tag][0] for tag in NOTES if root.values.get(tag)},
    }
    info = data["info"]
    if reader.resigned is not None:
        info.setdefault("RE", f"{'WB'[reader.resigned]}+R")
    if info.get("RE") == reader.result_text():
        info.pop("RE", None)
    if info.get("RU") == _rules(game).get("RU"):
        info.pop("RU", None)
    if reader.start is not None:
        data["start"] = reader.start
    if any(comment is not None for comment in reader.comments):
        data["comments"] = reader.comments
    if root.first("C") and not root.values.keys() & {"B", "W"}:
        info["C"] = root.first("C")
    return GameRecord.from_data(data)


def _params(nodes: list[Node], name: str) -> dict[str, Any]:
    """The game's parameters as the root gives them, or a move that only one rule has."""
    root = nodes[0]
    sizes = (root.first("SZ") or str(DIALECTS[name].size)).split(":")
    good = len(set(sizes)) == 1 and len(sizes) <= 2 and sizes[0].strip().isdecimal()
    if not good or len(sizes[0]) > 4:
        raise DataError(f"{root.place}: SZ must be one number, not {':'.join(sizes)[:20]!r}")
    params: dict[str, Any] = {"size": int(sizes[0])}
    if name == "go":
        komi = (root.first("KM") or "").strip()
        if komi and not _NUMBER.fullmatch(komi):
            raise DataError(f"{root.place}: KM must be a number, not {komi[:20]!r}")
        number = float(komi.replace(",", ".")) if komi else 0.0
        params["komi"] = _FOX_KOMI.get(number, number)
        rules = (root.first("RU") or "").strip()
        if own := _RULES.match(rules):
            params["ko"] = own[1].lower()
            params["suicide"] = int(own[2] or 0)
        else:
            params.update(_KNOWN_RULES.get(rules.lower(), {}))
    elif name == "gomoku" and root.first("RU") in ("exact", "freestyle"):
        params["rule"] = root.first("RU")
    elif name == "hex":
        swapped = any((node.first("W") or "").startswith("swap") for node in nodes)
        params["swap"] = int(root.first("RU") == "swap" or swapped)
    return params


class _Reader:
    """Turns nodes into moves of a game, in the game's own words."""

    def __init__(self, game: NativeGame, name: str, size: int) -> None:
        self.game, self.name, self.size = game, name, size
        self.letters = DIALECTS[name].letters
        self.state = game.initial_state()
        self.start: str | None = None
        self.moves: list[str] = []
        self.comments: list[str | None] = []
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
        if self.moves and node.first("C") and ("B" in node.values or "W" in node.values):
            self.comments[-1] = node.first("C")

    def _set_up(self, node: Node) -> None:
        if self.name != "go":
            raise DataError(f"{node.place}: stones that are set up can be read for go only")
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
        value = value.strip()
        column, row = (ord(c) - 97 for c in value) if _POINT.fullmatch(value) else (99, 99)
        if max(column, row) >= self.size:
            raise DataError(f"{node.place}: {value[:20]!r} is no point of a board of {self.size}")
        return row * self.size + column

    def _begin(self, mover: int, node: Node) -> None:
        """The first position, once it is known who moves first."""
        first = mover if self.first is None else self.first
        if self.name != "go" or not (self.set_up or first):
            return
        lines = ["".join(self.stones[i : i + self.size]) for i in range(0, self.size**2, self.size)]
        self.start = "/".join(lines) + " " + "bw"[first]
        try:
            self.state = self.game.from_text(self.start)
        except PlayoutError:
            raise DataError(
                f"{node.place}: the stones set up before are no position: a group has no liberties"
            ) from None

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
        if self.letters:
            word = "pass" if passes else self.state.action_text(self._point(word, node))
        elif word == "" and self.name == "othello":
            word = "pass"
        if self.state.to_play == 1 - mover:
            raise DataError(f"{node.place}: move {len(self.moves) + 1} is not {'BW'[mover]}'s")
        self._play(word.lower() if not self.letters else word, node)

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
            why = str(error).partition("; legal are")[0]
            raise DataError(f"{where} cannot be played: {why}") from None
        self.moves.append(word)
        self.comments.append(None)

    def result(self, last: Node) -> list[float] | None:
        """The returns at the end of a finished game, whose last node this is."""
        if not self.moves:
            self._begin(0, last)
        return self.state.returns.tolist() if self.state.is_terminal else None

    def result_text(self) -> str | None:
        """RE as it would be written, or None."""
        return _result(self.state) if self.state.is_terminal else None


def to_sgf(record: GameRecord) -> str:
    """A game as text, with a line break at the end.

    Raises:
        DataError: A game that SGF does not hold.
    """
    game = make_game(record.game, **record.params)
    if record.game not in DIALECTS:
        raise DataError(f"SGF holds {', '.join(DIALECTS)} here, not {record.game}")
    dialect, size = DIALECTS[record.game], int(game.params["size"])
    state = game.initial_state()
    root = [("FF", "4"), ("GM", str(dialect.number)), ("CA", "UTF-8"), ("SZ", str(size))]
    notes = {tag: str(record.info[tag]) for tag in NOTES if tag in record.info}
    notes = _given_up(record.info) | notes | _rules(game)
    moves: list[tuple[str, str | None]] = []
    setup = ""
    if record.start is not None:
        if record.game != "go":
            raise DataError(f"SGF does not hold a first position of {record.game}")
        rows, first, *before = record.start.split(" ")
        setup = _setup(rows, size, first)
        state = game.from_text(f"{rows} {first}")
        moves = [(word, None) for word in before]
    comments = record.comments or (None,) * len(record.moves)
    moves += zip(record.moves, comments, strict=True)
    nodes = []
    for word, comment in moves:
        action, color = state.read_action(word), "BW"[state.to_play]
        said = f"C[{escape(comment)}]" if comment else ""
        nodes.append(f";{color}[{escape(_value(dialect, size, action, word))}]{said}")
        state = state.apply(action)
    if state.is_terminal:
        notes["RE"] = _result(state)
    root += [("PB", record.players[0]), ("PW", record.players[1]), *notes.items()]
    if "C" in record.info:
        root.append(("C", str(record.info["C"])))
    text = "(;" + "".join(f"{tag}[{escape(value)}]" for tag, value in root) + setup
    for i in range(0, len(nodes), MOVES_A_LINE):
        text += "\n" + "".join(nodes[i : i + MOVES_A_LINE])
    return text + ")\n"


def _rules(game: NativeGame) -> dict[str, str]:
    params = game.params
    if game.name == "go":
        rules = f"ko{str(params['ko']).upper()}scoreAREAtaxNONEsui{params['suicide']}"
        return {"KM": f"{params['komi']:.6f}".rstrip("0").rstrip("."), "RU": rules}
    if game.name == "gomoku":
        return {"RU": str(params["rule"])}
    return {"RU": "swap"} if game.name == "hex" and params["swap"] else {}


def _letters(size: int, point: int) -> str:
    return chr(97 + point % size) + chr(97 + point // size)


def _setup(rows: str, size: int, first: str) -> str:
    stones = rows.replace("/", "")
    text = ""
    for tag, sign in (("AB", "X"), ("AW", "O")):
        points = [_letters(size, at) for at, stone in enumerate(stones) if stone == sign]
        text += tag + "".join(f"[{point}]" for point in points) if points else ""
    return f"{text}PL[{first.upper()}]"


def _value(dialect: Dialect, size: int, action: int, word: str) -> str:
    if not dialect.letters:
        return "" if word == "pass" else word
    return _letters(size, action) if action < size * size else ""


def _given_up(info: Mapping[str, Any]) -> dict[str, str]:
    """RE of a game that was given up before its end, as records of a match tell: "B+R", "W+F"."""
    returns, how = info.get("returns"), "R" if info.get("reason") == "resigned" else "F"
    told = ((f"B+{how}", [1, -1]), (f"W+{how}", [-1, 1]), ("0", [0, 0]))
    return next(({"RE": text} for text, result in told if returns == result), {})


def _result(state: State) -> str:
    """RE of a finished game: "B+3.5", "W+" where nothing is counted, "0" for a draw."""
    returns, score = state.returns, state.score
    if returns[0] == 0:
        return "0"
    winner = int(returns[1] > returns[0])
    return "BW"[winner] + "+" + ("" if score is None else f"{float(score[winner]):g}")
