"""What SGF means for each game that it holds here: numbers, points, rules and first positions.

Reading (sgf_reader.py) and writing (sgf.py) share it. A first position is the stones of a board,
row by row from the top, "X" for Black, "O" for White and "." for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from playout.envs.core.game import NativeGame, State
from playout.errors import DataError

# What a root may say beside what a record holds: kept as info under the same letters.
NOTES = (
    *("AN", "BR", "BT", "CP", "DT", "EV", "GC", "GN", "HA", "ON", "OT"),
    *("PC", "RE", "RO", "RU", "SO", "TM", "US", "WR", "WT"),
)
OWN_GO_RULES = re.compile(
    r"ko(SIMPLE|POSITIONAL|SITUATIONAL)(?:score[A-Z]+)?(?:tax[A-Z]+)?(?:sui([01]))?"
)
_LETTERS = re.compile(r"[a-z]{2}")
_NAME = re.compile(r"[a-z][0-9]{1,2}")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one game is written.

    Attributes:
        number: GM.
        size: its usual size, where SZ is missing.
        letters: a point is two letters, column and row from the top left; else a letter and the
            row's number from the top left, as in the moves' own text.
    """

    number: int
    size: int
    letters: bool

    def point(self, text: str, size: int) -> int | None:
        """The point of that name, counted row by row from the top left; None if there is none."""
        text = text.strip() if self.letters else text.strip().lower()
        if not (_LETTERS if self.letters else _NAME).fullmatch(text):
            return None
        column = ord(text[0]) - 97
        row = ord(text[1]) - 97 if self.letters else int(text[1:]) - 1
        return row * size + column if column < size and 0 <= row < size else None

    def name(self, point: int, size: int) -> str:
        """The name of a point."""
        row, column = divmod(point, size)
        return chr(97 + column) + (chr(97 + row) if self.letters else str(row + 1))


DIALECTS = {
    "go": Dialect(1, 19, True),
    "othello": Dialect(2, 8, False),
    "gomoku": Dialect(4, 15, True),
    "hex": Dialect(11, 11, False),
}


def usual_name(name: str, params: Mapping[str, Any]) -> str:
    """The name that a game is recorded under: mnk with five in a row on a square is gomoku."""
    square = name == "mnk" and params.get("m") == params.get("n") and params.get("k") == 5
    return "gomoku" if square else name


def start_text(game: NativeGame, stones: Sequence[str], first: int) -> str:
    """The text of the position with these stones, X and O and dots, in which `first` moves.

    Where the stones say who moves, as in gomoku, `first` does not matter.
    """
    size = int(game.params["size"])
    if game.name == "othello":
        return "".join(stones).replace(".", "-") + " " + "XO"[first]
    rows = "/".join("".join(stones[i : i + size]) for i in range(0, size * size, size))
    if game.name == "go":
        return f"{rows} {'bw'[first]}"
    return f"{rows} {'XO'[first]}" if game.name == "hex" and game.params["swap"] else rows


def setup_of(dialect: Dialect, state: State, size: int) -> str:
    """AB, AW and PL that set a state up."""
    stones = state.text.partition(" ")[0].replace("/", "")
    text = ""
    for tag, sign in (("AB", "X"), ("AW", "O")):
        points = [dialect.name(at, size) for at, stone in enumerate(stones) if stone == sign]
        text += tag + "".join(f"[{point}]" for point in points) if points else ""
    return text if state.is_terminal else f"{text}PL[{'BW'[state.to_play]}]"


def rules_of(game: NativeGame) -> dict[str, str]:
    """KM and RU as they are written."""
    params = game.params
    if game.name == "go":
        rules = f"ko{str(params['ko']).upper()}scoreAREAtaxNONEsui{params['suicide']}"
        return {"KM": np.format_float_positional(float(params["komi"]), trim="-"), "RU": rules}
    if usual_name(game.name, params) == "gomoku":
        return {"RU": str(params["rule"])}
    return {"RU": "swap"} if game.name == "hex" and params["swap"] else {}


def result_of(state: State) -> str:
    """RE of a finished game: "B+3.5", "W+" where nothing is counted, "0" for a draw."""
    returns, score = state.returns, state.score
    if returns[0] == 0:
        return "0"
    winner = int(returns[1] > returns[0])
    return "BW"[winner] + "+" + ("" if score is None else f"{float(score[winner]):g}")


def need_dialect(name: str, game: NativeGame) -> tuple[Dialect, int]:
    """How the game of that name is written, and the side of its board.

    Raises:
        DataError: SGF does not hold it.
    """
    usual = usual_name(name, game.params)
    if usual not in DIALECTS:
        raise DataError(f"SGF holds {', '.join(DIALECTS)} here, not {name}")
    return DIALECTS[usual], game.obs_shape[1]
