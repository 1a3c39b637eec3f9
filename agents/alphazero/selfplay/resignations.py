"""`Resignations`: when a side gives a game up, and how often that would be wrong.

A side gives up when the search has thought little of its position for some of its moves in a row.
A share of the games is played on all the same, which tells how many such games are not lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.config import SelfPlayConfig
from playout.agents.alphazero.selfplay.counts import Counts
from playout.envs.core.game import NativeGame

Rows = npt.NDArray[np.int64]

IN_A_ROW = 3  # own moves with a low value


class Resignations:
    """For every game in play, how long each side has stood badly.

    Args:
        game: what is played; only in zero-sum games of two players anybody gives up.
        config: see SelfPlayConfig.
        seed: names the stream that says which games are played on.
        index: of the group.
    """

    def __init__(self, game: NativeGame, config: SelfPlayConfig, *, seed: int, index: int) -> None:
        size = config.num_trees
        self.used = config.resign_below > -1 and game.num_players == 2 and game.zero_sum
        self._limit, self._share = config.resign_below, config.resign_check
        self._stream = [seed, 9, index]
        self._low = np.zeros((size, 2), np.int32)  # own moves in a row below the limit
        self._checked = np.zeros(size, bool)  # games that are played on
        self._gave_up = np.full(size, -1, np.int8)  # who would have given such a game up first

    def open(self, rows: Rows, number: int) -> None:
        """New games begin in `rows`, in round `number`."""
        if not self.used or not len(rows):
            return
        rng = np.random.default_rng([*self._stream, number, int(rows[0])])
        self._low[rows], self._gave_up[rows] = 0, -1
        self._checked[rows] = rng.random(len(rows)) < self._share

    def after(
        self, values: npt.NDArray[np.float32], movers: npt.NDArray[np.int32], over: npt.NDArray[Any]
    ) -> Rows:
        """The games that their movers [B] give up, given the search's values [B] for them."""
        if not self.used:
            return np.empty(0, np.int64)
        rows = np.arange(len(movers))
        self._low[rows, movers] = np.where(values < self._limit, self._low[rows, movers] + 1, 0)
        bad = (self._low[rows, movers] >= IN_A_ROW) & ~over
        first = bad & self._checked & (self._gave_up < 0)
        self._gave_up[first] = movers[first]
        return np.flatnonzero(bad & ~self._checked)

    def count(self, rows: Rows, returns: npt.NDArray[np.float32], counts: Counts) -> None:
        """The games in `rows` are over with returns [R, 2]."""
        if not self.used:
            return
        who = self._gave_up[rows]
        known = np.flatnonzero(who >= 0)
        counts.resign_checked += len(known)
        counts.resign_wrong += int((returns[known, who[known]] >= 0).sum())

    def state_dict(self) -> dict[str, Any]:
        """Its arrays; nothing where nobody gives up."""
        if not self.used:
            return {}
        return {
            "low": self._low.copy(),
            "played_on": self._checked.copy(),
            "gave_up": self._gave_up.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave, if it is there."""
        if self.used and "gave_up" in state:
            self._low[:], self._checked[:] = state["low"], state["played_on"]
            self._gave_up[:] = state["gave_up"]
