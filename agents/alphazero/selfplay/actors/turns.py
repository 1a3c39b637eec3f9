"""`DealtReplay`: every position is learned from exactly so many times, and soon.

Uniform draws from a window learn from some positions often and from some never. Where games come in
files that must neither be lost nor be used more often than allowed, each position gets its turns
when it arrives, spread at random over the window of positions that follow it; batches take the
turns in their order. So all turns of a position are over when a window has passed, and a batch is
still a mixture of a window's positions. Left out: how positions are kept (replay/).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.replay.buffer import NO_PARTS, ReplayBuffer, Rows
from playout.agents.alphazero.replay.examples import Examples
from playout.errors import CheckpointError, ConfigError


class DealtReplay(ReplayBuffer):
    """Another replay's positions, dealt out by turns.

    What a batch holds depends on what was added and how many batches were drawn before.

    Args:
        inner: keeps the positions.
        reuse: turns of each.
    """

    def __init__(self, inner: ReplayBuffer, *, reuse: int) -> None:
        super().__init__(inner.game, inner.capacity, seed=inner.seed)
        if reuse < 1:
            raise ConfigError(f"each position needs a turn at least, not {reuse}")
        self.inner, self.reuse = inner, reuse
        self._keys = np.empty(0, np.float64)  # of turns to come, rising
        self._numbers = np.empty(0, np.int64)  # whose turns they are
        self._dealt = 0  # of them, from the front

    @property
    def turns(self) -> int:
        """Turns to come."""
        return len(self._keys) - self._dealt

    def has_room(self, count: int) -> bool:
        """Whether so many more positions would push out none that has a turn to come."""
        waiting = self._numbers[self._dealt :]
        return not len(waiting) or self.num_added + count - int(waiting.min()) <= self.capacity

    def add_spread(self, examples: Examples, window: int) -> None:
        """Stores examples, whose turns come while the next `window` positions do.

        Turns of positions that they push out are lost.
        """
        first = self.num_added
        self.inner.add(examples)
        self.num_added = self.inner.num_added
        kept = min(len(examples), self.capacity)
        numbers = np.arange(self.num_added - kept, self.num_added)
        waiting = self._numbers[self._dealt :]
        stay = waiting >= self.num_added - self.capacity
        rng = np.random.default_rng([self.seed, 12, first])
        parts = (np.arange(self.reuse) + rng.random((kept, self.reuse))) / self.reuse
        keys = np.concatenate(
            [self._keys[self._dealt :][stay], (numbers[:, None] + window * parts).ravel()]
        )
        owners = np.concatenate([waiting[stay], np.repeat(numbers, self.reuse)])
        order = np.argsort(keys, kind="stable")
        self._keys, self._numbers, self._dealt = keys[order], owners[order], 0

    def add(self, examples: Examples) -> None:
        """The same with a window of all that is kept."""
        self.add_spread(examples, self.capacity)

    def _empty(self, capacity: int) -> DealtReplay:
        return DealtReplay(self.inner._empty(capacity), reuse=self.reuse)

    def _pieces(self) -> Iterator[Examples]:
        return self.inner._pieces()

    def rows(self, number: int, size: int, *, window: int | None = None) -> Rows:
        """The rows whose turn it is, `size` of them; batches have to be drawn in their order."""
        if size > self.turns:
            raise ValueError(f"{size} turns were asked for, and {self.turns} are left")
        begin, self._dealt = self._dealt, self._dealt + size
        return self._places(self._numbers[begin : self._dealt])

    def _places(self, numbers: Rows) -> Rows:
        return self.inner._places(numbers)

    def examples(self, rows: Rows) -> Examples:
        """The examples at these rows, see `rows`."""
        return self.inner.examples(rows)

    def parts(self) -> dict[str, Any]:
        """What stands in a checkpoint under names of its own."""
        return self.inner.parts()

    def state_dict(self) -> dict[str, Any]:
        """The positions, and the turns to come."""
        turns = {"keys": self._keys[self._dealt :], "numbers": self._numbers[self._dealt :]}
        return {**self.inner.state_dict(), "turns": turns}

    def load_state_dict(self, state: dict[str, Any], parts: Mapping[str, Any] = NO_PARTS) -> None:
        """Takes over what `state_dict` gave."""
        self.inner.load_state_dict(state, parts)
        self.num_added = self.inner.num_added
        try:
            keys = np.asarray(state["turns"]["keys"], np.float64)
            numbers: npt.NDArray[np.int64] = np.asarray(state["turns"]["numbers"], np.int64)
        except (KeyError, TypeError, ValueError):
            raise CheckpointError(
                "the checkpoint does not say whose turn it is to be learned"
            ) from None
        first = self.num_added - len(self)
        inside = not len(numbers) or (numbers.min() >= first and numbers.max() < self.num_added)
        if keys.shape != numbers.shape or keys.ndim != 1 or not inside:
            raise CheckpointError("the checkpoint's turns do not fit its positions")
        self._keys, self._numbers, self._dealt = keys, numbers, 0
