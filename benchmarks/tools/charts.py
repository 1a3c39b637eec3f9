"""Charts that can be read: numbers beside points whose names are in a list, and plain ticks.

Each number is tried at places around its point, near ones first, until it covers no other number
and no point; far ones get a line. Left out: what is drawn otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

SIZE = 7.0
"""Of the numbers, in points."""
_MARK = 3.5  # half a marker, in points
_REACH = (8.0, 13.0, 19.0, 26.0, 34.0, 43.0, 53.0)  # from a point to the middle of its number
_NEAR = 13.0
_ANGLES = (45, 135, 315, 225, 0, 180, 90, 270)

Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""


def _apart(one: Box, other: Box) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def number_places(
    points: Sequence[tuple[float, float]], texts: Sequence[str], area: Box, *, size: float = SIZE
) -> list[tuple[float, float]]:
    """Where the middles of short texts stand beside points, so that none covers another or a point.

    Args:
        points: in points (1/72 inch), within `area`.
        texts: one each.
        area: what the texts stay in.
        size: of the letters.

    Returns:
        The middles, in points; where no place is left, the one that covers least.
    """
    marks = [(x - _MARK, y - _MARK, x + _MARK, y + _MARK) for x, y in points]
    boxes: list[Box] = []
    found: list[tuple[float, float]] = []
    for (x, y), text in zip(points, texts, strict=True):
        wide, high = 0.34 * size * len(text), 0.42 * size
        best: tuple[int, tuple[float, float], Box] | None = None
        for reach in _REACH:
            for angle in _ANGLES:
                turn = math.radians(angle)
                middle = x + reach * math.cos(turn), y + reach * math.sin(turn)
                box = middle[0] - wide, middle[1] - high, middle[0] + wide, middle[1] + high
                inside = area[0] <= box[0] and area[1] <= box[1]
                inside = inside and box[2] <= area[2] and box[3] <= area[3]
                covered = sum(not _apart(box, one) for one in (*marks, *boxes))
                if inside and (best is None or covered < best[0]):
                    best = covered, middle, box
            if best is not None and best[0] == 0:
                break
        assert best is not None  # an area that holds a point holds a place beside it
        found.append(best[1])
        boxes.append(best[2])
    return found


def plain_log_ticks(axis: Any) -> None:
    """A logarithmic axis with limits as they stay: a handful of plain numbers that stand apart."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    each = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if decades < 0.8 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=each if decades < 2 else (1.0,)))
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_minor_formatter(NullFormatter())


def number_points(
    axes: Any, xs: Sequence[float], ys: Sequence[float], texts: Sequence[str]
) -> None:
    """Writes texts beside points of a chart; call it when scales and limits are as they stay."""
    figure = axes.figure
    figure.canvas.draw()
    scale = 72 / figure.dpi
    points = (axes.transData.transform(list(zip(xs, ys, strict=True))) * scale).tolist()
    frame = axes.get_window_extent()
    area = frame.x0 * scale, frame.y0 * scale, frame.x1 * scale, frame.y1 * scale
    places = number_places([(x, y) for x, y in points], texts, area)
    for x, y, text, (px, py), (tx, ty) in zip(xs, ys, texts, points, places, strict=True):
        far = math.hypot(tx - px, ty - py) > _NEAR
        axes.annotate(
            text,
            (x, y),
            xytext=(tx - px, ty - py),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=SIZE,
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.5} if far else None,
        )
