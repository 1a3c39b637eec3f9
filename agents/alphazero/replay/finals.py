"""How games ended: a ring of final states beside the replay's, and what batches learn from them.

A final state is stored once a game. Planes (who owns each cell) and scores (a margin in points) are
made when a batch is drawn, through the symmetry that its row is shown in, so that they turn with
the board.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.replay.examples import Examples, Finals, Float32
from playout.envs.core.game import NativeGame, StateBatch
from playout.errors import CheckpointError

Rows = npt.NDArray[np.int64]

_MIN_FINALS = 64  # room of an empty ring


class FinalRing:
    """Final states of the games whose positions a replay holds.

    They lie in the order in which they came; number n is at n % the ring's length, which grows
    where more of them are in use.
    """

    def __init__(self, game: NativeGame, capacity: int) -> None:
        self._states = np.zeros((_MIN_FINALS, game.state_size), np.uint8)
        self._numbers = np.full(capacity, -1, np.int64)  # of each row of the replay
        self._added = 0

    def clear(self) -> None:
        """Forgets all."""
        self._numbers[:], self._added = -1, 0

    def add(self, rows: Rows, finals: Finals | None) -> None:
        """The replay's `rows` hold new positions, whose games ended as `finals` say."""
        self._numbers[rows] = -1
        if finals is None or not len(finals.states):
            return
        begin, end = self._added, self._added + len(finals.states)
        used = self._numbers[self._numbers >= 0]
        oldest = int(used.min()) if len(used) else begin
        if end - oldest > len(self._states):
            grown = max(2 * len(self._states), end - oldest)
            new = np.zeros((grown, self._states.shape[1]), np.uint8)
            live = np.arange(oldest, begin)
            new[live % grown] = self._states[live % len(self._states)]
            self._states = new
        self._states[np.arange(begin, end) % len(self._states)] = finals.states
        self._numbers[rows] = np.where(finals.rows >= 0, finals.rows + begin, -1)
        self._added = end

    def of(self, rows: Rows) -> Finals:
        """The final states of the replay's rows."""
        numbers = self._numbers[rows]
        kept, at = np.unique(numbers[numbers >= 0], return_inverse=True)
        places = np.full(len(rows), -1, np.int64)
        places[numbers >= 0] = at
        return Finals(self._states[kept % len(self._states)], places)


def lessons(
    game: NativeGame, examples: Examples, symmetries: npt.NDArray[np.int32]
) -> tuple[Float32 | None, Float32 | None, Float32 | None]:
    """What the ends of their games teach N positions that symmetries [N] show.

    Returns:
        Planes [N, T, H, W], scores [N] and 1 or 0 [N] as in `TrainingBatch`; None where they are
        not known, or the game has none.
    """
    if examples.finals is None:
        return None, None, None
    states = StateBatch.from_data(game, np.ascontiguousarray(examples.states), check=False)
    movers = np.maximum(states.to_play(), 0)
    ended = np.flatnonzero(examples.finals.rows >= 0)
    finals = np.ascontiguousarray(examples.finals.states[examples.finals.rows[ended]])
    shown = StateBatch.from_data(game, finals, check=False).symmetry(symmetries[ended])
    _, height, width = game.obs_shape
    planes = scores = None
    if game.target_planes:
        planes = np.zeros((len(examples), game.target_planes, height, width), np.float32)
        planes[ended] = game.final_targets(shown, movers[ended])
    if game.has_score:
        scores = np.zeros(len(examples), np.float32)
        scores[ended] = game.final_scores(shown)[np.arange(len(ended)), movers[ended]] / (
            height * width
        )
    return planes, scores, (examples.finals.rows >= 0).astype(np.float32)


def finals_to_dict(finals: Finals | None) -> dict[str, Any]:
    """For a checkpoint; nothing where there are none."""
    return {} if finals is None else {"final_states": finals.states, "final_rows": finals.rows}


def finals_from_dict(state: Mapping[str, Any], size: int, game: NativeGame) -> Finals:
    """What `finals_to_dict` gave, for `size` positions; none known where it gave nothing."""
    if "final_rows" not in state:  # a run that did not learn from ends until now
        return Finals(np.empty((0, game.state_size), np.uint8), np.full(size, -1, np.int64))
    states, rows = np.asarray(state["final_states"]), np.asarray(state["final_rows"])
    good = (
        states.ndim == 2
        and states.shape[1] == game.state_size
        and states.dtype == np.uint8
        and rows.shape == (size,)
        and (rows >= -1).all()
        and (rows < len(states)).all()
    )
    if not good:
        raise CheckpointError("the checkpoint's final states do not fit this game")
    return Finals(states, rows.astype(np.int64))
