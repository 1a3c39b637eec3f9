"""One header a game: rules and their table of functions, no Gymnasium and no NumPy.

A header exports a `playout_maker` (playout_maker.h): the game's name, its parameters, and what
fills in the table. all.h lists them. Long games keep parts in a folder of their name.
"""

from playout.envs.games._games import make, names, parameters

__all__ = ["make", "names", "parameters"]
