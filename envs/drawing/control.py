"""Pictures of the control tasks, from a row of their state.

Laid out as Gymnasium's, without pygame.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from playout.envs.catalogue import TASKS, load
from playout.envs.drawing.canvas import Canvas, Color, Point

Image = npt.NDArray[np.uint8]
Row = npt.NDArray[np.float64]

PAPER: Color = (255, 255, 255)
INK: Color = (40, 44, 52)
WOOD: Color = (202, 152, 101)
STEEL: Color = (129, 132, 203)
LINK: Color = (32, 168, 168)
JOINT: Color = (214, 178, 28)
ROD: Color = (204, 77, 77)
GROUND: Color = (120, 160, 110)


def render_control(task: str, state: Row) -> Image:
    """A picture uint8 [H, W, 3] of one environment's state [S]."""
    drawing = TASKS[task].drawing
    if drawing is None:
        raise ValueError(f"the control task {task} has no drawing")
    picture: Image = load(drawing)(state)
    return picture


def _turned(x: float, y: float, angle: float, at: Point) -> Point:
    """(x right, y up) turned counter-clockwise by `angle`, moved to the pixel `at`."""
    sine, cosine = math.sin(angle), math.cos(angle)
    return at[0] + x * cosine - y * sine, at[1] - x * sine - y * cosine


def _bar(
    canvas: Canvas, at: Point, angle: float, length: float, width: float, color: Color
) -> Point:
    """A bar from `at` in direction `angle` (0 right, counter-clockwise); returns its far end."""
    half = width / 2
    corners = [(0.0, -half), (length, -half), (length, half), (0.0, half)]
    canvas.polygon([_turned(x, y, angle, at) for x, y in corners], color)
    return _turned(length, 0.0, angle, at)


def cartpole(state: Row) -> Image:
    """Cart on a rail, pole on an axle."""
    canvas = Canvas(600, 400, PAPER)
    x, rail = float(state[0]) / 4.8 * 600 + 300, 300.0
    canvas.line((0, rail), (600, rail), 1.5, INK)
    canvas.rectangle((x - 25, rail - 15), (x + 25, rail + 15), INK)
    axle = (x, rail - 7.5)
    _bar(
        canvas, _turned(0, -5, -float(state[2]), axle), math.pi / 2 - float(state[2]), 125, 10, WOOD
    )
    canvas.disc(axle, 5, STEEL)
    return canvas.image


def _hill(x: float) -> Point:
    return (x + 1.2) / 1.8 * 600, 400 - (math.sin(3 * x) * 0.45 + 0.55) * 600 / 1.8


def mountain_car(state: Row, goal: float = 0.5) -> Image:
    """The valley, the car and the flag."""
    canvas = Canvas(600, 400, PAPER)
    points = [_hill(float(x)) for x in np.linspace(-1.2, 0.6, 61)]
    for left, right in pairwise(points):
        canvas.polygon([left, right, (right[0], 400), (left[0], 400)], (232, 240, 228))
    for left, right in pairwise(points):
        canvas.line(left, right, 2.5, GROUND)
    foot = _hill(goal)
    top = (foot[0], foot[1] - 50)
    canvas.line(foot, top, 2, INK)
    canvas.polygon([top, (top[0] + 25, top[1] + 6), (top[0], top[1] + 12)], JOINT)
    position = float(state[0])
    at, slope = _hill(position), math.atan(3 * 0.45 * math.cos(3 * position))
    body = [(-20, 10), (20, 10), (20, 28), (-20, 28)]
    canvas.polygon([_turned(x, y, slope, at) for x, y in body], INK)
    for x in (-11, 11):
        canvas.disc(_turned(x, 8, slope, at), 8, (128, 128, 128))
    return canvas.image


def mountain_car_continuous(state: Row) -> Image:
    """The same with the flag lower down."""
    return mountain_car(state, 0.45)


def acrobot(state: Row) -> Image:
    """Two links below the bar that the tip must reach."""
    canvas = Canvas(500, 500, PAPER)
    scale = 500 / 4.4
    canvas.line((0, 250 - scale), (500, 250 - scale), 1.5, INK)
    at: Point = (250.0, 250.0)
    angle = -math.pi / 2
    for turn in (float(state[0]), float(state[1])):
        angle += turn
        end = _bar(canvas, at, angle, scale, 0.2 * scale, LINK)
        canvas.disc(at, 0.1 * scale, JOINT)
        at = end
    return canvas.image


def pendulum(state: Row) -> Image:
    """A rod on its axle; upright is angle 0."""
    canvas = Canvas(500, 500, PAPER)
    scale = 500 / 4.4
    angle = float(state[0]) + math.pi / 2
    end = _turned(scale, 0, angle, (250, 250))
    canvas.line((250, 250), end, 0.2 * scale, ROD)
    canvas.disc((250, 250), 0.05 * scale, INK)
    return canvas.image


def signal_maze(state: Row) -> Image:
    """The maze, the agent's window lighter; the sign is green for north, red for south."""
    x, y, length, signal = (int(value) for value in state)
    cell = 40
    canvas = Canvas((length + 3) * cell, 7 * cell, INK)

    def square(column: int, row: int, color: Color, inset: float = 1.0) -> None:
        left, top = (column + 1) * cell, (3 - row) * cell
        canvas.rectangle(
            (left + inset, top + inset), (left + cell - inset, top + cell - inset), color
        )

    free = {(i, 0) for i in range(length + 1)} | {(length, j) for j in range(-2, 3)}
    for column, row in free:
        seen = abs(column - x) <= 2 and abs(row - y) <= 2
        square(column, row, PAPER if seen else (176, 182, 190))
    for row in (-2, 2):
        square(length, row, JOINT, 8)
    square(0, 1, (72, 168, 96) if signal == 0 else ROD, 6)
    canvas.disc(((x + 1.5) * cell, (3.5 - y) * cell), cell * 0.32, STEEL)
    return canvas.image
