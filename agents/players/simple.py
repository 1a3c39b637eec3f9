"""Players choose moves, for many positions at once; `make_player` reads them from text.

A player gets the positions where it is to move and gives an action for each. Here stand those that
need no learning: Random, Greedy, AlphaBeta and Perfect. Searching players are in search.py,
people in terminal.py, matches in arena.py.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as find_game
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError, GameError
from playout.mcts.exact.alphabeta import AlphaBeta
from playout.mcts.exact.solver import Solver
from playout.mcts.exact.tactics import tactics, winning_actions

Actions = npt.NDArray[np.int32]


class Player(Protocol):
    """Chooses moves."""

    @property
    def name(self) -> str:
        """What tables and records call it."""

    def reset(self, seed: int) -> None:
        """New games begin; all randomness derives from the seed."""

    def act(self, states: StateBatch) -> Actions:
        """int32 [B]: an action for each position; none of them is over."""

    def observe(self, actions: npt.ArrayLike) -> None:
        """Optional news of moves that others played in the positions last asked about."""


class RandomPlayer:
    """Plays any legal move, all equally likely."""

    name = "random"

    def __init__(self, *, seed: int = 0) -> None:
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Starts the random numbers anew."""
        self._rng = np.random.default_rng([seed, 1])

    def act(self, states: StateBatch) -> Actions:
        """A random action for each position."""
        return pick(states.legal_mask() > 0, self._rng)

    def observe(self, actions: npt.ArrayLike) -> None:
        """Needs no news."""


class GreedyPlayer:
    """Wins at once if it can, else keeps the other side from winning at once; else random."""

    name = "greedy"

    def __init__(self, *, seed: int = 0) -> None:
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Starts the random numbers anew."""
        self._rng = np.random.default_rng([seed, 2])

    def act(self, states: StateBatch) -> Actions:
        """A winning, else a safe, else any action."""
        wins, losing, choice = tactics(states)
        for better in (choice & ~losing, wins):
            found = better.any(axis=1)
            choice[found] = better[found]
        return pick(choice, self._rng)

    def observe(self, actions: npt.ArrayLike) -> None:
        """Needs no news."""


class AlphaBetaPlayer:
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

    def observe(self, actions: npt.ArrayLike) -> None:
        """Needs no news."""


class PerfectPlayer:
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
        self.solver = solver if solver is not None else Solver(self.game)
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Starts the random numbers anew; what was solved stays."""
        self._rng = np.random.default_rng([seed, 4])

    def act(self, states: StateBatch) -> Actions:
        """A best action for each position."""
        scores = self.solver.scores_of(states)
        best = scores == scores.max(axis=1, keepdims=True)
        if not self.solver.counts_plies:
            wins = winning_actions(states)
            best[wins.any(axis=1)] = wins[wins.any(axis=1)]
        return pick(best, self._rng)

    def observe(self, actions: npt.ArrayLike) -> None:
        """Needs no news."""


def pick(choices: npt.NDArray[np.bool_], rng: np.random.Generator) -> Actions:
    """int32 [B]: one of the true entries of each row of [B, A], all equally likely."""
    if not choices.any(axis=1).all():
        row = int(np.flatnonzero(~choices.any(axis=1))[0])
        raise GameError(f"row {row}: there is no action to choose, the game is over")
    drawn: Actions = (
        np.where(choices, rng.random(choices.shape), -1.0).argmax(axis=1).astype(np.int32)
    )
    return drawn


FORMS = {
    "random": "random",
    "greedy": "greedy",
    "uct": "uct:SIMULATIONS",
    "alphabeta": "alphabeta:DEPTH",
    "perfect": "perfect",
    "human": "human",
}


def make_player(spec: str, game: NativeGame | str, *, seed: int = 0) -> Player:
    """A player from text.

    Args:
        spec: "random", "greedy", "uct:500", "alphabeta:4", "perfect", "human", or a run directory
            as DIR, DIR:SIMULATIONS or DIR:SIMULATIONS:STEP (0 simulations are the bare policy).
        game: The game to be played.
        seed: Of the player.

    Raises:
        ConfigError: Not a player, or not one for this game.
        RunError: The run cannot be loaded.
    """
    game = find_game(game)
    kind, _, argument = spec.partition(":")
    if kind not in FORMS:
        return _from_run(spec, game, seed)
    if (":" in FORMS[kind]) != bool(argument):
        raise ConfigError(f"player {spec!r}: write it as {FORMS[kind]}")
    if kind == "random":
        return RandomPlayer(seed=seed)
    if kind == "greedy":
        return GreedyPlayer(seed=seed)
    if kind == "alphabeta":
        return AlphaBetaPlayer(game, _number(spec, argument, 1), seed=seed)
    if kind == "perfect":
        return PerfectPlayer(game, seed=seed)
    if kind == "uct":
        from playout.agents.players.search import uct_player

        return uct_player(game, _number(spec, argument, 1), seed=seed)
    from playout.agents.players.terminal import HumanPlayer

    return HumanPlayer()


def _number(spec: str, text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= least):
        raise ConfigError(f"player {spec!r}: {text!r} is not a whole number from {least} up")
    return int(text)


def _from_run(spec: str, game: NativeGame, seed: int) -> Player:
    """DIR, DIR:SIMULATIONS or DIR:SIMULATIONS:STEP; a folder's own name may hold colons."""
    path, numbers = spec, list[str]()
    while not Path(path).is_dir() and ":" in path and len(numbers) < 2:
        path, _, last = path.rpartition(":")
        numbers.insert(0, last)
    if not path or not Path(path).is_dir():
        close = difflib.get_close_matches(spec.partition(":")[0], FORMS, n=1)
        hint = (
            f"did you mean {FORMS[close[0]]}?"
            if close
            else f"there are {', '.join(FORMS.values())}, DIR"
        )
        raise ConfigError(f"{spec!r} is no player and no run directory; {hint}")
    from playout.agents.players.search import load_player

    simulations = _number(spec, numbers[0], 0) if numbers else None
    step = _number(spec, numbers[1], 0) if len(numbers) > 1 else None
    player = load_player(
        path, which="best" if step is None else step, simulations=simulations, game=game
    )
    player.reset(seed)
    return player
