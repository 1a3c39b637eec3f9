"""Positions from random play with exact scores: for tests, evaluation, supervised learning.

The filter "matters" keeps the positions where a player can go wrong in an interesting way: the game
is not over, no move wins at once, and the legal moves differ in outcome. Positions are distinct,
mirror images counted as one. Files of them: agents/rating/positions.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as find_game
from playout.envs.core.state_batch import StateBatch
from playout.errors import GameError
from playout.mcts.exact.solver import ILLEGAL, ILLEGAL_OUTCOME, Solver
from playout.mcts.exact.tactics import winning_actions

Filter = Literal["matters", "open"]
_ROUND = 256  # random games a round
_FRUITLESS = 40  # rounds in a row without anything new before it is said that there is no more


@dataclass(frozen=True, slots=True)
class Positions:
    """N positions with the moves that lead there and their exact scores.

    Attributes:
        states: N states.
        moves: The actions from the first state, N lists.
        scores: int32 [N, A] as `Solver.scores_of` gives them, ILLEGAL where an action cannot be
            played.
    """

    states: StateBatch
    moves: list[list[int]]
    scores: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.moves)

    @property
    def outcomes(self) -> npt.NDArray[np.int8]:
        """int8 [N, A]: 1, 0, -1 for the side to move, -2 where an action cannot be played."""
        signs: npt.NDArray[np.int8] = np.sign(self.scores).astype(np.int8)
        signs[self.scores == ILLEGAL] = ILLEGAL_OUTCOME
        return signs


def random_positions(
    game: NativeGame | str,
    n: int,
    *,
    plies: tuple[int, int] = (8, 26),
    seed: int = 0,
    filter: Filter = "matters",
    solver: Solver | None = None,
    exact: bool = True,
    on_found: Callable[[int], None] | None = None,
) -> Positions:
    """Plays random games, stops each at a random ply, and solves what is left.

    Args:
        game: A game of two players, or its name.
        n: How many positions.
        plies: Least and greatest number of moves played, both included.
        seed: The same seed gives the same positions.
        filter: "matters", or "open": every position that is not over.
        solver: Solves them; by default a new one.
        exact: False asks only for outcomes, which is quicker; scores are then 1, 0 and -1.
        on_found: Told now and then how many were found.

    Raises:
        GameError: Random play hardly finds new ones any more.
    """
    game = find_game(game)
    if n < 1 or not 0 <= plies[0] <= plies[1]:
        raise ValueError(f"cannot find {n} positions of {plies[0]} to {plies[1]} moves")
    if filter not in ("matters", "open"):
        raise ValueError(f"filter must be 'matters' or 'open', not {filter!r}")
    solver = solver if solver is not None else Solver(game)
    seen: set[int] = set()
    states: list[StateBatch] = []
    moves: list[list[int]] = []
    scores: list[npt.NDArray[np.int32]] = []
    number = fruitless = 0
    while len(moves) < n:
        batch, played = _random_round(game, plies, seed, number)
        number += 1
        rows = np.flatnonzero(~batch.is_terminal())
        if filter == "matters":
            rows = rows[~winning_actions(batch[rows]).any(axis=1)]
        rows = rows[unseen(batch[rows], seen)]
        outcomes = solver.outcomes(batch[rows])
        if filter == "matters":
            keep = _differ(outcomes)
            rows, outcomes = rows[keep], outcomes[keep]
        rows, outcomes = rows[: n - len(moves)], outcomes[: n - len(moves)]
        found = np.where(outcomes == ILLEGAL_OUTCOME, ILLEGAL, outcomes).astype(np.int32)
        if exact:
            found = solver.scores_of(batch[rows])
        fruitless = 0 if len(rows) else fruitless + 1
        if fruitless == _FRUITLESS:
            raise GameError(f"{game}: random play finds only {len(moves)} such positions, not {n}")
        states.append(batch[rows])
        moves += [played[row].tolist() for row in rows]
        scores.append(found)
        if on_found is not None:
            on_found(len(moves))
    return Positions(StateBatch.concatenate(states), moves, np.concatenate(scores))


def _random_round(
    game: NativeGame, plies: tuple[int, int], seed: int, number: int
) -> tuple[StateBatch, list[npt.NDArray[np.int32]]]:
    """One batch of random games of random lengths, and the moves of each."""
    rng = np.random.default_rng([seed, number])
    targets = rng.integers(plies[0], plies[1] + 1, _ROUND)
    batch = game.batch(_ROUND)
    history = np.full((_ROUND, plies[1]), -1, np.int32)
    for ply in range(plies[1]):
        actions = batch.random_actions(int(rng.integers(2**63)), counter=ply)
        going = (actions >= 0) & (ply < targets)
        if not going.any():
            break
        batch.apply(actions, where=going)
        history[going, ply] = actions[going]
    # A game that ended early is over, and is left out by the caller.
    return batch, [row[row >= 0] for row in history]


def canonical_hashes(batch: StateBatch) -> npt.NDArray[np.uint64]:
    """uint64 [B]: a number for each of B positions, equal for mirror images."""
    kinds = range(batch.game.num_symmetries)
    hashes: npt.NDArray[np.uint64] = np.min([batch.symmetry(k).hash() for k in kinds], axis=0)
    return hashes


def unseen(batch: StateBatch, seen: set[int]) -> list[int]:
    """The rows whose positions are new, mirror images counted as one; notes them in `seen`."""
    if not len(batch):
        return []
    rows = []
    for row, number in enumerate(canonical_hashes(batch).tolist()):
        if number not in seen:
            seen.add(number)
            rows.append(row)
    return rows


def _differ(outcomes: npt.NDArray[np.int8]) -> npt.NDArray[np.bool_]:
    """Bool [N]: the legal actions have more than one outcome."""
    worst = np.where(outcomes == ILLEGAL_OUTCOME, 1, outcomes).min(axis=1)
    differ: npt.NDArray[np.bool_] = outcomes.max(axis=1) > worst
    return differ
