"""Exact play: `Solver` says what every legal move of a position leads to under best play.

A game that brings a solver of its own (prover.py) is solved by that, which may also count how fast
a side wins; every other game of two players goes to alpha-beta over its function table, which is
only as quick as the game is small. Which positions to ask about, and what to do with the answers,
is left to others (positions.py, the players).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import NativeGame, State, StateBatch
from playout.envs.core.registry import game as find_game
from playout.errors import ConfigError, GameError
from playout.mcts.arguments import as_integer
from playout.mcts.exact.alphabeta import MAX_NODES, MAX_TABLE_MB, AlphaBeta
from playout.mcts.exact.prover import ILLEGAL, Engine, Outcomes, SolvingProver, own_prover

__all__ = ["END_NODES", "ILLEGAL", "ILLEGAL_OUTCOME", "Outcomes", "Scores", "Solver"]

ILLEGAL_OUTCOME = -2
"""In the solver's outcomes: the action is not legal, or the game is over."""

END_NODES = 20_000
"""Nodes that prove more than nine of ten positions of Connect Four with 25 plies left."""

PATIENCE = 4_000_000
"""Nodes after which plain alpha-beta says that a position is too hard, where a person waits."""

_CHUNK = 32  # rows a task of a thread

Scores = npt.NDArray[np.int32]


class Solver:
    """Solves positions of a game of two players in which one's gain is the other's loss.

    Scores are for the side to move. In Connect Four they follow the usual convention: a win with
    the k-th last of the own stones is worth k (so quicker wins are worth more), its loss -k, a draw
    0. In games without a solver of their own they are the outcome, +1, 0 or -1. One solver may be
    used from several threads; its table remembers from one call to the next.

    Args:
        game: A game, or its name.
        table_mb: Size of the transposition table in MiB.
        threads: Threads that share the rows of a batch; answers do not depend on it.
        max_nodes: Gives up with a GameError after so many positions in one call; None goes on for
            ever.

    Raises:
        ConfigError: The game has not two players, or its results do not add up to 0, or it has
            chance moves, or a parameter is out of range.
    """

    def __init__(
        self,
        game: NativeGame | str,
        *,
        table_mb: int = 64,
        threads: int = 1,
        max_nodes: int | None = None,
    ) -> None:
        self.game = find_game(game)
        if self.game.num_players != 2:
            raise ConfigError(
                f"the solver plays games of two players, {self.game} has {self.game.num_players}"
            )
        if not self.game.zero_sum or self.game.has_chance or self.game.hidden:
            why = "chance moves" if self.game.has_chance else "results that need not add up to 0"
            why = "hidden information" if self.game.hidden else why
            raise ConfigError(f"the solver cannot play {self.game}: it has {why}")
        self.threads = as_integer(threads, "threads", 1, 1024)
        table_mb = as_integer(table_mb, "table_mb", 1, MAX_TABLE_MB)
        nodes = 0 if max_nodes is None else as_integer(max_nodes, "max_nodes", 0, MAX_NODES)
        own = own_prover(self.game)
        self.counts_plies = isinstance(own, SolvingProver) and own.counts_plies
        self._engine: Engine = (
            own.engine(table_mb=table_mb, max_nodes=nodes)
            if isinstance(own, SolvingProver)
            else AlphaBeta(self.game, table_mb=table_mb, max_nodes=nodes)
        )

    @staticmethod
    def patient(game: NativeGame, *, table_mb: int = 64) -> Solver:
        """A solver for people: one of a game's own goes on for ever, plain alpha-beta gives up."""
        own = isinstance(own_prover(game), SolvingProver)
        return Solver(game, table_mb=table_mb, max_nodes=None if own else PATIENCE)

    @property
    def nodes(self) -> int:
        """Positions searched so far."""
        return self._engine.nodes

    def clear(self) -> None:
        """Forgets everything learned, and counts nodes from 0."""
        self._engine.clear()

    def solve(self, state: State) -> int:
        """The score of a position for the side to move."""
        if state.is_terminal:
            raise GameError("the game is over: there is nothing to solve")
        return int(self.scores(state).max())

    def scores(self, state: State) -> Scores:
        """int32 [A]: the score after each action, ILLEGAL where it cannot be played."""
        scores: Scores = self.scores_of(StateBatch.from_states([state]))[0]
        return scores

    def best(self, state: State) -> int:
        """The first of the actions with the highest score."""
        if state.is_terminal:
            raise GameError("the game is over: there is no best action")
        return int(self.scores(state).argmax())

    def scores_of(self, states: StateBatch) -> Scores:
        """int32 [B, A]: `scores` of many positions; rows that are over are all ILLEGAL."""
        return self._rows(states, outcome=False).astype(np.int32)

    def outcomes(self, states: StateBatch) -> Outcomes:
        """int8 [B, A]: an action wins (1), draws (0), loses (-1), or cannot be played (-2).

        Takes a fraction of the time of `scores_of`, since it need not know how fast.
        """
        signs = self._rows(states, outcome=True)
        signs[signs == ILLEGAL] = ILLEGAL_OUTCOME
        return signs

    def values(self, states: StateBatch) -> Outcomes:
        """int8 [B]: the outcome for the side to move; for player 0 where the game is over."""
        best: Outcomes = self.outcomes(states).max(axis=1)
        over = best == ILLEGAL_OUTCOME
        if over.any():
            best[over] = np.sign(states.returns()[over, 0]).astype(np.int8)
        return best

    def _rows(self, states: StateBatch, *, outcome: bool) -> npt.NDArray[np.int8]:
        if states.game != self.game:
            raise GameError(f"this solver plays {self.game}, not {states.game}")
        size = len(states)
        if self.threads == 1 or size < 2:
            return self._engine.score_rows(states, outcome)
        out = np.full((size, self.game.num_actions), ILLEGAL, np.int8)
        chunk = max(1, min(_CHUNK, size // (4 * self.threads)))

        def work(start: int) -> None:
            rows = slice(start, start + chunk)
            out[rows] = self._engine.score_rows(states[rows], outcome)

        _on_threads(work, range(0, size, chunk), self.threads, self._engine.stop)
        return out


def _on_threads(
    work: Callable[[int], None], starts: range, threads: int, stop: Callable[[], None]
) -> None:
    """Runs all pieces; at an error or Ctrl-C, ends the others before it is passed on."""
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work, start) for start in starts]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop()
            raise
