"""`playout.testing`: checks and counts for games of your own (see envs/testing.py)."""

from playout.envs.testing import (
    GameCheckError,
    GameReport,
    check_game,
    count_games,
    count_positions,
    perft,
)

__all__ = [
    "GameCheckError",
    "GameReport",
    "check_game",
    "count_games",
    "count_positions",
    "perft",
]
