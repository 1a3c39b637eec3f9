"""Openings of matches: random positions that no shallow search finds decided.

Leaves out playing them (arena.py), and positions to be judged on, which are solved (positions.py).
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as find_game
from playout.errors import ConfigError
from playout.mcts.exact.alphabeta import AlphaBeta
from playout.mcts.exact.positions import unseen

_MAX_PLIES = 4  # of an opening, where nothing else is said
_MAX_FRUITLESS = 30  # rounds of random play in a row without a new opening
_MAX_DEPTH = 6  # plies in which an opening must not be decided
_MAX_LINES = 1_000_000  # full-width lines that are looked at for that: large boards get less depth


def opening_plies(game: NativeGame) -> int:
    """How long openings are by default: 4 plies, fewer in short games, which they would decide."""
    return min(_MAX_PLIES, game.max_plies // 8)


def check_plies(game: NativeGame, plies: int) -> None:
    """Raises ConfigError if no opening can be so long."""
    if not 0 <= plies <= game.max_plies:
        raise ConfigError(f"openings of {game} can have 0 to {game.max_plies} plies, not {plies}")


def random_openings(
    game: NativeGame | str, count: int, *, plies: int, seed: int
) -> list[list[int]]:
    """Random openings that are not decided within a few plies.

    Args:
        game: A game of two players.
        count: How many; where there are not so many, they are repeated in turn.
        plies: Their length; 0 is the first position alone.
        seed: The same seed gives the same openings.

    Returns:
        `count` lists of actions. Until they repeat, no two lead to the same position, mirror images
        counted as the same.

    Raises:
        ConfigError: There is no undecided position of this length.
    """
    game = find_game(game)
    check_plies(game, plies)
    if plies == 0:
        return [[] for _ in range(count)]
    solver = AlphaBeta(game)
    depth = max(1, min(_MAX_DEPTH, int(math.log(_MAX_LINES, max(2, game.num_actions)))))
    seen, found = set[int](), list[list[int]]()
    fruitless = 0
    for number in itertools.count():
        states, moves = game.batch(256), []
        rng = np.random.default_rng([seed, number])
        for ply in range(plies):
            actions = states.random_actions(int(rng.integers(2**63)), counter=ply)
            states.apply(actions, where=actions >= 0)
            moves.append(actions)
        rows = np.flatnonzero(~states.is_terminal())
        rows = rows[unseen(states[rows], seen)]
        values = solver.values(states[rows], depth=depth)
        open_rows = rows[np.abs(np.nanmax(values, axis=1)) < 1] if len(rows) else rows
        found += [[int(actions[row]) for actions in moves] for row in open_rows]
        fruitless = 0 if len(open_rows) else fruitless + 1
        if len(found) >= count or fruitless == _MAX_FRUITLESS:
            break
    if not found:
        raise ConfigError(f"{game} has no undecided position after {plies} random plies; use fewer")
    return [found[i % len(found)] for i in range(count)]
