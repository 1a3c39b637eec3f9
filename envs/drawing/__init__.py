"""Pictures of games and control tasks, in NumPy alone.

A game is described as a `Board` (description.py), and drawn from that as pixels, as SVG and as
text; control tasks are drawn at once (control.py). What describes what says envs/catalogue.py.
"""

from playout.envs.drawing.board import board_of, render_state, svg
from playout.envs.drawing.description import Board, Piece

__all__ = ["Board", "Piece", "board_of", "render_state", "svg"]
