"""The bitboard solver of Connect Four behind the interfaces of prover.py.

`connect_four_prover` is what the catalogue names as the game's prover. States of the game are two
64-bit words, the stones of the side to move and all stones, in the layout that the compiled solver
(_solver.pyx) takes, so nothing is translated.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import NativeGame
from playout.envs.core.state_batch import StateBatch
from playout.mcts.exact.connect_four._solver import ConnectFourSolver
from playout.mcts.exact.prover import ILLEGAL, Outcomes, Prover, States

END_PLIES = 25
"""With so few plies left, 20,000 nodes (END_NODES in solver.py) prove more than nine positions of
ten, in 0.1 ms each; with more left, they prove less and less and cost ever more."""

Boards = npt.NDArray[np.uint64]


def connect_four_prover(game: NativeGame) -> ConnectFourProver | None:
    """The prover of the built-in game with four in a row; None for other lengths of a line."""
    return ConnectFourProver(game) if game.params["run"] == 4 else None


def _boards(states: States) -> tuple[Boards, Boards]:
    """Stones of the side to move and of both, [B] each, from states [B, 16]."""
    words = np.ascontiguousarray(states).view(np.uint64)
    return words[:, 0].copy(), words[:, 1].copy()


class ConnectFourEngine:
    """Exact scores; one may be used from several threads, which share its table.

    Args:
        game: Connect Four with four in a row.
        table_mb: Size of the transposition table in MiB.
        max_nodes: Gives up with a GameError after so many positions in one call; 0 never does.
    """

    def __init__(self, game: NativeGame, *, table_mb: int = 64, max_nodes: int = 0) -> None:
        self.num_actions = game.num_actions
        self._solver = ConnectFourSolver(
            game.params["width"], game.params["height"], table_mb=table_mb, max_nodes=max_nodes
        )

    @property
    def nodes(self) -> int:
        """Positions searched so far."""
        return self._solver.nodes

    def score_rows(self, states: StateBatch, outcome: bool) -> npt.NDArray[np.int8]:
        """int8 [B, A]: scores, or with `outcome` their signs; ILLEGAL where not playable."""
        out = np.full((len(states), self.num_actions), ILLEGAL, np.int8)
        going = np.flatnonzero(~states.is_terminal())
        if len(going):
            own, both = _boards(states.data[going])
            scores = np.empty((len(going), self.num_actions), np.int8)
            self._solver.score_moves(own, both, scores, outcome=outcome)
            out[going] = scores
        return out

    def stop(self) -> None:
        """Ends calls that run on other threads."""
        self._solver.stop()

    def clear(self) -> None:
        """Forgets the transposition table, and counts nodes from 0."""
        self._solver.clear()


class ConnectFourProver(Prover):
    """Proves positions with a few hundred nodes; see `SolvingProver`."""

    counts_plies = True
    end_plies = END_PLIES

    def __init__(self, game: NativeGame) -> None:
        self.game = game
        self._solver = ConnectFourSolver(game.params["width"], game.params["height"], table_mb=1)

    def prove(self, states: States, max_nodes: int) -> Outcomes:
        """int8 [B, A]; a position is proven with all its actions, or given up with all of them."""
        out = np.empty((len(states), self.game.num_actions), np.int8)
        own, both = _boards(states)
        self._solver.prove(own, both, out, max_nodes=max_nodes)
        return out

    def engine(self, *, table_mb: int, max_nodes: int) -> ConnectFourEngine:
        """A solver that counts plies."""
        return ConnectFourEngine(self.game, table_mb=table_mb, max_nodes=max_nodes)
