"""What a picture of a game shows, before it is drawn: `Board` with its `Piece`s.

A game is described once (stones.py, tables.py); text, pixels and SVG are drawn from that, pixels
and SVG by the same function (paint.py), so that they cannot differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Color = tuple[int, int, int]

Kind = Literal["cells", "frame", "grid", "points", "hexagons", "triangles", "table"]
"""cells: squares that touch. frame: a plate with holes. grid: lines between cells. points: stones
on crossings of lines. hexagons: a rhombus of them. triangles: a backgammon board. table: a cloth
with cards and dice."""

Shape = Literal[
    "disc",
    "small disc",
    "cross",
    "ring",
    "tile",
    "card",
    "die",
    "label",
    "dot",
    "king",
    "queen",
    "rook",
    "bishop",
    "knight",
    "pawn",
]


@dataclass(frozen=True, slots=True)
class Piece:
    """Something that lies on a board.

    Attributes:
        row: Counted from the top; may lie between cells.
        column: Counted from the left; may lie between cells.
        shape: What it looks like.
        color: Its colour, red, green and blue from 0 to 255.
        letter: What stands for it in text; "" leaves it out there.
        label: Written on it, such as the number of a tile.
        marked: It belongs to what has just won, or was just played.
    """

    row: float
    column: float
    shape: Shape
    color: Color
    letter: str = ""
    label: str = ""
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Board:
    """One position to be drawn.

    Attributes:
        kind: How places look.
        rows: How many.
        columns: How many.
        pieces: What lies on them, the lowest first.
        ground: Colour of the places; `second` is that of every other one, where kind is "cells".
        second: See there.
        row_names: Written at the left, from the top; () for none.
        column_names: Written below, or above where kind is "hexagons"; () for none.
        captions: Lines of text below.
        sides: Colours of the two players, where the edges of a board are theirs.
        shades: Colours of single places, by row and column.
    """

    kind: Kind
    rows: int
    columns: int
    pieces: tuple[Piece, ...] = ()
    ground: Color = (250, 248, 243)
    second: Color | None = None
    row_names: tuple[str, ...] = ()
    column_names: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    sides: tuple[Color, Color] | None = None
    shades: dict[tuple[int, int], Color] = field(default_factory=dict)

    def text(self) -> str:
        """The board in letters, several lines; on a table the captions alone."""
        lines = []
        if self.kind not in ("table", "triangles"):
            letters = {
                (round(piece.row), round(piece.column)): piece.letter
                for piece in self.pieces
                if piece.letter
            }
            wide = max(map(len, letters.values()), default=1)
            names = max(map(len, self.row_names), default=0)
            for row in range(self.rows):
                name = self.row_names[row].rjust(names) + " " if names else ""
                lean = " " * row if self.kind == "hexagons" else ""
                cells = [letters.get((row, x), ".").rjust(wide) for x in range(self.columns)]
                lines.append(lean + name + " ".join(cells))
            if self.column_names:
                head = " " * (names + 1) + " ".join(name.rjust(wide) for name in self.column_names)
                lines.insert(0 if self.kind == "hexagons" else len(lines), head)
        return "\n".join([*lines, *self.captions])
