"""Counts of a game's tree, to hold against published ones: moves, finished games, positions.

Plain enumeration, exact and without symmetry, in C (_counts.pyx). A chance outcome is a ply like a
move, whatever its probability.
"""

from __future__ import annotations

from typing import Any

from playout.envs.checks import _counts
from playout.envs.core.arrays import is_whole
from playout.envs.core.game import NativeGame, State
from playout.envs.core.registry import game as make_game


def _start(start: Any) -> tuple[NativeGame, bytes]:
    state = start if isinstance(start, State) else make_game(start).initial_state()
    return state.game, state.to_bytes()


def perft(start: Any, depth: int) -> int:
    """The number of sequences of exactly `depth` legal moves from a state or a game's start."""
    if not is_whole(depth) or not 0 <= depth < 2**16:
        raise ValueError(f"depth must be an integer from 0 up, got {depth!r}")
    game, state = _start(start)
    return _counts.perft(game.capsule, state, depth)


def count_games(start: Any) -> dict[tuple[float, ...], int]:
    """How many games, played on from a state in every possible way, end with which results."""
    game, state = _start(start)
    return dict(sorted(_counts.games(game.capsule, state), reverse=True))


def count_positions(start: Any, plies: int) -> list[int]:
    """Distinct positions after 0, 1, ... `plies` moves; symmetric ones count apart."""
    if not is_whole(plies) or plies < 0:
        raise ValueError(f"plies must be an integer from 0 up, got {plies!r}")
    game, state = _start(start)
    return _counts.positions(game.capsule, state, plies)
