"""A small rasteriser: discs, thick lines and convex polygons with smooth edges, in NumPy alone.

Every shape is a signed distance in pixels; half a pixel on either side of its edge is blended.
Text is drawn in strokes (glyphs.py). Enough for boards and control tasks; leaves out images and
curves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from playout.envs.drawing.glyphs import HEIGHT, strokes, width

Color = tuple[int, int, int]
Point = tuple[float, float]
Floats = npt.NDArray[np.float64]


class Canvas:
    """A picture that shapes are drawn on; x grows to the right, y downwards, in pixels."""

    def __init__(self, width: int, height: int, color: Color) -> None:
        self._pixels = np.empty((height, width, 3))
        self._pixels[:] = color

    @property
    def image(self) -> npt.NDArray[np.uint8]:
        """The picture, uint8 [height, width, 3]."""
        return (self._pixels + 0.5).astype(np.uint8)

    def disc(self, center: Point, radius: float, color: Color) -> None:
        """A filled circle."""
        x, y = center
        area = self._area(x - radius, y - radius, x + radius, y + radius)
        if area is not None:
            xs, ys, where = area
            self._blend(where, np.hypot(xs - x, ys - y) - radius, color)

    def ring(self, center: Point, radius: float, width: float, color: Color) -> None:
        """A circle drawn with a pen of `width`."""
        x, y = center
        reach = radius + width / 2
        area = self._area(x - reach, y - reach, x + reach, y + reach)
        if area is not None:
            xs, ys, where = area
            distance = np.abs(np.hypot(xs - x, ys - y) - radius) - width / 2
            self._blend(where, distance, color)

    def line(self, start: Point, end: Point, width: float, color: Color) -> None:
        """A straight line with round ends."""
        (x, y), (x2, y2), half = start, end, width / 2
        area = self._area(
            min(x, x2) - half, min(y, y2) - half, max(x, x2) + half, max(y, y2) + half
        )
        if area is None:
            return
        xs, ys, where = area
        dx, dy = x2 - x, y2 - y
        length = dx * dx + dy * dy
        along = np.clip(((xs - x) * dx + (ys - y) * dy) / length, 0, 1) if length > 0 else 0.0
        self._blend(where, np.hypot(xs - x - along * dx, ys - y - along * dy) - half, color)

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        """A filled convex polygon, its corners in either order."""
        corners = np.asarray(points, np.float64)
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        area = self._area(left, top, right, bottom)
        if area is None:
            return
        xs, ys, where = area
        ahead = np.roll(corners, -1, axis=0) - corners
        before = np.roll(ahead, 1, axis=0)
        turn = np.sign(np.sum(before[:, 0] * ahead[:, 1] - before[:, 1] * ahead[:, 0]))
        distance = np.full(np.broadcast_shapes(xs.shape, ys.shape), -np.inf)
        for (x, y), (dx, dy) in zip(corners, ahead, strict=True):
            size = np.hypot(dx, dy)
            if size > 0:
                distance = np.maximum(distance, turn * ((xs - x) * dy - (ys - y) * dx) / size)
        self._blend(where, distance, color)

    def rectangle(self, corner: Point, opposite: Point, color: Color) -> None:
        """A filled rectangle with sides along the axes."""
        (x, y), (x2, y2) = corner, opposite
        self.polygon([(x, y), (x2, y), (x2, y2), (x, y2)], color)

    def text(self, at: Point, text: str, size: float, color: Color, *, start: bool = False) -> None:
        """A line of text around `at`, or from there on, its capitals `size` high."""
        step = size / HEIGHT
        left, top = at[0] - (0 if start else width(text) * step / 2), at[1] - size / 2
        for (x, y), (x2, y2) in strokes(text):
            first, last = (left + x * step, top + y * step), (left + x2 * step, top + y2 * step)
            self.line(first, last, max(1.0, step), color)

    def _area(
        self, left: float, top: float, right: float, bottom: float
    ) -> tuple[Floats, Floats, tuple[slice, slice]] | None:
        """Pixel centres in a box, as a row and a column; None outside the picture."""
        height, width, _ = self._pixels.shape
        x, x2 = max(int(left) - 1, 0), min(int(right) + 2, width)
        y, y2 = max(int(top) - 1, 0), min(int(bottom) + 2, height)
        if x >= x2 or y >= y2:
            return None
        xs, ys = np.arange(x, x2, dtype=np.float64), np.arange(y, y2, dtype=np.float64)
        return xs + 0.5, ys[:, None] + 0.5, (slice(y, y2), slice(x, x2))

    def _blend(self, where: tuple[slice, slice], distance: Floats, color: Color) -> None:
        cover = np.clip(0.5 - distance, 0.0, 1.0)[..., None]
        part = self._pixels[where]
        part += cover * (np.asarray(color, np.float64) - part)
