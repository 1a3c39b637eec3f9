"""`Moves`: how positions of the same games follow one another, for replays of games as moves.

They are what was played, and no proof that one position follows from another: dice may have fallen
between them, or a checkpoint of an earlier version may not have known. Who rebuilds positions
(chunk.py) tries that first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.replay.policies import ragged

Ints = npt.NDArray[np.int32]
Index = npt.NDArray[np.int64]

UNKNOWN_ACTION = -1


@dataclass(frozen=True, slots=True)
class Moves:
    """The moves between N positions.

    Attributes:
        counts: int32 [N], moves from the position before to each; 0 where it does not follow.
        actions: int32 [sum of counts].
    """

    counts: Ints
    actions: Ints

    @staticmethod
    def none(size: int = 0) -> Moves:
        """Positions of which none follows another."""
        return Moves(np.zeros(size, np.int32), np.empty(0, np.int32))

    @staticmethod
    def between(actions: Ints, plies: Index, games: Index) -> Moves:
        """Of some positions of games.

        Args:
            actions: what was played at every ply, those of a game one after another, [T];
                UNKNOWN_ACTION where that is not known.
            plies: the positions' places among them, rising, [N].
            games: a number for the game of each ply, [T].
        """
        counts = np.zeros(len(plies), np.int64)
        same = games[plies[1:]] == games[plies[:-1]]
        counts[1:] = np.where(same, np.diff(plies), 0)
        before = np.concatenate([plies[:1], plies[:-1]])
        moves = actions[ragged(before, counts)]
        rows = np.repeat(np.arange(len(plies)), counts)
        doubtful = np.zeros(len(plies), bool)
        doubtful[rows[moves == UNKNOWN_ACTION]] = True
        counts[doubtful] = 0
        return Moves(counts.astype(np.int32), moves[~doubtful[rows]].astype(np.int32))

    def __len__(self) -> int:
        return len(self.counts)

    def slice(self, start: int, stop: int) -> Moves:
        """Of the positions from `start` up to `stop`; the first follows none."""
        ends = np.cumsum(self.counts, dtype=np.int64)
        counts = self.counts[start:stop].copy()
        if not len(counts):
            return Moves.none()
        counts[0] = 0
        return Moves(counts, self.actions[ends[start] : ends[stop - 1]])

    @staticmethod
    def concatenate(parts: list[Moves | None]) -> Moves | None:
        """Joins what all parts have; None if one has none. The first of a part follows none."""
        known = [part for part in parts if part is not None]
        if not known or len(known) < len(parts):
            return None
        return Moves(
            np.concatenate([part.counts for part in known]),
            np.concatenate([part.actions for part in known]),
        )
