"""Players that need no learning: random, greedy, alpha-beta, perfect.

Each decides many positions in one call (player.py says what is asked of it). Players that search
are in search.py, people in terminal.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from playout.agents.players.patience import told_wait
from playout.agents.players.player import Actions, Player, must_be_positions
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as find_game
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError, GameError
from playout.mcts.exact.alphabeta import AlphaBeta
from playout.mcts.exact.solver import Solver
from playout.mcts.exact.tactics import tactics, winning_actions


class RandomPlayer(Player):
    """Plays any legal move, all equally likely."""

    name = "random"

    def __init__(self, *, seed: int = 0) -> None:
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Starts the random numbers anew."""
        self._rng = np.random.default_rng([seed, 1])

    def act(self, states: StateBatch) -> Actions:
        """A random action for each position."""
        must_be_positions(states, self.name)
        return pick(states.legal_mask() > 0, self._rng)


class GreedyPlayer(Player):
    """Wins at once if it can, else keeps the other side from winning at once; else random."""

    name = "greedy"

    def __init__(self, *, seed: int = 0) -> None:
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Starts the random numbers anew."""
        self._rng = np.random.default_rng([seed, 2])

    def act(self, states: StateBatch) -> Actions:
        """A winning, else a safe, else any action."""
        must_be_positions(states, self.name)
        wins, losing, choice = tactics(states)
        for better in (choice & ~losing, wins):
            found = better.any(axis=1)
            choice[found] = better[found]
        return pick(choice, self._rng)


class AlphaBetaPlayer(Player):
    """Looks some plies ahead; what lies beyond counts as a draw, or as random games end.

    Among equal moves it takes the quickest win or the slowest loss that it sees, else any.

    Args:
        game: A game of two players.
        depth: Plies to look ahead, its own move included.
        rollouts: Random games that judge a position at the horizon.
        seed: Of ties and of random games.
    """

    def __init__(
        self, game: NativeGame | str, depth: int, *, rollouts: int = 0, seed: int = 0
    ) -> None:
        self.game = find_game(game)
        if self.game.num_players != 2:
            raise ConfigError(
                f"alpha-beta needs two players, {self.game} has {self.game.num_players}"
            )
        if not 1 <= depth <= 1000:
            raise ConfigError(f"alpha-beta's depth must be from 1 to 1000, not {depth}")
        self.depth, self.rollouts = depth, rollouts
        self.name = f"alphabeta:{depth}"
        self._solver = AlphaBeta(self.game)
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Starts the random numbers anew."""
        self._seed = seed
        self._rng = np.random.default_rng([seed, 3])

    def act(self, states: StateBatch) -> Actions:
        """The best action by looking ahead, depth by depth."""
        must_be_positions(states, self.name, self.game)
        values = np.full((len(states), self.game.num_actions), np.nan, np.float32)
        best = np.zeros(values.shape, bool)
        rows = np.arange(len(states))
        for depth in range(1, self.depth + 1):
            rollouts = self.rollouts if depth == self.depth else 0
            values = self._solver.values(
                states[rows], depth=depth, rollouts=rollouts, seed=self._seed
            )
            values = np.where(np.isnan(values), -np.inf, values)
            highest = values.max(axis=1, keepdims=True)
            # Where all is lost at this depth, the moves that were not lost one ply earlier hold out
            # longest.
            lost = (highest[:, 0] <= -1) & best[rows].any(axis=1)
            best[rows[~lost]] = values[~lost] >= highest[~lost] - 1e-6
            rows = rows[~lost & (highest[:, 0] < 1)]
            if not len(rows):
                break
        return pick(best, self._rng)


class PerfectPlayer(Player):
    """Plays exactly: quickest wins, slowest losses where the solver counts them; among equals, any.

    Args:
        game: A game that the solver can manage.
        seed: Of ties.
        solver: Shared with others, or its own.
    """

    name = "perfect"

    def __init__(
        self, game: NativeGame | str, *, seed: int = 0, solver: Solver | None = None
    ) -> None:
        self.game = find_game(game)
        self.solver = solver if solver is not None else Solver.patient(self.game)
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Starts the random numbers anew; what was solved stays."""
        self._rng = np.random.default_rng([seed, 4])

    def act(self, states: StateBatch) -> Actions:
        """A best action for each position."""
        must_be_positions(states, self.name, self.game)
        with told_wait(self.name, states):
            scores = self.solver.scores_of(states)
        best = scores == scores.max(axis=1, keepdims=True)
        if not self.solver.counts_plies:
            wins = winning_actions(states)
            best[wins.any(axis=1)] = wins[wins.any(axis=1)]
        return pick(best, self._rng)


def pick(choices: npt.NDArray[np.bool_], rng: np.random.Generator) -> Actions:
    """int32 [B]: one of the true entries of each row of [B, A], all equally likely."""
    if not choices.any(axis=1).all():
        row = int(np.flatnonzero(~choices.any(axis=1))[0])
        raise GameError(f"row {row}: there is no action to choose, the game is over")
    drawn: Actions = (
        np.where(choices, rng.random(choices.shape), -1.0).argmax(axis=1).astype(np.int32)
    )
    return drawn
