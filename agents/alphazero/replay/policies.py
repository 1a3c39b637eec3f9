"""`Policies`: distributions over actions as (action, probability) pairs, packed one after another.

Of thousands of actions few are legal in a position: pairs take memory by the moves that have a
probability, a dense row by the size of the policy. Dense rows are made for a batch and not kept.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from playout.errors import CheckpointError

Float32 = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]

# Keys in checkpoints; those of earlier versions hold dense rows as "policy" instead.
KEYS = ("policy_counts", "policy_actions", "policy_probabilities")


def action_dtype(num_actions: int) -> np.dtype[Any]:
    """The smallest unsigned integer that holds every action."""
    return np.min_scalar_type(num_actions - 1)


def ragged(starts: npt.ArrayLike, counts: npt.ArrayLike) -> Index:
    """starts[0], starts[0] + 1, ... (counts[0] of them), starts[1], ...: int64 [sum of counts]."""
    lengths = np.asarray(counts, np.int64)
    before = np.cumsum(lengths) - lengths
    shift = np.repeat(np.asarray(starts, np.int64) - before, lengths)
    return shift + np.arange(len(shift))


@dataclass(frozen=True, slots=True)
class Policies:
    """N distributions.

    Attributes:
        counts: pairs of each, int32 [N].
        actions: unsigned integers [T], T the sum of counts; rising within a row.
        probabilities: float32 [T], none of them 0.
    """

    counts: npt.NDArray[np.int32]
    actions: npt.NDArray[Any]
    probabilities: Float32

    @staticmethod
    def from_dense(policy: npt.NDArray[Any], *, max_moves: int = 0) -> Policies:
        """The pairs of rows [N, A] whose probability is not 0.

        Args:
            policy: distributions [N, A].
            max_moves: at most so many pairs a row, the likeliest, scaled up to the row's sum; among
                equals any, by a draw that depends on `policy` alone. 0 keeps all.
        """
        kept = policy != 0
        counts = kept.sum(axis=1, dtype=np.int32)
        if max_moves and len(policy) and counts.max() > max_moves:
            policy, kept = _likeliest(policy, max_moves)
            counts = kept.sum(axis=1, dtype=np.int32)
        rows, actions = np.nonzero(kept)
        found = policy[rows, actions].astype(np.float32)
        return Policies(counts, actions.astype(action_dtype(policy.shape[1])), found)

    def dense(self, num_actions: int) -> Float32:
        """float32 [N, A]."""
        policy = np.zeros((len(self), num_actions), np.float32)
        policy[self.rows, self.actions] = self.probabilities
        return policy

    def seen(self, moved: npt.NDArray[Any], kinds: npt.NDArray[Any]) -> Float32:
        """float32 [N, A]: dense rows of positions that symmetries show.

        Args:
            moved: integers [K, A], where each symmetry moves each action (`symmetry_actions`).
            kinds: the symmetry of each row, integers [N].
        """
        policy = np.zeros((len(self), moved.shape[1]), np.float32)
        rows = self.rows
        policy[rows, moved[kinds[rows], self.actions]] = self.probabilities
        return policy

    @property
    def rows(self) -> Index:
        """The row of every pair, int64 [T]."""
        return np.repeat(np.arange(len(self)), self.counts)

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, rows: slice | npt.NDArray[Any]) -> Policies:
        starts = np.cumsum(self.counts, dtype=np.int64) - self.counts
        counts = self.counts[rows]
        pairs = ragged(starts[rows], counts)
        return Policies(counts, self.actions[pairs], self.probabilities[pairs])

    @staticmethod
    def concatenate(parts: list[Policies]) -> Policies:
        """All rows in the order given."""
        return Policies(
            np.concatenate([part.counts for part in parts]),
            np.concatenate([part.actions for part in parts]),
            np.concatenate([part.probabilities for part in parts]),
        )

    def state_dict(self) -> dict[str, Any]:
        """The arrays, under KEYS."""
        return dict(zip(KEYS, (self.counts, self.actions, self.probabilities), strict=True))

    @staticmethod
    def from_state(state: dict[str, Any], size: int, num_actions: int) -> Policies:
        """What `state_dict` gave, or dense rows [size, A] of an earlier version.

        Raises:
            CheckpointError: they are not `size` policies over so many actions.
        """
        if "policy" in state:
            dense = state["policy"]
            if dense.shape != (size, num_actions) or dense.dtype != np.float32:
                raise CheckpointError("the checkpoint's policies do not fit this game (policy)")
            return Policies.from_dense(dense)
        found = Policies(*(state[key] for key in KEYS))
        total = int(found.counts.sum())
        fits = (
            found.counts.shape == (size,)
            and found.actions.shape == found.probabilities.shape == (total,)
            and (not size or found.counts.min() >= 0)
            and (not total or found.actions.max() < num_actions)
        )
        if not fits:
            raise CheckpointError("the checkpoint's policies do not fit this game")
        return found


def _likeliest(
    policy: npt.NDArray[Any], max_moves: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Rows [N, A] with all but the likeliest moves set to 0, and which are kept."""
    rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(policy).tobytes()))
    order = np.lexsort((rng.random(policy.shape), -policy), axis=1)[:, :max_moves]
    kept = np.zeros(policy.shape, bool)
    np.put_along_axis(kept, order, True, axis=1)
    kept &= policy != 0
    total = policy.sum(axis=1, keepdims=True)
    left = np.where(kept, policy, 0)
    return left * (total / np.maximum(left.sum(axis=1, keepdims=True), 1e-30)), kept
