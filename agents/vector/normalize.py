"""Running normalisation of vector observations and of rewards, saved with the model.

Observations are shifted and scaled by moments over all that were seen; images and discrete ones
pass. Rewards are divided by the deviation of their discounted sum and never shifted. The moments
are running.py's.
"""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from playout.agents.vector.running import Moments, discounted_sums
from playout.agents.vector.spaces import Arrays


class ObsNormalizer:
    """Normalises what is a vector of floats in an observation (or in each key of a dictionary)."""

    def __init__(self, space: spaces.Space[Any], clip: float) -> None:
        self.clip = clip
        parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
        self.moments = {
            key: Moments(int(np.prod(part.shape)))
            for key, part in parts.items()
            if isinstance(part, spaces.Box) and part.dtype == np.float32 and len(part.shape) < 3
        }

    def update(self, obs: Arrays) -> None:
        """Add a batch of observations `[N, ...]`."""
        for key, moments in self.moments.items():
            moments.update(_rows(obs[key] if key else obs))

    def __call__(self, obs: Arrays) -> Arrays:
        """A normalised copy of a batch of observations."""
        if isinstance(obs, dict):
            return {
                key: self._one(self.moments[key], value) if key in self.moments else value
                for key, value in obs.items()
            }
        return self._one(self.moments[""], obs) if "" in self.moments else obs

    def _one(self, moments: Moments, x: NDArray[Any]) -> NDArray[np.float32]:
        return moments.normalize(_rows(x), self.clip).reshape(x.shape)

    def state_dict(self) -> dict[str, Any]:
        """Moments by key."""
        return {key: moments.state_dict() for key, moments in self.moments.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        for key, moments in self.moments.items():
            moments.load_state_dict(state[key])


class RewardScaler:
    """Divides rewards by the deviation of their running discounted sum."""

    def __init__(self, num_rows: int, gamma: float, clip: float) -> None:
        self.gamma, self.clip = gamma, clip
        self.moments = Moments(1)
        self.carry = np.zeros(num_rows)

    def __call__(
        self, rewards: NDArray[np.float32], over: NDArray[np.bool_], valid: NDArray[np.bool_]
    ) -> None:
        """Scale a rollout's rewards `[R, T]` in place, after its own sums have been counted."""
        sums = discounted_sums(rewards, over, valid, self.gamma, self.carry)
        self.moments.update(sums[valid].reshape(-1, 1))
        rewards *= 1.0 / np.sqrt(self.moments.var[0] + 1e-8)
        np.clip(rewards, -self.clip, self.clip, out=rewards)

    def state_dict(self) -> dict[str, Any]:
        """Moments and running sums."""
        return {"moments": self.moments.state_dict(), "carry": self.carry.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.moments.load_state_dict(state["moments"])
        self.carry[:] = state["carry"]


def _rows(x: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(x, np.float32).reshape(len(x), -1)
