"""How long a game may be taken to be, where time and counts are shared out.

The longest game that rules allow says little where that is never played: 2048 could go on for a
quarter of a million plies, and backgammon for ever. So a long one is cut to some random lengths.
"""

from __future__ import annotations

from functools import lru_cache

from playout.agents.rating.play import usual_plies
from playout.envs.core.game import NativeGame

LONG = 500  # plies; shorter games are planned as long as they may get
RANDOM_LENGTHS = 4  # players' own games of 2048 are two or three times as long as random ones


@lru_cache(maxsize=16)
def planned_plies(game: NativeGame) -> int:
    """The longest game that is planned for; a usual one is taken to have half of that."""
    if game.max_plies <= LONG:
        return game.max_plies
    return min(game.max_plies, max(LONG, int(RANDOM_LENGTHS * usual_plies(game))))
