"""`ConnectFourEngine`: the bitboard solver of Connect Four, asked with a StateBatch.

It turns observations into bitboards and calls the compiled solver (_solver.pyx). Which games go
to it is decided by solver.py one folder up, with `is_connect_four`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import NativeGame
from playout.envs.core.state_batch import StateBatch
from playout.mcts.exact.alphabeta import ILLEGAL
from playout.mcts.exact.connect_four._solver import ConnectFourSolver, boards

END_PLIES = 25
"""With so few plies left, 20,000 nodes (END_NODES in solver.py) prove more than nine positions of
ten, in 0.1 ms each; with more left, they prove less and less and cost ever more."""

Boards = npt.NDArray[np.uint64]


def is_connect_four(game: NativeGame) -> bool:
    """Is it the built-in game with four in a row, on a board that fits in 64 bits?"""
    channels, height, width = game.obs_shape
    return (
        game.name == "connect_four"
        and game.params.get("run") == 4
        and (game.params.get("width"), game.params.get("height")) == (width, height)
        and (channels, game.num_actions) == (2, width)
        and width * (height + 1) <= 64
    )


class ConnectFourEngine:
    """Exact scores and proofs; one may be used from several threads, which share its table.

    Args:
        game: A game for which `is_connect_four` holds.
        table_mb: Size of the transposition table in MiB.
        max_nodes: Gives up with a GameError after so many positions in one call; 0 never does.
    """

    def __init__(self, game: NativeGame, *, table_mb: int = 64, max_nodes: int = 0) -> None:
        _, height, width = game.obs_shape
        self.num_actions = width
        self._solver = ConnectFourSolver(width, height, table_mb=table_mb, max_nodes=max_nodes)
        rows = np.arange(height)[::-1, None]  # observations show the top row first
        bits = np.arange(width)[None, :] * (height + 1) + rows
        self._bits = (np.uint64(1) << bits.astype(np.uint64)).ravel()

    @property
    def nodes(self) -> int:
        """Positions searched so far."""
        return self._solver.nodes

    def score_rows(self, states: StateBatch, outcome: bool) -> npt.NDArray[np.int8]:
        """int8 [B, A]: scores, or with `outcome` their signs; ILLEGAL where not playable."""
        out = np.full((len(states), self.num_actions), ILLEGAL, np.int8)
        going = np.flatnonzero(~states.is_terminal())
        if len(going):
            own, both = self._boards(states[going].observe().reshape(len(going), -1))
            scores = np.empty((len(going), self.num_actions), np.int8)
            self._solver.score_moves(own, both, scores, outcome=outcome)
            out[going] = scores
        return out

    def prove(
        self, obs: npt.NDArray[np.float32], max_nodes: int, end_nodes: int
    ) -> npt.NDArray[np.int8]:
        """Outcomes [B, A] of positions given as observations [B, F], as `Prover` returns them."""
        out = np.empty((len(obs), self.num_actions), np.int8)
        own, both = self._boards(obs)
        self._solver.prove(
            own, both, out, max_nodes=max_nodes, end_nodes=end_nodes, end_plies=END_PLIES
        )
        return out

    def _boards(self, obs: npt.NDArray[np.float32]) -> tuple[Boards, Boards]:
        """Stones of the side to move and of both, read from observations [B, F].

        Not from the bytes of states, whose layout only the game knows.
        """
        own, both = np.empty(len(obs), np.uint64), np.empty(len(obs), np.uint64)
        boards(obs, self._bits, own, both)
        return own, both

    def stop(self) -> None:
        """Ends calls that run on other threads."""
        self._solver.stop()

    def clear(self) -> None:
        """Forgets the transposition table, and counts nodes from 0."""
        self._solver.clear()
