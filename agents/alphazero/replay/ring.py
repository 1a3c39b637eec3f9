"""Replay of self-play positions: a ring of packed arrays, and training batches drawn from it.

A position is its state's bytes, and a policy target the moves that have a probability
(policies.py), so a buffer of a million Connect Four positions takes 70 to 110 MB; observations,
masks and dense policies are made when a batch is drawn, each row seen through a random symmetry of
the board. What a batch holds is a function of the buffer and of (seed, number of the batch) alone.
Checkpoints of versions with dense policies can be read; those versions cannot read this one's. Left
out: priorities and storage on disk.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.replay.examples import (
    Examples,
    TrainingBatch,
    values_per_position,
)
from playout.agents.alphazero.replay.finals import (
    FinalRing,
    finals_from_dict,
    finals_to_dict,
    lessons,
)
from playout.agents.alphazero.replay.policies import Policies, action_dtype, ragged
from playout.envs.core.game import NativeGame, StateBatch
from playout.errors import CheckpointError, ConfigError

_MIN_PAIRS = 1 << 10  # room for pairs of an empty ring


class Replay:
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
        if capacity < 1:
            raise ConfigError(
                f"a replay buffer needs room for at least one position, not {capacity}"
            )
        self.game = game
        self.capacity = capacity
        self.seed = seed
        self.num_added = 0
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
        # [K, A]: where action a of a state goes in the state as symmetry k shows it.
        self._moved_actions = np.asarray(game.symmetry_actions(), np.int64)

    def __len__(self) -> int:
        return min(self.num_added, self.capacity)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, unused room included."""
        finals = 0 if self._finals is None else self._finals.nbytes
        return finals + sum(
            array.nbytes
            for array in (
                self._states,
                self._values,
                self._policy_weights,
                self._starts,
                self._counts,
                self._actions,
                self._probabilities,
            )
        )

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

    def rows(self, number: int, size: int, *, window: int | None = None) -> npt.NDArray[np.int64]:
        """Rows of batch `number`: uniform over the newest `window`, each once if it can."""
        if not len(self):
            raise ValueError("the replay buffer is empty")
        window = min(len(self), window or self.capacity)
        rng = np.random.default_rng([self.seed, 1, number])
        drawn = rng.choice(window, size, replace=size > window, shuffle=False)
        return (self.num_added - 1 - drawn) % self.capacity

    def batch(self, number: int, size: int, *, window: int | None = None) -> TrainingBatch:
        """Training batch `number`, each row through a symmetry drawn for it."""
        rows = self.rows(number, size, window=window)
        rng = np.random.default_rng([self.seed, 2, number])
        symmetries = rng.integers(0, self.game.num_symmetries, size, dtype=np.int32)
        return self.view(self.examples(rows), symmetries)

    def view(self, examples: Examples, symmetries: npt.NDArray[np.int32]) -> TrainingBatch:
        """Examples as symmetries [N] show them."""
        states = StateBatch.from_data(
            self.game, np.ascontiguousarray(examples.states), check=False
        ).symmetry(symmetries)
        packed = examples.policy
        policy = np.zeros((len(examples), self.game.num_actions), np.float32)
        rows = packed.rows
        policy[rows, self._moved_actions[symmetries[rows], packed.actions]] = packed.probabilities
        planes, scores, ended = lessons(self.game, examples, symmetries)
        return TrainingBatch(
            states.observe(),
            states.legal_mask(),
            policy,
            examples.values,
            examples.policy_weights,
            planes,
            scores,
            ended,
        )

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

    def load_state_dict(self, state: dict[str, Any]) -> None:
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
