"""Running normalisation of vector observations and of rewards, saved with the model.

Observations are shifted and scaled by moments over all that were seen; images and discrete ones
pass. Rewards are divided by the deviation of their discounted sum and never shifted. The moments
are running.py's.
"""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from playout.agents.runs import ranks
from playout.agents.vector.running import Moments, discounted_sums
from playout.agents.vector.spaces import Arrays, leaves

# Ranks join their statistics of observations when so much more was seen than at the last time.
_GROWTH = 1 / 8


class ObsNormalizer:
    """Normalises what is a vector of floats in an observation, or in nested dictionaries of them.

    Attributes:
        moments: The statistics of each vector, by its dotted key; "" where it stands alone.
        apart: Each rank gathers on its own, and all join their statistics at times (`join`): a
            message a step would have fast ranks wait for slow ones at every step.
    """

    def __init__(self, space: spaces.Space[Any], clip: float) -> None:
        self.clip, self.apart = clip, ranks.world() > 1
        self.joined = self.waiting = 0  # rows of all ranks in the statistics, and seen since
        self.moments = {
            key: Moments(int(np.prod(part.shape)))
            for key, part in leaves(space)
            if isinstance(part, spaces.Box) and part.dtype == np.float32 and len(part.shape) < 3
        }
        self.fresh = {key: Moments(len(one.mean)) for key, one in self.moments.items()}
        outer = space.spaces if isinstance(space, spaces.Dict) else {"": space}
        self.nested = self.moments.keys() - outer.keys()

    def update(self, obs: Arrays | None, total: int = 0) -> None:
        """Add a batch of observations `[N, ...]`.

        Args:
            obs: The batch; None where this rank has none, but takes part in joining.
            total: Rows of all ranks' batches.
        """
        if obs is not None:
            seen = self.fresh if self.apart else self.moments
            for key, array in leaves(obs):
                if key in seen:
                    seen[key].update(_rows(array))
        if self.apart:
            self.waiting += total
            if self.waiting >= _GROWTH * self.joined:
                self.join()

    def join(self) -> None:
        """Join what ranks have seen apart since the last time."""
        if self.waiting:
            for key, moments in self.moments.items():
                moments.join(self.fresh[key])
            self.joined, self.waiting = self.joined + self.waiting, 0

    def __call__(self, obs: Arrays) -> Arrays:
        """A normalised copy of a batch of observations."""
        return self._normalised(obs)

    def _normalised(self, obs: Arrays, key: str = "") -> Arrays:
        if isinstance(obs, dict):
            return {
                name: self._normalised(part, f"{key}.{name}" if key else name)
                for name, part in obs.items()
            }
        if key not in self.moments:
            return obs
        return self.moments[key].normalize(_rows(obs), self.clip).reshape(obs.shape)

    def state_dict(self) -> dict[str, Any]:
        """Moments by key."""
        return {key: moments.state_dict() for key, moments in self.moments.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`; runs of earlier versions left nested vectors as they are."""
        for key in [key for key in self.nested if key not in state]:
            del self.moments[key], self.fresh[key]
        for key, moments in self.moments.items():
            moments.load_state_dict(state[key])
            self.joined = int(moments.count)


class RewardScaler:
    """Divides rewards by the deviation of their running discounted sum."""

    def __init__(self, num_rows: int, gamma: float, clip: float) -> None:
        self.gamma, self.clip = gamma, clip
        self.moments, self.fresh = Moments(1), Moments(1)
        self.carry = np.zeros(num_rows)

    def __call__(
        self, rewards: NDArray[np.float32], over: NDArray[np.bool_], valid: NDArray[np.bool_]
    ) -> None:
        """Scale a rollout's rewards `[R, T]` in place, after its own sums have been counted.

        Under ranks those of all of them: every rank calls it, with numbers. With one rank nothing
        is done where a reward is NaN or infinite, which learning will refuse.
        """
        if ranks.world() == 1 and not np.isfinite(rewards).all():
            return
        sums = discounted_sums(rewards, over, valid, self.gamma, self.carry)
        if ranks.world() > 1:
            self.fresh.update(sums[valid].reshape(-1, 1))
            self.moments.join(self.fresh)
        else:
            self.moments.update(sums[valid].reshape(-1, 1))
        rewards *= 1.0 / np.sqrt(self.moments.var[0] + 1e-8)
        np.clip(rewards, -self.clip, self.clip, out=rewards)

    def state_dict(self, with_rows: bool = True) -> dict[str, Any]:
        """Moments, and the rows' running sums unless they are saved elsewhere."""
        rows = {"carry": self.carry.copy()} if with_rows else {}
        return {"moments": self.moments.state_dict(), **rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.moments.load_state_dict(state["moments"])
        if len(state.get("carry", ())) == len(self.carry):  # else ranks have their own
            self.carry[:] = state["carry"]


def _rows(x: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(x, np.float32).reshape(len(x), -1)
