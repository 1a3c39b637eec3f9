"""Single environments that write into common arrays, as one vector environment.

A `Group` steps them: in this process, in worker processes, or as the agents of PettingZoo
environments. `GroupEnvs` gives any group the form of `Environments`. Leaves out how many processes
there are (factory.py).
"""

from typing import Any, Protocol, TypedDict

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from playout.agents.vector.actions import mask_size
from playout.agents.vector.interface import Environments, Step
from playout.agents.vector.spaces import Arrays, empty


class Buffers(TypedDict):
    """Arrays into which B rows are written at every step."""

    obs: Arrays
    rewards: NDArray[np.float64]
    terminations: NDArray[np.bool_]
    truncations: NDArray[np.bool_]
    idle: NDArray[np.bool_]
    masks: NDArray[np.uint8]


def make_buffers(
    observation_space: gym.Space[Any], action_space: gym.Space[Any], count: int
) -> Buffers:
    """Arrays for `count` rows."""
    return {
        "obs": empty(observation_space, count),
        "rewards": np.zeros(count, np.float64),
        "terminations": np.zeros(count, np.bool_),
        "truncations": np.zeros(count, np.bool_),
        "idle": np.zeros(count, np.bool_),
        "masks": np.ones((count, mask_size(action_space)), np.uint8),
    }


class Group(Protocol):
    """Environments that are stepped together and write into `buffers`.

    Attributes:
        observation_space: One row's, simple.
        action_space: One row's.
        buffers: What was written last.
        masked: Whether the environments tell which actions are legal.
    """

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    buffers: Buffers
    masked: bool

    def reset(self, seed: int) -> None:
        """Begin everywhere."""

    def step(self, actions: NDArray[Any]) -> None:
        """Step every row; one that is idle begins anew and ignores its action."""

    def get_state(self) -> dict[str, Any]:
        """Everything the future depends on, as plain data."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_state`."""

    def close(self) -> None:
        """Close the environments."""


class GroupEnvs(Environments):
    """A group as a vector environment with NEXT_STEP autoreset and exact resume."""

    def __init__(self, group: Group, description: str, threshold: float | None = None) -> None:
        self.group, self.description, self.reward_threshold = group, description, threshold
        self.observation_space, self.action_space = group.observation_space, group.action_space
        self.idle = group.buffers["idle"]
        self.num_envs = len(self.idle)

    def reset(self, seed: int) -> Arrays:
        """Begin everywhere."""
        self.group.reset(seed)
        return self.group.buffers["obs"]

    def step(self, actions: NDArray[Any]) -> Step:
        """One step of all."""
        self.group.step(actions)
        found = self.group.buffers
        return found["obs"], found["rewards"], found["terminations"], found["truncations"]

    def masks(self) -> NDArray[Any] | None:
        """Legal actions, if the environments tell."""
        return self.group.buffers["masks"] if self.group.masked else None

    def get_state(self) -> dict[str, Any]:
        """Seeds and running episodes."""
        return self.group.get_state()

    def set_state(self, state: dict[str, Any]) -> Arrays:
        """Play the running episodes again."""
        self.group.set_state(state)
        return self.group.buffers["obs"]

    def close(self) -> None:
        """Close the environments."""
        self.group.close()
