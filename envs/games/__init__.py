"""One file a game: rules only. This table names them all.

A game module exports `make(**params)`, which returns a capsule named "playout.game.v1"
(see playout_game.h).
"""

from typing import NamedTuple


class Entry(NamedTuple):
    """Where a game is made, and the parameters that it takes with their defaults."""

    module: str
    defaults: dict[str, int]


GAMES: dict[str, Entry] = {
    "connect_four": Entry("playout.envs.games._connect_four", {"width": 7, "height": 6, "run": 4}),
    "tic_tac_toe": Entry("playout.envs.games._tic_tac_toe", {}),
}
