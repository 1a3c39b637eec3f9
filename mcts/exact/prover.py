"""`Prover`: what proves how positions end, behind one interface, whatever game it is made for.

A game brings its own (`NativeGame.prover`: called with the game, it returns one, or None); the look
at one or two plies (tactics.py) and alpha-beta (alphabeta.py) are provers for any game. `Proofs`
asks a game's own prover with limits, on threads. Who uses proofs, and where they pay, is left to
others (agents/alphazero/proofs.py). Proofs are of games of two players whose results add up to 0.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import NativeGame, StateBatch
from playout.errors import ConfigError, GameError

ILLEGAL = -128
"""In outcomes and scores: the action is not legal, or the game is over."""

GIVEN_UP = 127
"""In outcomes: what the action leads to was not found out within the limit."""

_ROWS = 8  # positions a task of a thread

Outcomes = npt.NDArray[np.int8]
States = npt.NDArray[np.uint8]


class Prover(Protocol):
    """Proves what actions lead to. Calls may come from several threads at once."""

    def prove(self, states: States, max_nodes: int) -> Outcomes:
        """The outcomes of all actions, each position for itself: an answer depends on nothing else.

        Args:
            states: Bytes of positions that are not over and not chance nodes, [B, state_size].
            max_nodes: The effort, in positions searched, for each of them.

        Returns:
            int8 [B, A], new: 1, 0 or -1 for the side to move under best play, GIVEN_UP where that
            is not known, ILLEGAL where an action is not legal.
        """


class Engine(Protocol):
    """What solves positions to the end, however long it takes: what `Solver` asks."""

    @property
    def nodes(self) -> int:
        """Positions searched so far."""

    def score_rows(self, states: StateBatch, outcome: bool) -> Outcomes:
        """[B, A]: scores, or outcomes -1, 0, 1; ILLEGAL where an action is not legal."""

    def stop(self) -> None:
        """Ends calls that run on other threads."""

    def clear(self) -> None:
        """Forgets what the transposition table knows."""


@runtime_checkable
class SolvingProver(Prover, Protocol):
    """A prover that also solves positions to the end, in place of the general alpha-beta.

    Attributes:
        counts_plies: Scores of its engine say how fast a side wins, not only that it does.
        end_plies: Where a game declares its `plies_left`: with so many or fewer, a larger effort
            proves nearly every position.
    """

    counts_plies: bool
    end_plies: int

    def engine(self, *, table_mb: int, max_nodes: int) -> Engine:
        """A solver with a table of its own; 0 nodes for no limit a position."""


def has_proofs(game: NativeGame) -> bool:
    """Are outcomes 1, 0, -1 for one side and the opposite for the other, as proofs need it?"""
    return (
        game.num_players == 2 and game.zero_sum and game.value_scale == 1 and not game.step_rewards
    )


def own_prover(game: NativeGame) -> Prover | None:
    """The prover that a game brings, or None.

    Raises:
        GameError: What it brings is none.
    """
    if not has_proofs(game) or game.prover is None:
        return None
    found = game.prover(game)
    if found is not None and not callable(getattr(found, "prove", None)):
        raise GameError(f"{game}: its prover is a {type(found).__name__} without prove()")
    return found  # type: ignore[no-any-return]


def can_prove(game: NativeGame) -> bool:
    """Does the game bring a prover?"""
    return own_prover(game) is not None


class Proofs:
    """A game's own prover with limits.

    Args:
        game: A game for which `can_prove` holds.
        max_nodes: The effort, in nodes a position.
        end_nodes: The effort near the end of the game (`SolvingProver.end_plies`); 0 for no other.
        threads: Share the positions of a call.

    Raises:
        ConfigError: The game has no prover.
    """

    def __init__(
        self, game: NativeGame, *, max_nodes: int, end_nodes: int = 0, threads: int = 1
    ) -> None:
        prover = own_prover(game)
        if prover is None:
            raise ConfigError(f"{game} has no quick solver")
        self.game, self.max_nodes = game, max_nodes
        solving = isinstance(prover, SolvingProver)
        self.end_nodes = end_nodes if solving else 0
        self._end_plies = prover.end_plies if isinstance(prover, SolvingProver) else 0
        self._prover = prover
        self._pool = ThreadPoolExecutor(threads, "prover") if threads > 1 else None

    def outcomes(self, states: States) -> Outcomes:
        """Outcomes [B, A] of positions [B, state_size], as `Prover.prove` gives them."""
        left = self.game.plies_left(states) if self.end_nodes else None
        if left is None:
            return self._prove(states, self.max_nodes)
        near = left <= self._end_plies
        if near.all() or not near.any():
            return self._prove(states, self.end_nodes if near.any() else self.max_nodes)
        found = np.empty((len(states), self.game.num_actions), np.int8)
        for rows, nodes in ((near, self.end_nodes), (~near, self.max_nodes)):
            found[rows] = self._prove(states[rows], nodes)
        return found

    def _prove(self, states: States, nodes: int) -> Outcomes:
        if self._pool is None or len(states) < 2 * _ROWS:
            return self._checked(self._prover.prove(states, nodes), len(states))
        parts = (states[start : start + _ROWS] for start in range(0, len(states), _ROWS))
        found = self._pool.map(lambda part: self._prover.prove(part, nodes), parts)
        return self._checked(np.concatenate(list(found)), len(states))

    def _checked(self, outcomes: Outcomes, size: int) -> Outcomes:
        shape = (size, self.game.num_actions)
        if outcomes.shape != shape or outcomes.dtype != np.int8:
            raise GameError(
                f"{self.game}: its prover gave {outcomes.dtype} {outcomes.shape}, not int8 {shape}"
            )
        return outcomes


def prover_for(
    game: NativeGame, max_nodes: int, end_nodes: int = 0, *, threads: int = 1
) -> Proofs | None:
    """`Proofs` where the game brings a prover and some effort is allowed, else None."""
    if max_nodes < 1 or not can_prove(game):
        return None
    return Proofs(game, max_nodes=max_nodes, end_nodes=end_nodes, threads=threads)


def proven(outcomes: Outcomes) -> npt.NDArray[np.bool_]:
    """Bool [B]: positions whose outcome is known: a win, or all actions."""
    found: npt.NDArray[np.bool_] = (outcomes == 1).any(axis=1) | (outcomes != GIVEN_UP).all(axis=1)
    return found


def best_known(outcomes: Outcomes) -> Outcomes:
    """int8 [B]: the best outcome that is known, at least -1."""
    best: Outcomes = np.where(outcomes == GIVEN_UP, -1, outcomes).max(axis=1, initial=-1)
    return best
