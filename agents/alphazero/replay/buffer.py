"""`ReplayBuffer`: what every replay of self-play positions does, training batches above all.

Observations, masks and dense policies are made when a batch is drawn, each row seen through a
random symmetry of the board. What a batch holds is a function of the buffer and of (seed, number of
the batch) alone. Left out: how positions are kept (ring.py, compact.py), and priorities.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.replay.examples import Examples, TrainingBatch
from playout.agents.alphazero.replay.finals import lessons
from playout.agents.runs import ranks
from playout.envs.core.game import NativeGame, StateBatch
from playout.errors import ConfigError

Rows = npt.NDArray[np.int64]
NO_PARTS: Mapping[str, Any] = {}


class ReplayBuffer(ABC):
    """The newest `capacity` examples.

    Args:
        game: the game whose states are stored.
        capacity: rows kept.
        seed: names the stream that batches are drawn from.

    Attributes:
        num_added: examples that were ever added; numbers of examples count from 0.
    """

    def __init__(self, game: NativeGame, capacity: int, *, seed: int = 0) -> None:
        if capacity < 1:
            raise ConfigError(
                f"a replay buffer needs room for at least one position, not {capacity}"
            )
        self.game, self.capacity, self.seed = game, capacity, seed
        self.num_added = 0
        # [K, A]: where action a of a state goes in the state as symmetry k shows it.
        self._moved_actions = np.asarray(game.symmetry_actions(), np.int64)

    def __len__(self) -> int:
        return min(self.num_added, self.capacity)

    @abstractmethod
    def add(self, examples: Examples) -> None:
        """Stores examples, over the oldest ones where the buffer is full."""

    @abstractmethod
    def examples(self, rows: Rows) -> Examples:
        """The examples at these rows, see `rows`."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What the buffer holds, for a checkpoint."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any], parts: Mapping[str, Any] = NO_PARTS) -> None:
        """Takes over what `state_dict` gave; the capacity must be the same.

        Args:
            state: it.
            parts: the whole state of the checkpoint, in which `parts` stand by their names.
        """

    @abstractmethod
    def _empty(self, capacity: int) -> Self:
        """Another one of this kind with nothing in it."""

    @abstractmethod
    def _pieces(self) -> Iterator[Examples]:
        """All examples, the oldest first, some thousands at a time."""

    def deal(self, states: Sequence[Mapping[str, Any]], parts: Sequence[Mapping[str, Any]]) -> None:
        """Takes this rank's share of what the buffers of another number of ranks held.

        It is a stretch of each piece, so that positions that follow one another mostly stay
        together, added by age. This buffer has to be empty; its examples are numbered from 0.

        Args:
            states: of all of them in their order, as `state_dict` gave them.
            parts: what `load_state_dict` takes beside each.
        """
        rank, world = ranks.rank(), ranks.world()
        taken: list[tuple[int, int, Examples]] = []
        for number, (state, beside) in enumerate(zip(states, parts, strict=True)):
            source = self._empty(int(state["capacity"]))
            source.load_state_dict(dict(state), beside)
            mine = [
                piece[len(piece) * rank // world : len(piece) * (rank + 1) // world]
                for piece in source._pieces()
            ]
            taken += [(index - len(mine), number, piece) for index, piece in enumerate(mine)]
        for _, _, piece in sorted(taken, key=lambda one: one[:2]):
            self.add(piece)

    def parts(self) -> dict[str, Any]:
        """What stands in a checkpoint under names of its own, on the top level."""
        return {}

    def _places(self, numbers: Rows) -> Rows:
        """Rows of examples by their numbers."""
        return numbers

    def rows(self, number: int, size: int, *, window: int | None = None) -> Rows:
        """Rows of batch `number`: uniform over the newest `window`, each once if it can."""
        if not len(self):
            raise ValueError("the replay buffer is empty")
        window = min(len(self), window or self.capacity)
        rng = np.random.default_rng([self.seed, 1, number])
        drawn = rng.choice(window, size, replace=size > window, shuffle=False)
        return self._places(self.num_added - 1 - drawn)

    def batch(
        self, number: int, size: int, *, window: int | None = None, part: range | None = None
    ) -> TrainingBatch:
        """Training batch `number`, each row through a symmetry drawn for it; or a `part` of it."""
        rows = self.rows(number, size, window=window)
        rng = np.random.default_rng([self.seed, 2, number])
        symmetries = rng.integers(0, self.game.num_symmetries, size, dtype=np.int32)
        kept = slice(None) if part is None else slice(part.start, part.stop)
        return self.view(self.examples(rows[kept]), symmetries[kept])

    def view(self, examples: Examples, symmetries: npt.NDArray[np.int32]) -> TrainingBatch:
        """Examples as symmetries [N] show them."""
        states = StateBatch.from_data(
            self.game, np.ascontiguousarray(examples.states), check=False
        ).symmetry(symmetries)
        planes, scores, ended = lessons(self.game, examples, symmetries)
        return TrainingBatch(
            states.observe(),
            states.legal_mask(),
            examples.policy.seen(self._moved_actions, symmetries),
            examples.values,
            examples.policy_weights,
            planes,
            scores,
            ended,
        )
