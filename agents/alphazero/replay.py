"""Replay of self-play positions: a ring of packed arrays, and training batches drawn from it.

A position is its state's bytes, so a buffer of a million Connect Four positions takes 60 MB;
observations and masks are made when a batch is drawn, each row seen through a random symmetry of
the board. What a batch holds is a function of the buffer and of (seed, number of the batch) alone.
Left out: priorities and storage on disk.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import NativeGame, StateBatch
from playout.errors import CheckpointError, ConfigError

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Examples:
    """What self-play (or a solver) says of N positions.

    Attributes:
        states: uint8 [N, state_size].
        policy: target probabilities, float32 [N, A], zero on illegal actions.
        values: target values, float32 [N, V]; V = 1 for the side to move, or one a player.
        policy_weights: float32 [N]; 0 where only the value is to be learned.
    """

    states: UInt8
    policy: Float32
    values: Float32
    policy_weights: Float32

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> Examples:
        return Examples(*(getattr(self, field.name)[rows] for field in fields(self)))

    @staticmethod
    def concatenate(parts: list[Examples]) -> Examples:
        """Joins examples in the order given."""
        names = [field.name for field in fields(Examples)]
        return Examples(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in names)
        )


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """One batch as the network sees it: `obs [M, C, H, W]`, `mask uint8 [M, A]`, targets."""

    obs: Float32
    mask: UInt8
    policy: Float32
    values: Float32
    policy_weights: Float32

    def __len__(self) -> int:
        return len(self.obs)


def values_per_position(game: NativeGame) -> int:
    """V of `Examples`: 1 for the side to move, or one a player where there are more than two."""
    return game.num_players if game.num_players > 2 else 1


class Replay:
    """The newest `capacity` examples.

    Args:
        game: the game whose states are stored.
        capacity: rows kept.
        seed: names the stream that batches are drawn from.
    """

    def __init__(self, game: NativeGame, capacity: int, *, seed: int = 0) -> None:
        if capacity < 1:
            raise ConfigError(
                f"a replay buffer needs room for at least one position, not {capacity}"
            )
        self.game = game
        self.capacity = capacity
        self.seed = seed
        self.num_added = 0
        self._arrays = Examples(
            np.zeros((capacity, game.state_size), np.uint8),
            np.zeros((capacity, game.num_actions), np.float32),
            np.zeros((capacity, values_per_position(game)), np.float32),
            np.zeros(capacity, np.float32),
        )
        # [K, A]: where action a of a state goes in the state as symmetry k shows it.
        self._moved_actions = np.asarray(game.symmetry_actions(), np.int64)

    def __len__(self) -> int:
        return min(self.num_added, self.capacity)

    def add(self, examples: Examples) -> None:
        """Stores examples, over the oldest ones where the ring is full."""
        end = self.num_added + len(examples)
        examples = examples[max(0, len(examples) - self.capacity) :]
        rows = np.arange(end - len(examples), end) % self.capacity
        for field in fields(Examples):
            getattr(self._arrays, field.name)[rows] = getattr(examples, field.name)
        self.num_added = end

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
        return self.view(self._arrays[rows], symmetries)

    def view(self, examples: Examples, symmetries: npt.NDArray[np.int32]) -> TrainingBatch:
        """Examples as symmetries [N] show them."""
        states = StateBatch.from_data(
            self.game, np.ascontiguousarray(examples.states), check=False
        ).symmetry(symmetries)
        policy = np.zeros_like(examples.policy)
        np.put_along_axis(policy, self._moved_actions[symmetries], examples.policy, axis=1)
        return TrainingBatch(
            states.observe(), states.legal_mask(), policy, examples.values, examples.policy_weights
        )

    def state_dict(self) -> dict[str, Any]:
        """The filled part of the ring and its position."""
        arrays = {
            f.name: getattr(self._arrays, f.name)[: len(self)].copy() for f in fields(Examples)
        }
        return {"capacity": self.capacity, "num_added": self.num_added, **arrays}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave; the capacity must be the same."""
        if state["capacity"] != self.capacity:
            raise CheckpointError(
                f"the checkpoint's replay has room for {state['capacity']}, not {self.capacity}"
            )
        size = min(int(state["num_added"]), self.capacity)
        for field in fields(Examples):
            target, source = getattr(self._arrays, field.name), state[field.name]
            if source.shape != (size, *target.shape[1:]) or source.dtype != target.dtype:
                raise CheckpointError(
                    f"the checkpoint's replay does not fit this game ({field.name})"
                )
            target[:size] = source
        self.num_added = int(state["num_added"])
