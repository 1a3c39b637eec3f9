"""Pieces as shapes: stones, crosses, tiles, cards, dice, and outlines of chess pieces.

Outlines are convex polygons and discs in a cell from -0.5 to 0.5 both ways, y downwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

from playout.envs.drawing.canvas import Color, Point
from playout.envs.drawing.description import Piece

INK: Color = (55, 62, 72)
MARK: Color = (255, 255, 255)
CARD: Color = (253, 252, 248)


class Painter(Protocol):
    """What shapes are drawn on: `Canvas` for pixels, `SvgCanvas` for SVG."""

    def disc(self, center: Point, radius: float, color: Color) -> None:
        """A filled circle."""

    def ring(self, center: Point, radius: float, width: float, color: Color) -> None:
        """A circle drawn with a pen of `width`."""

    def line(self, start: Point, end: Point, width: float, color: Color) -> None:
        """A straight line with round ends."""

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        """A filled convex polygon."""

    def rectangle(self, corner: Point, opposite: Point, color: Color) -> None:
        """A filled rectangle with sides along the axes."""

    def text(self, at: Point, text: str, size: float, color: Color, *, start: bool = False) -> None:
        """A line of text around `at`, or from there on."""


Polygon = tuple[Point, ...]
Disc = tuple[float, float, float]


def _box(left: float, top: float, right: float, bottom: float) -> Polygon:
    return ((left, top), (right, top), (right, bottom), (left, bottom))


_BASE: Polygon = ((-0.23, 0.28), (0.23, 0.28), (0.28, 0.39), (-0.28, 0.39))
_SPIKES = ((-0.31, -0.2), (-0.17, -0.3), (0.0, -0.34), (0.17, -0.3), (0.31, -0.2))

_OUTLINES: dict[str, tuple[tuple[Polygon, ...], tuple[Disc, ...]]] = {
    "pawn": (
        (_BASE, ((-0.08, -0.08), (0.08, -0.08), (0.18, 0.3), (-0.18, 0.3))),
        ((0.0, -0.15, 0.125),),
    ),
    "rook": (
        (
            _BASE,
            ((-0.16, -0.14), (0.16, -0.14), (0.2, 0.3), (-0.2, 0.3)),
            _box(-0.24, -0.24, 0.24, -0.12),
            *(_box(x - 0.065, -0.35, x + 0.065, -0.2) for x in (-0.175, 0.0, 0.175)),
        ),
        (),
    ),
    "knight": (
        (
            _BASE,
            ((-0.1, -0.1), (0.02, -0.33), (0.2, -0.14), (0.24, 0.3), (-0.2, 0.3)),
            ((-0.32, -0.02), (-0.06, -0.3), (0.1, -0.3), (0.06, -0.06), (-0.24, 0.08)),
            ((-0.04, -0.28), (0.03, -0.41), (0.1, -0.26)),
        ),
        (),
    ),
    "bishop": (
        (
            _BASE,
            ((0.0, -0.34), (0.14, -0.15), (0.11, 0.02), (-0.11, 0.02), (-0.14, -0.15)),
            ((-0.08, 0.0), (0.08, 0.0), (0.19, 0.3), (-0.19, 0.3)),
        ),
        ((0.0, -0.36, 0.055),),
    ),
    "queen": (
        (
            _BASE,
            ((-0.25, 0.05), (0.25, 0.05), (0.19, 0.3), (-0.19, 0.3)),
            *(((x, y), (0.7 * x + 0.09, 0.1), (0.7 * x - 0.09, 0.1)) for x, y in _SPIKES),
        ),
        tuple((x, y, 0.045) for x, y in _SPIKES),
    ),
    "king": (
        (
            _BASE,
            ((-0.28, -0.1), (-0.1, -0.2), (0.1, -0.2), (0.28, -0.1), (0.19, 0.3), (-0.19, 0.3)),
            _box(-0.035, -0.43, 0.035, -0.18),
            _box(-0.11, -0.37, 0.11, -0.3),
        ),
        (),
    ),
}


def darker(color: Color) -> Color:
    """Three quarters as bright."""
    return (color[0] * 3 // 4, color[1] * 3 // 4, color[2] * 3 // 4)


def legible(color: Color) -> Color:
    """Black or white, whichever can be read on it."""
    return (40, 42, 48) if sum(color) > 400 else (250, 250, 250)


def _disc(canvas: Painter, at: Point, size: float, piece: Piece) -> None:
    """A stone with a rim; a white ring marks it, a dark one if it is white itself."""
    canvas.disc(at, size * 0.42, darker(piece.color))
    canvas.disc(at, size * (0.34 if size > 40 else 0.38), piece.color)
    if piece.marked:
        mark = MARK if sum(piece.color) < 700 else INK
        canvas.ring(at, size * 0.25, size * 0.07, mark)


def _small_disc(canvas: Painter, at: Point, size: float, piece: Piece) -> None:
    canvas.disc(at, size * 0.2, darker(piece.color))
    canvas.disc(at, size * 0.16, piece.color)


def _cross(canvas: Painter, at: Point, size: float, piece: Piece) -> None:
    (x, y), reach = at, size * 0.27
    pen = size * (15 / 96 if piece.marked else 9 / 96)
    canvas.line((x - reach, y - reach), (x + reach, y + reach), pen, piece.color)
    canvas.line((x - reach, y + reach), (x + reach, y - reach), pen, piece.color)


def _ring(canvas: Painter, at: Point, size: float, piece: Piece) -> None:
    canvas.ring(at, size * 0.27, size * (15 / 96 if piece.marked else 9 / 96), piece.color)


def _tile(canvas: Painter, at: Point, size: float, piece: Piece) -> None:
    half = size * 0.46
    canvas.rectangle((at[0] - half, at[1] - half), (at[0] + half, at[1] + half), piece.color)


def _card(canvas: Painter, at: Point, size: float, piece: Piece) -> None:
    for grow, color in ((0.03, INK), (0.0, piece.color)):
        wide, high = size * (0.33 + grow), size * (0.45 + grow)
        canvas.rectangle((at[0] - wide, at[1] - high), (at[0] + wide, at[1] + high), color)


_PIPS = {1: "4", 2: "08", 3: "048", 4: "0268", 5: "02468", 6: "023568"}


def _die(canvas: Painter, at: Point, size: float, piece: Piece) -> None:
    for half, color in ((0.4, INK), (0.37, piece.color)):
        reach = size * half
        corner = (at[0] - reach, at[1] - reach)
        canvas.rectangle(corner, (at[0] + reach, at[1] + reach), color)
    for place in _PIPS.get(int(piece.label), ""):
        x, y = (int(place) % 3 - 1) * size * 0.22, (int(place) // 3 - 1) * size * 0.22
        canvas.disc((at[0] + x, at[1] + y), size * 0.07, legible(piece.color))


def _dot(canvas: Painter, at: Point, size: float, piece: Piece) -> None:
    canvas.disc(at, size * 0.09, piece.color)


def _nothing(canvas: Painter, at: Point, size: float, piece: Piece) -> None:
    """A label alone."""


_SIMPLE: dict[str, Callable[[Painter, Point, float, Piece], None]] = {
    "disc": _disc,
    "small disc": _small_disc,
    "cross": _cross,
    "ring": _ring,
    "tile": _tile,
    "card": _card,
    "die": _die,
    "dot": _dot,
    "label": _nothing,
}


def paint_piece(canvas: Painter, at: Point, size: float, piece: Piece) -> None:
    """Draws a piece around the middle of its cell, which is `size` wide."""
    if piece.shape in _SIMPLE:
        _SIMPLE[piece.shape](canvas, at, size, piece)
    else:
        _outline(canvas, at, size, piece)
    if piece.label and piece.shape != "die":
        most = {"label": 0.2, "card": 0.3}.get(piece.shape, 0.34)
        high = size * min(most, (0.55 if piece.shape == "card" else 0.9) / len(piece.label))
        color = piece.color if piece.shape == "label" else legible(piece.color)
        canvas.text(at, piece.label, high, color)


def _outline(canvas: Painter, at: Point, size: float, piece: Piece) -> None:
    """All rims first and then all insides, so that the parts melt into one figure."""
    polygons, discs = _OUTLINES[piece.shape]
    rim: Color = (30, 32, 38) if sum(piece.color) > 380 else (225, 225, 220)
    pen = size * 0.045
    placed = [[(at[0] + size * x, at[1] + size * y) for x, y in part] for part in polygons]
    round_parts = [((at[0] + size * x, at[1] + size * y), size * r) for x, y, r in discs]
    for part in placed:
        for start, end in pairwise([*part, part[0]]):
            canvas.line(start, end, 2 * pen, rim)
    for center, radius in round_parts:
        canvas.disc(center, radius + pen, rim)
    for part in placed:
        canvas.polygon(part, piece.color)
    for center, radius in round_parts:
        canvas.disc(center, radius, piece.color)
    if piece.shape == "knight":
        canvas.disc((at[0] - size * 0.05, at[1] - size * 0.16), size * 0.03, rim)
