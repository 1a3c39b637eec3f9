"""`Replay`: a ring of packed arrays of the newest positions.

A position is its state's bytes, and a policy target the moves that have a probability
(policies.py), so a buffer of a million Connect Four positions takes 70 to 110 MB. Checkpoints of
versions with dense policies can be read; those versions cannot read this one's. Left out: drawing
batches (buffer.py), and games as moves (compact.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.replay.buffer import NO_PARTS, ReplayBuffer
from playout.agents.alphazero.replay.examples import Examples, values_per_position
from playout.agents.alphazero.replay.finals import FinalRing, finals_from_dict, finals_to_dict
from playout.agents.alphazero.replay.policies import Policies, action_dtype, ragged
from playout.envs.core.game import NativeGame
from playout.errors import CheckpointError

_MIN_PAIRS = 1 << 10  # room for pairs of an empty ring
_PIECE = 4096  # examples that are dealt out at a time


class Replay(ReplayBuffer):
    """The newest `capacity` examples.

    Args:
        game: the game whose states are stored.
        capacity: rows kept.
        seed: names the stream that batches are drawn from.
        keep_finals: remember how games ended too, so that batches hold what that teaches.
    """

    def __init__(
        self, game: NativeGame, capacity: int, *, seed: int = 0, keep_finals: bool = False
    ) -> None:
        super().__init__(game, capacity, seed=seed)
        self._states = np.zeros((capacity, game.state_size), np.uint8)
        self._values = np.zeros((capacity, values_per_position(game)), np.float32)
        self._policy_weights = np.zeros(capacity, np.float32)
        # Pairs of all rows lie in a second ring in the order in which rows came; pair number n is
        # at n % its length. It grows where the rows kept have more.
        self._starts = np.zeros(capacity, np.int64)  # number of a row's first pair
        self._counts = np.zeros(capacity, np.int32)
        self._pairs_added = 0
        self._actions = np.zeros(_MIN_PAIRS, action_dtype(game.num_actions))
        self._probabilities = np.zeros(_MIN_PAIRS, np.float32)
        self._finals = FinalRing(game, capacity) if keep_finals else None

    def _places(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return numbers % self.capacity

    def add(self, examples: Examples) -> None:
        """Stores examples, over the oldest ones where the ring is full."""
        end = self.num_added + len(examples)
        examples = examples[max(0, len(examples) - self.capacity) :]
        first = max(0, end - self.capacity)  # the oldest row that stays
        oldest = self._starts[first % self.capacity] if first < self.num_added else None
        pairs = self._store_pairs(examples.policy, self._pairs_added if oldest is None else oldest)
        rows = np.arange(end - len(examples), end) % self.capacity
        self._states[rows] = examples.states
        self._values[rows] = examples.values
        self._policy_weights[rows] = examples.policy_weights
        self._starts[rows], self._counts[rows] = pairs, examples.policy.counts
        if self._finals is not None:
            self._finals.add(rows, examples.finals)
        self.num_added = end

    def _store_pairs(self, policy: Policies, oldest: int) -> npt.NDArray[np.int64]:
        """Adds pairs, while those from number `oldest` on stay; the first number of every row."""
        begin, end = self._pairs_added, self._pairs_added + len(policy.actions)
        length = len(self._actions)
        if end - oldest > length:
            grown = max(2 * length, int(end - oldest))
            live = np.arange(oldest, begin)
            for name in ("_actions", "_probabilities"):
                old = getattr(self, name)
                new = np.zeros(grown, old.dtype)
                new[live % grown] = old[live % length]
                setattr(self, name, new)
            length = grown
        at = np.arange(begin, end) % length
        self._actions[at], self._probabilities[at] = policy.actions, policy.probabilities
        self._pairs_added = end
        return begin + np.cumsum(policy.counts, dtype=np.int64) - policy.counts

    def examples(self, rows: npt.NDArray[np.int64]) -> Examples:
        """The examples at these rows of the ring, see `rows`."""
        counts = self._counts[rows]
        pairs = ragged(self._starts[rows], counts) % len(self._actions)
        policy = Policies(counts, self._actions[pairs], self._probabilities[pairs])
        finals = None if self._finals is None else self._finals.of(rows)
        return Examples(
            self._states[rows], policy, self._values[rows], self._policy_weights[rows], finals
        )

    def _empty(self, capacity: int) -> Replay:
        return Replay(self.game, capacity, seed=self.seed, keep_finals=self._finals is not None)

    def _pieces(self) -> Iterator[Examples]:
        numbers = np.arange(self.num_added - len(self), self.num_added)
        for piece in np.array_split(numbers, -(-len(numbers) // _PIECE) or 1):
            yield self.examples(self._places(piece))

    def state_dict(self) -> dict[str, Any]:
        """The filled part of the ring and its position."""
        kept = self.examples(np.arange(len(self)))
        return {
            "capacity": self.capacity,
            "num_added": self.num_added,
            "states": kept.states,
            "values": kept.values,
            "policy_weights": kept.policy_weights,
            **kept.policy.state_dict(),
            **finals_to_dict(kept.finals),
        }

    def load_state_dict(self, state: dict[str, Any], parts: Mapping[str, Any] = NO_PARTS) -> None:
        """Takes over what `state_dict` gave; the capacity must be the same."""
        if state["capacity"] != self.capacity:
            raise CheckpointError(
                f"the checkpoint's replay has room for {state['capacity']}, not {self.capacity}"
            )
        added = int(state["num_added"])
        size = min(added, self.capacity)
        for name in ("states", "values", "policy_weights"):
            target, source = getattr(self, f"_{name}"), state[name]
            if source.shape != (size, *target.shape[1:]) or source.dtype != target.dtype:
                raise CheckpointError(f"the checkpoint's replay does not fit this game ({name})")
        policy = Policies.from_state(state, size, self.game.num_actions)
        finals = None
        if self._finals is not None:
            self._finals.clear()
            finals = finals_from_dict(state, size, self.game)
        by_age = np.arange(added - size, added) % self.capacity
        self.num_added, self._pairs_added = added - size, 0
        self.add(
            Examples(
                state["states"][by_age],
                policy[by_age],
                state["values"][by_age],
                state["policy_weights"][by_age],
                None if finals is None else finals[by_age],
            )
        )
