"""Pictures of board games, from their states alone.

A game of the catalogue names what describes it as a `Board` (stones.py, tables.py); any other game
is a board with one colour for each observation plane (seen by player 0, or by who looks).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from playout.envs.catalogue import GAMES, load
from playout.envs.core.game import State
from playout.envs.core.registry import built_in
from playout.envs.drawing import paint
from playout.envs.drawing.canvas import Color
from playout.envs.drawing.description import Board, Piece, Shape
from playout.errors import GameError

Image = npt.NDArray[np.uint8]

PAPER: Color = (250, 248, 243)
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


def render_state(state: State, mode: str, player: int | None = None) -> str | Image:
    """The board as text ("ansi") or as a picture uint8 [H, W, 3] ("rgb_array").

    Args:
        state: The position.
        mode: "ansi" or "rgb_array".
        player: Of a game with hidden cards or dice, who looks; None: who may see everything.
    """
    player = player if state.game.hidden else None
    if mode == "ansi":
        return f"{state if player is None else state.view(player)}\n"
    if mode != "rgb_array":
        raise ValueError(f"render mode must be 'ansi' or 'rgb_array', got {mode!r}")
    found = _drawn(state, player)
    if isinstance(found, Board):
        return paint.pixels(found)
    picture: Image = found
    return picture


def board_of(state: State) -> Board:
    """What a picture of the state shows.

    Raises:
        GameError: The game is drawn by a function of its own, which gives nothing but pixels.
    """
    found = _drawn(state)
    if not isinstance(found, Board):
        raise GameError(f"{state.game} is drawn as pixels alone")
    return found


def svg(state: State) -> str:
    """The board as an SVG document, a string that needs nothing else.

    Raises:
        GameError: The game is drawn by a function of its own, which gives nothing but pixels.
    """
    return paint.svg(board_of(state))


def _drawn(state: State, player: int | None = None) -> Any:
    """What the game's drawing function gives: a `Board`, or a picture."""
    entry = GAMES.get(state.game.name) if built_in(state.game) else None
    if entry is None or entry.drawing is None:
        return any_board(state, player or 0)
    draw = load(entry.drawing)
    return draw(state) if player is None else draw(state, player)


def any_board(state: State, player: int = 0) -> Board:
    """A chequered board; a cell shows a disc in the colour of each plane that `player` sees set."""
    planes = state.observe(player)
    count, height, width = planes.shape
    # A plane that is the same everywhere tells something about the game, not about a cell.
    local = [plane for plane in range(count) if np.ptp(planes[plane]) > 0]
    pieces = []
    for row in range(height):
        for column in range(width):
            here = [plane for plane in local if planes[plane, row, column] > 0]
            for i, plane in enumerate(here):
                x = column - 0.5 + (i + 1) / (len(here) + 1)
                shape: Shape = "disc" if len(here) == 1 else "small disc"
                pieces.append(Piece(row, x, shape, STONES[plane % len(STONES)], str(plane)))
    return Board("cells", height, width, tuple(pieces), ground=PAPER, second=(236, 231, 219))
