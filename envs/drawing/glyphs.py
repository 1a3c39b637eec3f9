"""Letters and digits as strokes, for pictures without a font.

A glyph is a few lines through points of a grid 4 wide and 6 high, "xy" from the top left; small
letters are drawn as capitals. What is not here is drawn as an empty box.
"""

from __future__ import annotations

from itertools import pairwise

WIDTH, HEIGHT, ADVANCE = 4, 6, 6
"""Of a glyph, and from one glyph to the next, in steps of the grid."""

_GLYPHS = {
    "A": "06 20 46|14 34",
    "B": "00 06 36 45 44 33 03|33 42 41 30 00",
    "C": "41 30 10 01 05 16 36 45",
    "D": "00 06 26 44 42 20 00",
    "E": "40 00 06 46|03 33",
    "F": "40 00 06|03 33",
    "G": "41 30 10 01 05 16 36 45 43 23",
    "H": "00 06|40 46|03 43",
    "I": "20 26|10 30|16 36",
    "J": "40 45 36 16 05",
    "K": "00 06|40 03 46",
    "L": "00 06 46",
    "M": "06 00 23 40 46",
    "N": "06 00 46 40",
    "O": "10 01 05 16 36 45 41 30 10",
    "P": "06 00 30 41 42 33 03",
    "Q": "10 01 05 16 36 45 41 30 10|24 46",
    "R": "06 00 30 41 42 33 03|23 46",
    "S": "41 30 10 01 02 13 33 44 45 36 16 05",
    "T": "00 40|20 26",
    "U": "00 05 16 36 45 40",
    "V": "00 26 40",
    "W": "00 16 23 36 40",
    "X": "00 46|40 06",
    "Y": "00 23 40|23 26",
    "Z": "00 40 06 46",
    "0": "10 01 05 16 36 45 41 30 10|14 32",
    "1": "11 20 26|16 36",
    "2": "01 10 30 41 42 06 46",
    "3": "01 10 30 41 42 33 13|33 44 45 36 16 05",
    "4": "36 30 04 44",
    "5": "40 00 03 33 44 45 36 06",
    "6": "40 10 01 05 16 36 45 44 33 03",
    "7": "00 40 16",
    "8": "13 02 01 10 30 41 42 33 13 04 05 16 36 45 44 33",
    "9": "43 13 02 01 10 30 41 45 36 06",
    ".": "26 26",
    ",": "25 17",
    ":": "22 22|25 25",
    ";": "22 22|25 17",
    "-": "13 33",
    "+": "13 33|22 24",
    "*": "13 33|22 24|12 34|32 14",
    "/": "06 40",
    "|": "20 26",
    "(": "30 21 25 36",
    ")": "10 21 25 16",
    "'": "20 21",
    "?": "01 10 30 41 42 24|26 26",
    "!": "20 24|26 26",
    "=": "12 32|14 34",
    "#": "10 16|30 36|02 42|04 44",
    "%": "00 00|06 40|46 46",
    " ": "",
}
_BOX = "00 40 46 06 00"

Stroke = tuple[tuple[float, float], tuple[float, float]]


def strokes(text: str) -> list[Stroke]:
    """The lines of a text as pairs of points, in steps of the grid, from its top left."""
    found: list[Stroke] = []
    for place, letter in enumerate(text.upper()):
        for line in _GLYPHS.get(letter, _BOX).split("|"):
            points = [(int(xy[0]) + place * ADVANCE, int(xy[1])) for xy in line.split()]
            found += pairwise(points)
    return found


def width(text: str) -> int:
    """The width of a text in steps of the grid."""
    return max(0, len(text) * ADVANCE - (ADVANCE - WIDTH))
