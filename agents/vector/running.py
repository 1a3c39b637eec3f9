"""Running statistics over observations and rollouts: moments, discounted sums, finished episodes.

The loops are compiled (kernels/_running.pyx), since NumPy would need several passes for each. Means
and sums are kept in double precision (Welford's sums, merged batch by batch). Leaves out what is
normalised by them (normalize.py).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from playout.agents.kernels import _running


class Moments:
    """Mean and variance of D numbers over everything seen."""

    def __init__(self, size: int) -> None:
        self.count = 0.0
        self.mean = np.zeros(size)
        self.m2 = np.zeros(size)

    @property
    def var(self) -> NDArray[np.float64]:
        """Variance `[D]`; 1 before anything was seen."""
        return self.m2 / self.count if self.count > 0 else np.ones_like(self.m2)

    def update(self, rows: NDArray[np.float32]) -> None:
        """Add rows `[N, D]`."""
        self.count = _running.update_moments(rows, self.count, self.mean, self.m2)

    def normalize(self, rows: NDArray[np.float32], clip: float) -> NDArray[np.float32]:
        """`(rows - mean) / deviation` `[N, D]`, clipped to ± `clip`."""
        out = np.empty_like(rows)
        _running.normalize(rows, self.count, self.mean, self.m2, clip, out)
        return out

    def state_dict(self) -> dict[str, Any]:
        """Count, mean and sum of squares."""
        return {"count": self.count, "mean": self.mean.copy(), "m2": self.m2.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.count = float(state["count"])
        self.mean[:] = state["mean"]
        self.m2[:] = state["m2"]


def discounted_sums(
    rewards: NDArray[np.float32],
    over: NDArray[np.bool_],
    valid: NDArray[np.bool_],
    gamma: float,
    carry: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Discounted sums `[R, T]` of the rewards of each episode up to every step.

    Args:
        rewards: `[R, T]`.
        over: The episode ends with this step.
        valid: The step counts; others repeat the sum before them.
        gamma: Discount.
        carry: Sums of the running episodes `[R]`, continued and updated in place.
    """
    sums = np.empty_like(rewards)
    _running.discounted(rewards, over.view(np.uint8), valid.view(np.uint8), gamma, carry, sums)
    return sums


def finished_episodes(
    rewards: NDArray[np.float32],
    over: NDArray[np.bool_],
    valid: NDArray[np.bool_],
    returns: NDArray[np.float64],
    lengths: NDArray[np.int64],
) -> list[tuple[float, int]]:
    """Returns and lengths of the episodes that end within `[R, T]`, in the order of time.

    `returns` and `lengths` `[R]` hold those of the running episodes, updated in place.
    """
    return _running.episodes(rewards, over.view(np.uint8), valid.view(np.uint8), returns, lengths)
