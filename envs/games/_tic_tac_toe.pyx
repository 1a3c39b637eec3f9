"""Tic-tac-toe as a game capsule; the rules stand in tic_tac_toe.h."""

from playout_game cimport playout_game, playout_game_capsule

cdef extern from "tic_tac_toe.h":
    void ttt_make(playout_game *game)


def make():
    """A capsule of tic-tac-toe."""
    cdef playout_game game
    ttt_make(&game)
    return playout_game_capsule(&game)
