"""Where games of self-play begin: at the game's beginning or, a share of them, at random positions.

Good play repeats itself, and the network is to know what it never reaches. How many games start so,
and after how many plies, are settings that suit a game or not (config.py, presets); games of few
plies, of one player or with dice need no code of their own here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.selfplay.rules import check_first
from playout.envs.core.game import NativeGame, StateBatch
from playout.errors import GameError

Ints = npt.NDArray[np.int32]

# Random play that ended the game is drawn anew so often. Where it nearly always ends it, a shorter
# part of the same random play serves.
_REDRAWS = 16
_ATTEMPTS = 200  # at all


class Openings:
    """Draws beginnings; `next_game`, the number of the next game, is all that they remember.

    Args:
        game: what is played.
        share: of games that start from a random position.
        plies: the most random plies before such a game.
        seed: with `index`, the number of the group, names the random stream.
        index: see seed.
    """

    def __init__(
        self, game: NativeGame, *, share: float, plies: int, seed: int, index: int
    ) -> None:
        check_first(game)
        self.game, self.share, self.plies = game, share, plies
        self.seed, self.index = seed, index
        self.next_game = 0

    def draw(self, count: int) -> tuple[StateBatch, Ints]:
        """`count` positions that are not over nor a chance node's, and the plies before them."""
        found, before = self.game.batch(count), np.zeros(count, np.int32)
        rows = np.arange(count)
        for attempt in range(_ATTEMPTS):
            states, plies = self._begin(len(rows), shorten=attempt - _REDRAWS)
            found[rows], before[rows] = states, plies
            rows = rows[states.is_terminal()]
            if not len(rows):
                return found, before
        raise GameError(f"{self.game} is over as soon as it has begun: there is nothing to play")

    def _begin(self, count: int, *, shorten: int) -> tuple[StateBatch, Ints]:
        """Positions after random plies, some over; fewer plies the further `shorten` is above 0."""
        states = self.game.batch(count)
        numbers = self.next_game + np.arange(count, dtype=np.uint64)
        self.next_game += count
        rng = np.random.default_rng([self.seed, 5, self.index, int(numbers[0])])
        opened = rng.random(count) < self.share
        # Few plies make few different games: each number is as likely as it is large.
        drawn = (self.plies + 1) * np.sqrt(rng.random(count))
        plies = np.where(opened, drawn, 0).astype(np.int32)
        number = int(rng.integers(2**62))
        if shorten >= 0:
            # Of random play that ends the game, a part: then what is left is not over.
            ends = self.game.batch(count).random_plies(plies, number, streams=numbers)
            plies = (rng.random(count) * ends * 0.5**shorten).astype(np.int32)
        states.random_plies(plies, number, streams=numbers)
        counter = self.game.max_plies + 1  # beyond what random play has drawn
        return states, plies + states.resolve_chance(number, streams=numbers, counter=counter)
