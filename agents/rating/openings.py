"""Openings of matches: random positions that little effort does not find decided.

They come in two halves, told apart by the position: checkpoints of a run are chosen by games from
the one, and rated by games from the other. Leaves out playing them (play.py), and positions to be
judged on, which are solved (positions.py).
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as find_game
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError, GameError
from playout.mcts.exact.alphabeta import AlphaBeta
from playout.mcts.exact.positions import canonical_hashes, unseen

Part = Literal["all", "choosing", "rating"]
"""Which openings: any, those by which a run's best checkpoint is chosen, or those by which the run
is rated in the end."""

_MAX_PLIES = 4  # of an opening, where nothing else is said
_MAX_FRUITLESS = 30  # rounds of random play in a row without a new opening
_MAX_DEPTH = 6  # plies in which an opening must not be decided
_MAX_LINES = 1_000_000  # full-width lines that are looked at for that: large boards get less depth
# Nodes for that, a position; 4 plies into Connect Four 2,700 do. What needs more counts as open,
# and where some positions in a row do, no more are examined.
_MAX_NODES, _MAX_GIVEN_UP = 20_000, 3
_ROUND = 256  # random games a round ...
_SLOW_ROUND = 16  # ... and where the rules run at Python's speed


def opening_plies(game: NativeGame) -> int:
    """How long openings are by default: 4 plies, fewer in short games, which they would decide.

    None where information is hidden: the cards that are dealt make games differ.
    """
    return 0 if game.hidden else min(_MAX_PLIES, game.max_plies // 8)


def check_plies(game: NativeGame, plies: int) -> None:
    """Raises ConfigError if no opening can be so long."""
    if not 0 <= plies <= game.max_plies:
        raise ConfigError(f"openings of {game} can have 0 to {game.max_plies} plies, not {plies}")


def random_openings(
    game: NativeGame | str, count: int, *, plies: int, seed: int, part: Part = "all"
) -> list[list[int]]:
    """Random openings that are not decided within a few plies.

    Only games of two players with compiled rules are examined for that, by alpha-beta of limited
    effort; elsewhere an opening is any position at which the game is not over.

    Args:
        game: A game of any number of players.
        count: How many; where there are not so many, they are repeated in turn.
        plies: Their length, dice included; 0 is the first position alone.
        seed: The same seed gives the same openings.
        part: One half of them, or all. Where the half has none, all are taken.

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
    examine = _Examiner(game)
    seen, found = set[int](), list[list[int]]()
    fruitless = 0
    for number in itertools.count():
        states, moves = game.batch(_SLOW_ROUND if game.calls_python else _ROUND), []
        rng = np.random.default_rng([seed, number])
        for ply in range(plies):
            actions = states.random_actions(int(rng.integers(2**63)), counter=ply)
            states.apply(actions, where=actions >= 0)
            moves.append(actions)
        rows = np.flatnonzero(~states.is_terminal())
        if part != "all" and len(rows):
            rows = rows[half_of(states[rows]) == (part == "rating")]
        before = len(found)
        for row in rows[unseen(states[rows], seen)]:
            if len(found) < count and examine.is_open(states[[row]]):
                found.append([int(actions[row]) for actions in moves])
        fruitless = 0 if len(found) > before else fruitless + 1
        if len(found) >= count or fruitless == _MAX_FRUITLESS:
            break
    if not found and part != "all":
        return random_openings(game, count, plies=plies, seed=seed)
    if not found:
        raise ConfigError(f"{game} has no undecided position after {plies} random plies; use fewer")
    return [found[i % len(found)] for i in range(count)]


def half_of(states: StateBatch) -> npt.NDArray[np.bool_]:
    """Bool [B]: does a position belong to the half for rating? Mirror images stay together."""
    hashes = canonical_hashes(states)
    # Multiplied, since a game's hash may keep some of its bits constant (Fibonacci hashing).
    found: npt.NDArray[np.bool_] = (hashes * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(63) == 1
    return found


class _Examiner:
    """Tells positions that a shallow search finds decided, as long as that is cheap."""

    def __init__(self, game: NativeGame) -> None:
        self._solver: AlphaBeta | None = None
        if game.num_players == 2 and not game.calls_python:
            self._solver = AlphaBeta(game, table_mb=16, max_nodes=_MAX_NODES)
        lines = math.log(_MAX_LINES, max(2, game.num_actions))
        self._depth = max(1, min(_MAX_DEPTH, int(lines)))
        self._given_up = 0

    def is_open(self, state: StateBatch) -> bool:
        """Is a position, a batch of one, not found decided?"""
        if self._solver is None:
            return True
        try:
            value = float(np.nanmax(self._solver.values(state, depth=self._depth)))
        except GameError:  # too much effort, dice, or results that do not add up to zero
            self._given_up += 1
            if self._given_up == _MAX_GIVEN_UP:
                self._solver = None
            return True
        self._given_up = 0
        return abs(value) < 1
