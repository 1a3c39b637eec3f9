"""Positions and openings of any game cut in two: to learn from and to be judged on.

All images of a position under the board's symmetries lie on one side, so that what is remembered
does not count as understood, and so do all positions that look alike to the side to move where
information is hidden. Positions on which other runs are rated always lie on the side to be judged
on. Where there is too little to hold any out, all serves for both, and that is said.
"""

import contextlib
import hashlib
import sys
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from playout.agents.rating.openings import Part, half_of, opening_plies, random_openings
from playout.agents.rating.positions import (
    load_choosing_positions,
    load_scored_positions,
    moves_text,
)
from playout.agents.runs import ranks
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import built_in
from playout.envs.core.state_batch import StateBatch
from playout.errors import GameError
from playout.mcts.exact.positions import canonical_hashes
from playout.rlhf.environments.environment import Split

__all__ = [
    "SHORT_GAME",
    "TEST_SHARE",
    "find_openings",
    "is_test",
    "position_classes",
    "random_positions",
    "rated_classes",
    "serves",
    "unseen_classes",
]

TEST_SHARE = 0.15
SHORT_GAME = 16
"""Plies; every ply of such a game is asked about."""
_ROUND = 512  # random positions a round ...
_SLOW_ROUND = 32  # ... and where the rules run at Python's speed
_FEW = 40  # positions, of a game with hidden information, of which none are held out
_LOOKS = 12  # rounds of random positions in which they are looked for


def position_classes(states: StateBatch) -> NDArray[np.uint64]:
    """uint64 [B]: equal for images of a position, and for all that look alike to who is to move."""
    game = states.game
    if not game.hidden:
        return canonical_hashes(states)
    images = [states.symmetry(k) for k in range(game.num_symmetries)]
    shown = [[f"{state.to_play} {state.view()}" for state in image] for image in images]
    hashes = [[hashlib.blake2b(text.encode(), digest_size=8) for text in one] for one in shown]
    numbers = [[int.from_bytes(one.digest(), "little") for one in image] for image in hashes]
    found: NDArray[np.uint64] = np.array(numbers, np.uint64).min(axis=0)
    return found


def unseen_classes(states: StateBatch, seen: set[int]) -> list[int]:
    """The first row of each class that is new; notes the classes in `seen`."""
    if not len(states):
        return []
    classes = position_classes(states).tolist()
    first = {number: row for row, number in reversed([*enumerate(classes)])}
    rows = sorted(row for number, row in first.items() if number not in seen)
    seen.update(first)
    return rows


def is_test(states: StateBatch) -> NDArray[np.bool_]:
    """Bool [B]: does a position belong to the side that is judged on alone? By its class."""
    if _all_serve(states.game):
        return np.zeros(len(states), np.bool_)
    classes = position_classes(states)
    # Multiplied, since a game's hash may keep some of its bits constant (Fibonacci hashing).
    mixed = (classes * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    test: NDArray[np.bool_] = mixed < np.uint64(TEST_SHARE * 2**24)
    rated = rated_classes(states.game)
    if rated:
        test |= np.isin(classes, np.fromiter(rated, np.uint64))
    return test


def serves(states: StateBatch, split: Split) -> NDArray[np.bool_]:
    """Bool [B]: may a position be a task of a side?"""
    judged = split == "test" and not _all_serve(states.game)
    return is_test(states) == judged


@lru_cache(maxsize=64)
def _all_serve(game: NativeGame) -> bool:
    """Whether who is to move sees too few positions for some to be held out."""
    if not game.hidden:
        return False
    seen = set[int]()
    for _, states in zip(range(_LOOKS), random_positions(game, 0, game.max_plies, 0), strict=False):
        if len(states):
            seen.update(position_classes(states).tolist())
        if len(seen) >= _FEW:
            return False
    _say(f"{game}: players see {len(seen)} positions, of which none are held out: all serve for "
         "both")  # fmt: skip
    return True


@lru_cache(maxsize=64)
def _say(line: str) -> None:
    """Tells it once."""
    if ranks.is_first():
        print(line, file=sys.stderr)


_rated: dict[str, frozenset[int]] = {}


def rated_classes(game: NativeGame) -> frozenset[int]:
    """Symmetry classes on which other runs of a built-in game are rated; small games have none."""
    key = str(game)
    if key not in _rated:
        found = frozenset[int]()
        if game.max_plies > SHORT_GAME and game.prover is not None and built_in(game):
            with contextlib.suppress(GameError):
                sets = [load_scored_positions(game), load_choosing_positions(game)]
                states = [one.states for one in sets if one is not None]
                found = frozenset(canonical_hashes(StateBatch.concatenate(states)).tolist())
        _rated[key] = found
    return _rated[key]


def random_positions(game: NativeGame, least: int, most: int, seed: int) -> Iterator[StateBatch]:
    """Rounds of positions after random play at which a player is to move."""
    size = _SLOW_ROUND if game.calls_python else _ROUND
    number = 0
    while True:
        rng = np.random.default_rng([seed, 31, number])
        batch = game.batch(size)
        batch.random_plies(rng.integers(least, most + 1, size), int(rng.integers(2**62)))
        batch.resolve_chance(int(rng.integers(2**62)))
        yield batch[np.flatnonzero(~batch.is_terminal())]
        number += 1


def find_openings(
    game: NativeGame, count: int, split: Split, *, plies: int, seed: int
) -> list[str]:
    """The moves of openings of one side, each once; fewer where there are no more.

    Where a side has none of its own, or games begin by dice or cards, it has those of the other.

    Args:
        game: Any game.
        count: How many.
        split: "train" or "test"; an opening is on the other side in none of its images.
        plies: Random moves of each; -1 as suits the game.
        seed: The same seed gives the same openings.
    """
    length = opening_plies(game) if plies < 0 else plies
    if length == 0 or game.has_chance:
        _say(f"{game}: there are no openings to hold out: all serve for both")
        return [""]
    part: Part = "rating" if split == "test" else "choosing"
    found = random_openings(game, count, plies=length, seed=seed, part=part)
    texts = list(dict.fromkeys(moves_text(game, moves) for moves in found))
    reached = StateBatch.from_states([game.from_moves(moves) for moves in texts])
    if (half_of(reached) != (split == "test")).any():
        _say(f"{game}: too few openings to hold any out: all serve for both")
    return texts
