"""`SvgCanvas`: the shapes of canvas.py as a drawing in SVG, one string that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from playout.envs.drawing.canvas import Color, Point


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _hex(color: Color) -> str:
    return "#" + "".join(f"{part:02x}" for part in color)


class SvgCanvas:
    """Shapes are drawn on it as on `Canvas`; `document` is what came of it."""

    def __init__(self, width: int, height: int, color: Color) -> None:
        self._size = (width, height)
        self._shapes: list[str] = []
        self.rectangle((0, 0), (width, height), color)

    @property
    def document(self) -> str:
        """The drawing, valid XML."""
        width, height = self._size
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}">'
        )
        return "\n".join([head, *self._shapes, "</svg>\n"])

    def disc(self, center: Point, radius: float, color: Color) -> None:
        """A filled circle."""
        self._circle(center, radius, f'fill="{_hex(color)}"')

    def ring(self, center: Point, radius: float, width: float, color: Color) -> None:
        """A circle drawn with a pen of `width`."""
        pen = f'fill="none" stroke="{_hex(color)}" stroke-width="{_number(width)}"'
        self._circle(center, radius, pen)

    def line(self, start: Point, end: Point, width: float, color: Color) -> None:
        """A straight line with round ends."""
        (x, y), (x2, y2) = start, end
        self._shapes.append(
            f'<line x1="{_number(x)}" y1="{_number(y)}" x2="{_number(x2)}" y2="{_number(y2)}" '
            f'stroke="{_hex(color)}" stroke-width="{_number(width)}" stroke-linecap="round"/>'
        )

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        """A filled polygon."""
        places = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        self._shapes.append(f'<polygon points="{places}" fill="{_hex(color)}"/>')

    def rectangle(self, corner: Point, opposite: Point, color: Color) -> None:
        """A filled rectangle with sides along the axes."""
        (x, y), (x2, y2) = corner, opposite
        left, top = min(x, x2), min(y, y2)
        self._shapes.append(
            f'<rect x="{_number(left)}" y="{_number(top)}" width="{_number(abs(x2 - x))}" '
            f'height="{_number(abs(y2 - y))}" fill="{_hex(color)}"/>'
        )

    def text(self, at: Point, text: str, size: float, color: Color, *, start: bool = False) -> None:
        """A line of text around `at`, or from there on, its capitals `size` high."""
        x, y = at
        anchor = "start" if start else "middle"
        self._shapes.append(
            f'<text x="{_number(x)}" y="{_number(y + size / 2)}" font-size="{_number(size * 1.4)}" '
            f'font-family="sans-serif" text-anchor="{anchor}" fill="{_hex(color)}">'
            f"{escape(text)}</text>"
        )

    def _circle(self, center: Point, radius: float, paint: str) -> None:
        x, y = center
        self._shapes.append(
            f'<circle cx="{_number(x)}" cy="{_number(y)}" r="{_number(radius)}" {paint}/>'
        )
