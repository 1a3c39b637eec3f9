"""What is held out and learned from as well: counted, and left out where a trunk is read.

Pictures are the same by their pixels, positions if they are mirror images of each other. Left out:
what divides data so that nothing is on both sides (folders.py, positions.py); which runs have
learned from what (evaluation.py).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from playout.agents.pretraining.data.dataset import Dataset, Split
from playout.agents.pretraining.data.pictures import Pictures, same_pixels
from playout.agents.pretraining.data.positions import Positions, unit_of
from playout.envs.core.state_batch import StateBatch
from playout.mcts.exact.positions import canonical_hashes


def repeated(held: Dataset, learned: Dataset) -> npt.NDArray[np.bool_]:
    """Which of what is held out stand in `learned` as well, bool [N]."""
    if isinstance(held, Pictures) and isinstance(learned, Pictures):
        numbers = same_pixels(learned.pixels, held.pixels)
        found = np.isin(numbers[len(learned) :], numbers[: len(learned)])
        return found & (held.shape == learned.shape)
    if isinstance(held, Positions) and isinstance(learned, Positions):
        return np.isin(_hashes(held), _hashes(learned)) & (str(held.game) == str(learned.game))
    return np.zeros(len(held), bool)


def _hashes(data: Positions) -> npt.NDArray[np.uint64]:
    return canonical_hashes(StateBatch.from_data(data.game, data.states, check=False))


def tell_of_repeats(split: Split) -> None:
    """Prints how much of what is held out is learned from as well, if any."""
    test = split.test
    if count := int(repeated(test, split.train).sum()):
        print(
            f"note: {count:,} of {len(test):,} held-out {unit_of(test)} of {test.name} also stand "
            "among those that are learned from",
            flush=True,
        )
