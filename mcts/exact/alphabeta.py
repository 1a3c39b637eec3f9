"""`AlphaBeta`: the value of every action of many positions of any game of two players.

Exact where the game is small enough to be searched to its end, else to a depth, beyond which a
position counts as a draw or as random games from it end. The search itself is compiled
(_alphabeta.pyx); solver.py chooses between it and a solver made for one game.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import NativeGame
from playout.envs.core.state_batch import StateBatch
from playout.mcts.arguments import as_integer
from playout.mcts.exact._alphabeta import AlphaBetaCore
from playout.mcts.exact.prover import GIVEN_UP, ILLEGAL, Outcomes, Prover, States

MAX_TABLE_MB = 1 << 20
MAX_NODES = 2**63 - 1
_INT = 2**31 - 1


class AlphaBeta(Prover):
    """Alpha-beta with a transposition table that calls share; they may run on several threads.

    Args:
        game: A game of two players in which one's gain is the other's loss.
        table_mb: Size of the transposition table in MiB.
        max_nodes: Gives up on a position with a GameError after so many nodes; 0 never does.

    Raises:
        ValueError: The game has not two players, or a parameter is out of range.
    """

    def __init__(self, game: NativeGame, *, table_mb: int = 64, max_nodes: int = 0) -> None:
        self.game = game
        self._core = AlphaBetaCore(
            game.capsule,
            table_mb=as_integer(table_mb, "table_mb", 1, MAX_TABLE_MB),
            max_nodes=as_integer(max_nodes, "max_nodes", 0, MAX_NODES),
        )

    @property
    def nodes(self) -> int:
        """Positions searched so far."""
        return int(self._core.nodes)

    def values(
        self,
        states: StateBatch,
        *,
        depth: int | None = None,
        rollouts: int = 0,
        seed: int = 0,
        give_up: int = 0,
    ) -> npt.NDArray[np.float32]:
        """float32 [B, A]: values for the side to move; NaN where an action is illegal.

        They lie in [-1, 1]: returns divided by the game's `value_scale`.

        Args:
            states: Positions, [B].
            depth: Plies to look ahead, the action itself included; None looks to the game's end.
            rollouts: Random games that judge a position at the horizon; without any it counts 0.
            seed: Numbers those games.
            give_up: A position that takes more nodes than this has no values, NaN in its whole row;
                0 goes on.

        Raises:
            ConfigError: A number out of range.
        """
        values = np.empty((len(states), self.game.num_actions), np.float32)
        self._core.solve(
            states.data,
            values,
            depth=-1 if depth is None else as_integer(depth, "depth", 1, _INT),
            rollouts=as_integer(rollouts, "rollouts", 0, _INT),
            seed=as_integer(seed, "seed", 0, 2**64 - 1),
            give_up=as_integer(give_up, "give_up", 0, MAX_NODES),
        )
        self.game.raise_pending()
        return values

    def prove(self, states: States, max_nodes: int) -> Outcomes:
        """int8 [B, A]: exact outcomes, or GIVEN_UP in whole rows; see `Prover`.

        Each position finds an empty table, which is made for `max_nodes`.
        """
        if self.game.has_chance:
            return np.full((len(states), self.game.num_actions), GIVEN_UP, np.int8)
        values = np.empty((len(states), self.game.num_actions), np.float32)
        self._core.prove(states, values, give_up=max_nodes)
        self.game.raise_pending()
        out = np.sign(np.nan_to_num(values)).astype(np.int8)
        out[np.isnan(values)] = ILLEGAL
        out[np.isnan(values).all(axis=1)] = GIVEN_UP
        return out

    def score_rows(self, states: StateBatch, outcome: bool) -> npt.NDArray[np.int8]:
        """int8 [B, A]: +1, 0 or -1 after each action, ILLEGAL where it cannot be played.

        `outcome` changes nothing: these scores are outcomes.
        """
        values = self.values(states)
        illegal = np.isnan(values)
        out = np.sign(np.where(illegal, 0, values)).astype(np.int8)
        out[illegal] = ILLEGAL
        return out

    def stop(self) -> None:
        """Makes the calls that run now on other threads give up; they raise InterruptedError."""
        self._core.stop()

    def clear(self) -> None:
        """Forgets the transposition table, and counts nodes from 0."""
        self._core.clear()
