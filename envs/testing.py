"""Proof that a game keeps its contract: `check_game`, and counts to hold against published ones.

`check_game` takes any game (native, from a capsule of yours, or written in Python), plays it at
random and compares everything that the C table says with everything else it says. It knows no
rules: counts (`perft`, `count_games`, `count_positions`) and a second implementation prove those.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from playout.envs.checks.counts import count_games, count_positions, perft
from playout.envs.checks.games import GameChecker
from playout.envs.checks.symmetries import GameCheckError
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as make_game

__all__ = ["GameCheckError", "GameReport", "check_game", "count_games", "count_positions", "perft"]


@dataclass(frozen=True, slots=True)
class GameReport:
    """What `check_game` saw.

    Attributes:
        game: The game's name with parameters.
        games: Random games played to the end.
        states: States examined.
        longest: Plies of the longest game.
        mean_returns: Mean result of each player under random play.
    """

    game: str
    games: int
    states: int
    longest: int
    mean_returns: tuple[float, ...]

    def __str__(self) -> str:
        returns = ", ".join(f"{value:+.3f}" for value in self.mean_returns)
        return (
            f"{self.game}: {self.states} states of {self.games} random games agree "
            f"(longest {self.longest} plies, mean returns {returns})"
        )


def check_game(game: object, *, num_games: int = 20, seed: int = 0) -> GameReport:
    """Plays random games and checks every promise of the game ABI on the way.

    At every state: legal actions (sorted, distinct, in range, all of them playable, all others
    refused, none after the end), the same state from bytes and from text, notation, copies that
    share nothing, hashes and keys of evaluations, symmetries (moves, masks, observations, results,
    inverses), observations, planes of the side to move, results, scores and targets; what each
    player knows where information is hidden. Over all: the same answers from
    scalar and batch calls, from batches cut in any way, from several threads, on memory full of
    garbage, and twice in a row.

    Args:
        game: A name, a NativeGame, a capsule, or a Python object that follows `playout.envs.Game`.
        num_games: Random games to play.
        seed: Chooses the games.

    Raises:
        GameCheckError: Says what does not hold, in which position, and what is usually the cause.
    """
    # A faulty table is not refused, but told in full.
    native = NativeGame(game) if type(game).__name__ == "PyCapsule" else make_game(game)
    checker = GameChecker(native)
    checker.check_start()
    rng = np.random.default_rng(seed)
    totals = np.zeros(native.num_players)
    states = longest = 0
    for _ in range(num_games):
        plies, returns = checker.play(rng)
        states += plies + 1
        longest = max(longest, plies)
        totals += returns
    checker.check_batches(seed)
    checker.check_threads(seed)
    checker.check_playouts(seed)
    means = tuple(float(total) / max(num_games, 1) for total in totals)
    return GameReport(str(native), num_games, states, longest, means)
