"""Boards with stones, described: Connect Four, tic-tac-toe, rows of k, Hex, Othello, Go.

Each function takes a State and gives a `Board`; the catalogue names them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import State
from playout.envs.drawing.canvas import Color
from playout.envs.drawing.description import Board, Piece

RED: Color = (222, 68, 62)
YELLOW: Color = (247, 199, 62)
BLUE: Color = (38, 84, 158)
BLACK: Color = (42, 44, 50)
WHITE: Color = (246, 245, 240)
WOOD: Color = (222, 184, 118)
FELT: Color = (62, 132, 92)
HEXAGON: Color = (240, 234, 218)
HINT: Color = (40, 98, 66)
LETTERS = "XO"


def stones_of(state: State) -> list[tuple[int, int, int]]:
    """(player, row, column) of every stone, where the first two planes are those of the players."""
    planes = state.observe(0)[:2]
    return [(int(p), int(y), int(x)) for p, y, x in np.argwhere(planes > 0)]


def winning_cells(planes: npt.NDArray[Any], run: int) -> list[tuple[int, int, int]]:
    """(plane, row, column) of every cell in a line of `run` stones of one plane."""
    found: set[tuple[int, int, int]] = set()
    _, height, width = planes.shape
    for plane, row, column in np.argwhere(planes > 0):
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
            cells = [(int(row) + i * down, int(column) + i * right) for i in range(run)]
            y, x = cells[-1]
            if (
                0 <= y < height
                and 0 <= x < width
                and all(planes[plane][cell] > 0 for cell in cells)
            ):
                found.update((int(plane), *cell) for cell in cells)
    return sorted(found)


def _letters(count: int) -> tuple[str, ...]:
    return tuple(chr(ord("a") + i) for i in range(count))


def _numbers(count: int, *, down: bool) -> tuple[str, ...]:
    """Row names from the top, rising downwards or upwards."""
    return tuple(str(i + 1 if down else count - i) for i in range(count))


def connect_four(state: State) -> Board:
    """A blue frame with holes; red begins. Winning discs carry a white ring."""
    planes = state.observe(0)[:2]
    _, rows, columns = planes.shape
    won = set(winning_cells(planes, state.game.params.get("run", 4)))
    pieces = tuple(
        Piece(y, x, "disc", (RED, YELLOW)[p], LETTERS[p], marked=(p, y, x) in won)
        for p, y, x in stones_of(state)
    )
    return Board("frame", rows, columns, pieces)


def _crosses_and_rings(state: State, run: int) -> Board:
    planes = state.observe(0)[:2]
    _, rows, columns = planes.shape
    won = set(winning_cells(planes, run))
    pieces = []
    for player, row, column in stones_of(state):
        marked = (player, row, column) in won
        if player == 0:
            pieces.append(Piece(row, column, "cross", RED, "X", marked=marked))
        else:
            pieces.append(Piece(row, column, "ring", BLUE, "O", marked=marked))
    return Board("grid", rows, columns, tuple(pieces))


def tic_tac_toe(state: State) -> Board:
    """Crosses begin, rings answer; the winning three are drawn stronger."""
    return _crosses_and_rings(state, 3)


def mnk(state: State) -> Board:
    """Crosses and rings on small boards, stones on crossings of lines from six cells a side on."""
    run = int(state.game.params["k"])
    if max(state.game.obs_shape[1:]) < 6:
        return _crosses_and_rings(state, run)
    return _on_points(state, run)


def gomoku(state: State) -> Board:
    """Black and white stones on crossings of lines; five that have won are marked."""
    return _on_points(state, 5)


def _on_points(state: State, run: int) -> Board:
    planes = state.observe(0)[:2]
    _, rows, columns = planes.shape
    won = set(winning_cells(planes, run)) if state.is_terminal and state.returns.any() else set()
    pieces = tuple(
        Piece(y, x, "disc", (BLACK, WHITE)[p], LETTERS[p], marked=(p, y, x) in won)
        for p, y, x in stones_of(state)
    )
    return Board(
        "points",
        rows,
        columns,
        pieces,
        ground=WOOD,
        row_names=_numbers(rows, down=False),
        column_names=_letters(columns),
    )


def hex(state: State) -> Board:
    """Hexagons; red joins top and bottom, blue left and right; a chain that won is marked."""
    size = state.game.obs_shape[1]
    stones = stones_of(state)
    chain: set[tuple[int, int]] = set()
    if state.is_terminal:
        winner = int(state.returns[1] > 0)
        chain = _chain({(y, x) for p, y, x in stones if p == winner}, winner, size)
    pieces = tuple(
        Piece(y, x, "disc", (RED, BLUE)[p], LETTERS[p], marked=(y, x) in chain)
        for p, y, x in stones
    )
    return Board(
        "hexagons",
        size,
        size,
        pieces,
        ground=HEXAGON,
        row_names=_numbers(size, down=True),
        column_names=_letters(size),
        sides=(RED, BLUE),
    )


def _chain(stones: set[tuple[int, int]], side: int, size: int) -> set[tuple[int, int]]:
    """The cells of a shortest chain between the two edges of a side."""
    edge = [cell for cell in sorted(stones) if cell[side] == 0]
    came: dict[tuple[int, int], tuple[int, int] | None] = dict.fromkeys(edge)
    for cell in edge:  # grows while it is gone through: breadth first
        if cell[side] == size - 1:
            chain = {cell}
            while (before := came[cell]) is not None:
                cell = before
                chain.add(cell)
            return chain
        for down, right in ((-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0)):
            following = (cell[0] + down, cell[1] + right)
            if following in stones and following not in came:
                came[following] = cell
                edge.append(following)
    return set()


def othello(state: State) -> Board:
    """Black and white discs on green; dots show where the side to move may play."""
    size = state.game.obs_shape[1]
    pieces = [Piece(y, x, "disc", (BLACK, WHITE)[p], LETTERS[p]) for p, y, x in stones_of(state)]
    for action in state.legal_actions:
        if action < size * size:
            pieces.append(Piece(action // size, action % size, "dot", HINT))
    return Board(
        "cells",
        size,
        size,
        tuple(pieces),
        ground=FELT,
        row_names=_numbers(size, down=True),
        column_names=_letters(size),
    )


def go(state: State) -> Board:
    """Black and white stones on crossings of lines; the last one is marked."""
    size = state.game.obs_shape[1]
    names = "ABCDEFGHJKLMNOPQRST"[:size]
    last = state.text.split()[-1]
    at = (size - int(last[1:]), names.index(last[0])) if last[1:].isdigit() else None
    pieces = tuple(
        Piece(y, x, "disc", (BLACK, WHITE)[p], LETTERS[p], marked=(y, x) == at)
        for p, y, x in stones_of(state)
    )
    return Board(
        "points",
        size,
        size,
        pieces,
        ground=WOOD,
        row_names=_numbers(size, down=False),
        column_names=tuple(names),
    )
