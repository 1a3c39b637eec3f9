"""Running statistics over observations and rollouts: moments, discounted sums, finished episodes.

The loops are compiled (kernels/_running.pyx), since NumPy would need several passes for each. Means
and sums are kept in double precision (Welford's sums, merged batch by batch). What ranks have seen
apart is joined here. Leaves out what is normalised by it (normalize.py).
"""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playout.agents.kernels import _running
from playout.agents.runs import ranks
from playout.errors import DivergedError, PlayoutError, SharedFault


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

    def join(self, part: "Moments") -> None:
        """Add what the ranks have gathered in their `part`, and empty it; one message.

        Sums travel about the mean held here, which is the same on every rank.
        """
        size, shift = len(self.mean), part.mean - self.mean
        both = np.concatenate([part.count * shift, part.m2 + part.count * shift * shift])
        count, *found = ranks.sums([part.count, *both.tolist()])
        part.count, part.mean[:], part.m2[:] = 0.0, 0.0, 0.0
        if not count:
            return
        shift, total = np.array(found[:size]) / count, self.count + count
        spread = np.maximum(np.array(found[size:]) - count * shift * shift, 0.0)
        self.mean += shift * (count / total)
        self.m2 += spread + shift * shift * (self.count * count / total)
        self.count = total

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


def exchange_episodes(
    found: list[tuple[float, int]],
    over: NDArray[np.bool_],
    valid: NDArray[np.bool_],
    first: int,
    fault: PlayoutError | None = None,
) -> tuple[list[tuple[float, int]], int]:
    """The episodes of all ranks that ended in a rollout, and how many steps of it count.

    Args:
        found: What `finished_episodes` gave here.
        over: `[R, T]`, as it took them.
        valid: `[R, T]`.
        first: Number of the first row here.
        fault: What went wrong in this rank's environments.

    Returns:
        Returns and lengths in the order of time and row, as one rank with all rows has them.

    Raises:
        SharedFault: Some rank had a fault; every rank raises it. DivergedError: likewise, if one
            of the faults is that.
    """
    places = np.argwhere((over & valid).T)
    places[:, 1] += first
    message = {
        "fault": None if fault is None else [type(fault).__name__, str(fault)],
        "steps": int(valid.sum()),
        "episodes": [[*place, *one] for place, one in zip(places.tolist(), found, strict=False)],
    }
    parts = [json.loads(text) for text in ranks.everybody(json.dumps(message).encode())]
    faults = [(i, *part["fault"]) for i, part in enumerate(parts) if part["fault"] is not None]
    if faults:
        # One kind for all ranks: by it each decides whether to save, which all do or none.
        diverged = any(name == "DivergedError" for _, name, _ in faults)
        kind = DivergedError if diverged else SharedFault
        number, _, text = faults[0]
        raise kind(f"{text} (on rank {number})" if fault is None else str(fault)) from fault
    episodes = sorted(one for part in parts for one in part["episodes"])
    return [(value, length) for *_, value, length in episodes], sum(p["steps"] for p in parts)
