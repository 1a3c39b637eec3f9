"""Connect Four as a game capsule; the rules stand in connect_four.h."""

from playout_game cimport playout_game, playout_game_capsule

cdef extern from "connect_four_table.h":
    int c4_make(playout_game *game, int width, int height, int run)


def make(int width=7, int height=6, int run=4):
    """A capsule of Connect Four on `width` x `height` cells, won by a line of `run` stones."""
    cdef playout_game game
    cdef int code = c4_make(&game, width, height, run)
    if code == -2:
        raise MemoryError
    if code != 0:
        raise ValueError(
            f"connect_four cannot be played with width={width}, height={height}, run={run}: it needs "
            "width * (height + 1) <= 64, run >= 2 and run <= the longer side"
        )
    return playout_game_capsule(&game)
