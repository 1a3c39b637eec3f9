"""Boards on a canvas: where each kind of board has its places, and what lies below the pieces.

`pixels` and `svg` draw with the same calls, on canvases of their own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from playout.envs.drawing.canvas import Canvas, Color, Point
from playout.envs.drawing.description import Board
from playout.envs.drawing.pieces import INK, Painter, darker, paint_piece
from playout.envs.drawing.svg import SvgCanvas

PLATE: Color = (38, 84, 158)
HOLE: Color = (226, 232, 241)
PAPER: Color = (250, 248, 243)
CLOTH: Color = (58, 112, 84)
_HEIGHT = 0.866  # of a row of hexagons, in widths of a cell
_STARS = {9: (2, 4, 6), 13: (3, 6, 9), 15: (3, 7, 11), 19: (3, 9, 15)}


class _Layout:
    """Sizes of one picture: the width of a cell, margins, and where the middle of a place is."""

    def __init__(self, board: Board) -> None:
        side = max(board.rows, board.columns)
        self.board = board
        self.cell = float(
            96 if board.kind == "grid" else 64 if side <= 8 else 48 if side < 12 else 32
        )
        if board.kind == "frame":
            self.cell = 64.0
        self.left = self.top = self.right = self.bottom = 0.0
        named = bool(board.row_names or board.column_names)
        if board.kind == "frame":
            self.left = self.top = self.right = self.bottom = self.cell / 4
        elif board.kind == "hexagons":
            self.left = self.right = self.top = self.bottom = self.cell * 0.75
        elif board.kind in ("table", "triangles"):
            self.left = self.right = self.top = self.bottom = self.cell / 4
        elif named:
            self.left = self.bottom = max(20.0, self.cell * 0.45)
            self.right = self.top = self.cell * 0.2
        self.line = 24.0  # height of a caption
        self.bottom += self.line * len(board.captions)

    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        across, down = float(self.board.columns), float(self.board.rows)
        if self.board.kind == "hexagons":
            across, down = across + (self.board.rows - 1) / 2, (down - 1) * _HEIGHT + 2 / 3**0.5
        width = self.left + across * self.cell + self.right
        longest = max(map(len, self.board.captions), default=0)
        return (
            int(np.ceil(max(width, longest * 10.0 + 20))),
            int(np.ceil(self.top + down * self.cell + self.bottom)),
        )

    def at(self, row: float, column: float) -> Point:
        """The middle of a place."""
        if self.board.kind == "hexagons":
            x = column + row / 2 + 0.5
            return self.left + x * self.cell, self.top + (row * _HEIGHT + 3**-0.5) * self.cell
        return self.left + (column + 0.5) * self.cell, self.top + (row + 0.5) * self.cell


def _cells(canvas: Painter, layout: _Layout) -> None:
    board, half = layout.board, layout.cell / 2
    for row in range(board.rows):
        for column in range(board.columns):
            other = board.second is not None and (row + column) % 2 == 1
            color = board.second if other and board.second is not None else board.ground
            color = board.shades.get((row, column), color)
            x, y = layout.at(row, column)
            inset = 0.5 if board.second is None else 0.0
            corner = (x - half + inset, y - half + inset)
            canvas.rectangle(corner, (x + half - inset, y + half - inset), color)


def _frame(canvas: Painter, layout: _Layout) -> None:
    for row in range(layout.board.rows):
        for column in range(layout.board.columns):
            canvas.disc(layout.at(row, column), layout.cell * 0.42, HOLE)


def _grid(canvas: Painter, layout: _Layout) -> None:
    cell, board = layout.cell, layout.board
    width, height = board.columns * cell, board.rows * cell
    for i in range(1, board.columns):
        canvas.line((i * cell, cell * 0.15), (i * cell, height - cell * 0.15), 4, INK)
    for i in range(1, board.rows):
        canvas.line((cell * 0.15, i * cell), (width - cell * 0.15, i * cell), 4, INK)


def _points(canvas: Painter, layout: _Layout) -> None:
    rows, columns = layout.board.rows, layout.board.columns
    for row in range(rows):
        canvas.line(layout.at(row, 0), layout.at(row, columns - 1), 1.3, INK)
    for column in range(columns):
        canvas.line(layout.at(0, column), layout.at(rows - 1, column), 1.3, INK)
    if rows == columns:
        for row in _STARS.get(rows, ()):
            for column in _STARS[rows]:
                canvas.disc(layout.at(row, column), layout.cell * 0.1, INK)


def _corners(at: Point, radius: float) -> list[Point]:
    """Of a hexagon, from the upper left one clockwise: upper left, top, upper right, ..."""
    turns = [np.deg2rad(angle) for angle in (210, 270, 330, 30, 90, 150)]
    return [(at[0] + radius * float(np.cos(t)), at[1] + radius * float(np.sin(t))) for t in turns]


def _hexagons(canvas: Painter, layout: _Layout) -> None:
    board, radius = layout.board, layout.cell * 3**-0.5
    if board.sides is not None:
        for row in range(board.rows):
            for column in range(board.columns):
                ring = _corners(layout.at(row, column), radius)
                outer = [
                    (row == 0, 0, (0, 1, 2)),
                    (row == board.rows - 1, 0, (3, 4, 5)),
                    (column == 0, 1, (4, 5, 0)),
                    (column == board.columns - 1, 1, (1, 2, 3)),
                ]
                for there, side, (a, b, c) in outer:
                    if there:
                        for start, end in ((a, b), (b, c)):
                            pen = layout.cell * 0.2
                            canvas.line(ring[start], ring[end], pen, board.sides[side])
    for row in range(board.rows):
        for column in range(board.columns):
            at = layout.at(row, column)
            canvas.polygon(_corners(at, radius), darker(board.ground))
            canvas.polygon(
                _corners(at, radius * 0.94), board.shades.get((row, column), board.ground)
            )


def _triangles(canvas: Painter, layout: _Layout) -> None:
    """Twelve points above and below; column 6 is the bar, column 13 what has been borne off."""
    cell, rows = layout.cell, layout.board.rows
    for column in range(13):
        if column == 6:
            continue
        for top in (True, False):  # the upper points, then the lower ones
            x, y = layout.at(0 if top else rows - 1, column)
            edge = y - cell / 2 if top else y + cell / 2
            tip = edge + (cell * 4.6 if top else -cell * 4.6)
            dark = (column - (column > 6) + top) % 2 == 0
            color: Color = (150, 96, 60) if dark else (226, 204, 166)
            canvas.polygon([(x - cell / 2, edge), (x + cell / 2, edge), (x, tip)], color)
    color = darker(layout.board.ground)
    for column in (6, 13):
        (x, high), (_, low) = layout.at(0, column), layout.at(rows - 1, column)
        canvas.rectangle(
            (x - cell * 0.45, high - cell / 2), (x + cell * 0.45, low + cell / 2), color
        )


def _table(canvas: Painter, layout: _Layout) -> None:
    """A cloth: nothing below the pieces."""


_GROUNDS: dict[str, tuple[Callable[[Painter, _Layout], None], Color | None]] = {
    "cells": (_cells, None),
    "frame": (_frame, PLATE),
    "grid": (_grid, PAPER),
    "points": (_points, (222, 184, 118)),
    "hexagons": (_hexagons, PAPER),
    "triangles": (_triangles, None),
    "table": (_table, CLOTH),
}


def _names(canvas: Painter, layout: _Layout, paper: Color) -> None:
    board, cell = layout.board, layout.cell
    ink: Color = INK if sum(paper) > 400 else (240, 240, 240)
    high = min(12.0, max(8.0, cell * 0.2))
    away = cell / 2 + max(9.0, cell * 0.2)
    if board.kind == "hexagons":
        away = cell * 0.95
    for row, name in enumerate(board.row_names):
        x, y = layout.at(row, 0)
        canvas.text((x - away, y), name, high, ink)
    for column, name in enumerate(board.column_names):
        if board.kind == "hexagons":
            x, y = layout.at(0, column)
            canvas.text((x - cell * 0.45, y - cell * 0.88), name, high, ink)
        else:
            x, y = layout.at(board.rows - 1, column)
            canvas.text((x, y + away), name, high, ink)
    _, height = layout.size()
    for i, caption in enumerate(board.captions):
        y = height - layout.line * (len(board.captions) - i - 0.5) - 4
        canvas.text((10, y), caption, 10, ink, start=True)


def _paint(canvas: Painter, layout: _Layout, paper: Color) -> None:
    _GROUNDS[layout.board.kind][0](canvas, layout)
    for piece in layout.board.pieces:
        paint_piece(canvas, layout.at(piece.row, piece.column), layout.cell, piece)
    _names(canvas, layout, paper)


def _paper(board: Board) -> Color:
    found = _GROUNDS[board.kind][1]
    if found is not None:
        return found
    return board.ground if board.kind == "triangles" else (232, 228, 219)


def pixels(board: Board) -> npt.NDArray[np.uint8]:
    """The board as a picture, uint8 [H, W, 3]."""
    layout, paper = _Layout(board), _paper(board)
    canvas = Canvas(*layout.size(), paper)
    _paint(canvas, layout, paper)
    return canvas.image


def svg(board: Board) -> str:
    """The board as an SVG document."""
    layout, paper = _Layout(board), _paper(board)
    canvas = SvgCanvas(*layout.size(), paper)
    _paint(canvas, layout, paper)
    return canvas.document
