"""Pictures and text of board games, from their states alone.

Connect Four as its blue frame with discs, tic-tac-toe as crosses and rings, any other game as a
board with one colour for each observation plane (seen by player 0). A line that won is marked.
Which function draws which game says the catalogue.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from playout.envs.catalogue import GAMES, load
from playout.envs.core.game import State
from playout.envs.drawing.canvas import Canvas, Color

Image = npt.NDArray[np.uint8]

PAPER: Color = (250, 248, 243)
INK: Color = (55, 62, 72)
FRAME: Color = (38, 84, 158)
HOLE: Color = (226, 232, 241)
MARK: Color = (255, 255, 255)
STONES: tuple[Color, ...] = (
    (222, 68, 62),
    (247, 199, 62),
    (72, 155, 110),
    (126, 94, 178),
    (240, 140, 60),
    (60, 160, 190),
    (140, 140, 140),
    (60, 60, 60),
)
DARK: tuple[Color, ...] = tuple((r * 3 // 4, g * 3 // 4, b * 3 // 4) for r, g, b in STONES)
CELL = 64


def render_state(state: State, mode: str) -> str | Image:
    """The board as text ("ansi") or as a picture uint8 [H, W, 3] ("rgb_array")."""
    if mode == "ansi":
        return f"{state}\n"
    if mode != "rgb_array":
        raise ValueError(f"render mode must be 'ansi' or 'rgb_array', got {mode!r}")
    entry = GAMES.get(state.game.name)
    if entry is None or entry.drawing is None:
        return any_board(state)
    picture: Image = load(entry.drawing)(state)
    return picture


def planes_of(state: State) -> npt.NDArray[np.float32]:
    """Observation planes [C, H, W] as player 0 sees them: colours stay with their players."""
    return state.observe(0)


def winning_cells(planes: npt.NDArray[Any], run: int) -> list[tuple[int, int, int]]:
    """(plane, row, column) of every cell in a line of `run` stones of one plane."""
    found: set[tuple[int, int, int]] = set()
    _, height, width = planes.shape
    for plane, stones in enumerate(planes > 0):
        for row in range(height):
            for column in range(width):
                for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
                    cells = [(row + i * down, column + i * right) for i in range(run)]
                    if all(0 <= y < height and 0 <= x < width and stones[y, x] for y, x in cells):
                        found.update((plane, y, x) for y, x in cells)
    return sorted(found)


def connect_four(state: State) -> Image:
    """A blue frame with holes; red begins. Winning discs carry a white ring."""
    planes = planes_of(state)
    _, height, width = planes.shape
    margin = CELL // 4
    canvas = Canvas(width * CELL + 2 * margin, height * CELL + 2 * margin, FRAME)
    center = {
        (row, column): (margin + (column + 0.5) * CELL, margin + (row + 0.5) * CELL)
        for row in range(height)
        for column in range(width)
    }
    for (row, column), at in center.items():
        canvas.disc(at, CELL * 0.42, HOLE)
        for plane in range(2):
            if planes[plane, row, column]:
                canvas.disc(at, CELL * 0.42, DARK[plane])
                canvas.disc(at, CELL * 0.34, STONES[plane])
    for _, row, column in winning_cells(planes[:2], state.game.params.get("run", 4)):
        canvas.ring(center[row, column], CELL * 0.25, CELL * 0.07, MARK)
    return canvas.image


def tic_tac_toe(state: State) -> Image:
    """Crosses begin, rings answer; the winning three are drawn stronger."""
    planes = planes_of(state)
    _, height, width = planes.shape
    cell = CELL * 3 // 2
    canvas = Canvas(width * cell, height * cell, PAPER)
    for i in range(1, width):
        canvas.line((i * cell, cell * 0.15), (i * cell, height * cell - cell * 0.15), 4, INK)
    for i in range(1, height):
        canvas.line((cell * 0.15, i * cell), (width * cell - cell * 0.15, i * cell), 4, INK)
    won = {(row, column) for _, row, column in winning_cells(planes[:2], 3)}
    for row in range(height):
        for column in range(width):
            x, y, reach = (column + 0.5) * cell, (row + 0.5) * cell, cell * 0.27
            pen = 15.0 if (row, column) in won else 9.0
            if planes[0, row, column]:
                canvas.line((x - reach, y - reach), (x + reach, y + reach), pen, STONES[0])
                canvas.line((x - reach, y + reach), (x + reach, y - reach), pen, STONES[0])
            elif planes[1, row, column]:
                canvas.ring((x, y), reach, pen, FRAME)
    return canvas.image


def any_board(state: State) -> Image:
    """A chequered board; a cell shows a disc in the colour of each plane set there."""
    planes = planes_of(state)
    count, height, width = planes.shape
    canvas = Canvas(width * CELL, height * CELL, PAPER)
    for row in range(height):
        for column in range(width):
            if (row + column) % 2:
                corner = (column * CELL, row * CELL)
                canvas.rectangle(corner, (corner[0] + CELL, corner[1] + CELL), (236, 231, 219))
    # A plane that is the same everywhere tells something about the game, not about a cell.
    local = [plane for plane in range(count) if np.ptp(planes[plane]) > 0]
    for row in range(height):
        for column in range(width):
            here = [plane for plane in local if planes[plane, row, column] > 0]
            for i, plane in enumerate(here):
                x = (column + (i + 1) / (len(here) + 1)) * CELL
                radius = CELL * 0.36 / max(1.0, 0.7 * len(here))
                canvas.disc((x, (row + 0.5) * CELL), radius, DARK[plane % len(DARK)])
                canvas.disc((x, (row + 0.5) * CELL), radius * 0.82, STONES[plane % len(STONES)])
    return canvas.image
