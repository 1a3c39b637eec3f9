"""The Hex solver behind the interfaces of prover.py.

`hex_prover` is what the catalogue names as the game's prover. A state of up to 64 cells begins with
a word that holds the side to move, followed by one word of stones for each side (hex.h), which is
how the compiled solver (_solver.pyx) takes them.
"""

from __future__ import annotations

from threading import Lock

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import NativeGame
from playout.envs.core.state_batch import StateBatch
from playout.mcts.exact.hex._solver import HexSolver
from playout.mcts.exact.prover import GIVEN_UP, ILLEGAL, Outcomes, Prover, States

MAX_SIZE = 8
"""Larger boards have more than 64 cells."""

END_PLIES = 20
"""With so few cells left, 20,000 nodes (END_NODES in solver.py) prove nearly every position."""

SMALL_EFFORT = 1000
"""An effort below this many nodes is not begun with more cells left: of 7x7 with 36 left, 300 nodes
prove one position in four, in more than ten times the time that a network takes for it."""

_ENTRY_BYTES = 32
_TURN_BYTE = 2  # of a state

Stones = npt.NDArray[np.uint64]


def hex_prover(game: NativeGame) -> HexProver | None:
    """The prover of the built-in game on boards of up to 8x8; None for larger ones."""
    return HexProver(game) if game.params["size"] <= MAX_SIZE else None


def _stones(states: States) -> tuple[Stones, Stones, npt.NDArray[np.int8]]:
    """Stones of both players and who is to move, [B] each, from states [B, state_size]."""
    states = np.ascontiguousarray(states)
    words = states.view(np.uint64)
    turn = states[:, _TURN_BYTE].astype(np.int8)
    return words[:, 1].copy(), words[:, 2].copy(), turn


class HexEngine:
    """Exact outcomes; calls from several threads share its table and wait for each other.

    Args:
        game: Hex on a board of up to 8x8.
        table_mb: Size of the transposition table in MiB.
        max_nodes: Gives up with a GameError after so many nodes in one position; 0 never does.
    """

    def __init__(self, game: NativeGame, *, table_mb: int = 64, max_nodes: int = 0) -> None:
        self.num_actions = game.num_actions
        self.max_nodes = max_nodes
        entries = (table_mb << 20) // _ENTRY_BYTES
        self._solver = HexSolver(game.params["size"], entries, bool(game.params["swap"]))
        self._lock = Lock()

    @property
    def nodes(self) -> int:
        """Work done so far, in units of about a position of alpha-beta."""
        return self._solver.nodes

    def score_rows(self, states: StateBatch, outcome: bool) -> npt.NDArray[np.int8]:
        """int8 [B, A]: 1 or -1 after each action, ILLEGAL where it cannot be played.

        `outcome` changes nothing: these scores are outcomes.
        """
        out = np.full((len(states), self.num_actions), ILLEGAL, np.int8)
        going = np.flatnonzero(~states.is_terminal())
        if len(going):
            first, second, turn = _stones(states.data[going])
            found = np.empty((len(going), self.num_actions), np.int8)
            with self._lock:
                self._solver.score_moves(
                    first, second, turn, found, max_nodes=self.max_nodes, each=False
                )
            out[going] = found
        return out

    def stop(self) -> None:
        """Ends the call that runs on another thread."""
        self._solver.stop()

    def clear(self) -> None:
        """Forgets the transposition table, and counts nodes from 0."""
        with self._lock:
            self._solver.clear()


class HexProver(Prover):
    """Proves moves one by one: those that the limit leaves open are given up alone."""

    counts_plies = False
    end_plies = END_PLIES

    def __init__(self, game: NativeGame) -> None:
        self.game = game

    def prove(self, states: States, max_nodes: int) -> Outcomes:
        """int8 [B, A]; see `Prover`."""
        if 0 < max_nodes < SMALL_EFFORT:
            return self._prove_late(states, max_nodes)
        return self._prove(states, max_nodes)

    def _prove_late(self, states: States, max_nodes: int) -> Outcomes:
        """Proves positions with few cells left, and gives up on all moves of others."""
        legal = StateBatch.from_data(self.game, states, check=False).legal_mask()
        out = np.where(legal, np.int8(GIVEN_UP), np.int8(ILLEGAL))
        left = self.game.plies_left(states)
        late = np.flatnonzero(left <= END_PLIES) if left is not None else np.arange(len(states))
        if len(late):
            out[late] = self._prove(states[late], max_nodes)
        return out

    def _prove(self, states: States, max_nodes: int) -> Outcomes:
        out = np.empty((len(states), self.game.num_actions), np.int8)
        size, swap = self.game.params["size"], bool(self.game.params["swap"])
        # A table entry stands for many nodes: that many are never filled.
        solver = HexSolver(size, max(64, max_nodes // 8), swap)
        first, second, turn = _stones(states)
        solver.score_moves(first, second, turn, out, max_nodes=max_nodes, each=True)
        return out

    def engine(self, *, table_mb: int, max_nodes: int) -> HexEngine:
        """A solver with a table of its own."""
        return HexEngine(self.game, table_mb=table_mb, max_nodes=max_nodes)
