"""An evaluator that shows a network every symmetry of a position and takes the mean of its answers.

A network that has learned from mirrored positions still answers them a little differently; the mean
is better than either, at the price of an evaluation for each symmetry. For play and analysis, not
for self-play, where more games are worth more.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import NativeGame, StateBatch
from playout.mcts.evaluators import Evaluator, LeafBatch

Float32 = npt.NDArray[np.float32]
MOST = 8  # symmetries that are worth their evaluations


class SymmetricEvaluator(Evaluator):
    """The mean over symmetries of another evaluator's answers.

    Args:
        evaluator: answers for observations.
        game: whose symmetries they are; with none, or too many, answers are passed on as they are.
    """

    def __init__(self, evaluator: Evaluator, game: NativeGame) -> None:
        self.evaluator, self.game = evaluator, game
        self._moved = np.asarray(game.symmetry_actions(), np.int64)

    def evaluate(self, leaves: LeafBatch) -> tuple[Float32, Float32]:
        """Logits [M, A] and values [M] (or [M, P])."""
        count = self.game.num_symmetries
        if not 1 < count <= MOST:
            return self.evaluator.evaluate(leaves)
        size = leaves.size
        states = StateBatch.from_data(self.game, leaves.states[:size].copy(), check=False)
        kinds = np.repeat(np.arange(count, dtype=np.int32), size)
        shown = StateBatch.concatenate([states] * count).symmetry(kinds)
        part = dataclasses.replace(
            leaves,
            obs=shown.observe(),
            mask=shown.legal_mask(),
            states=shown.data,
            to_play=np.tile(leaves.to_play[:size], count),
            size=size * count,
        )
        logits, values = self.evaluator.evaluate(part)
        back = np.take_along_axis(logits, self._moved[kinds], axis=1)
        mean = back.reshape(count, size, -1).mean(axis=0)
        return mean, values.reshape(count, size, *values.shape[1:]).mean(axis=0)
