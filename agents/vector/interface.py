"""What a vector environment owes to collection and evaluation: the protocol `Environments`.

B environments are rows that step together. A row whose episode ends begins a new one either at its
next step, which then ignores the action (Gymnasium's NEXT_STEP; the row is `idle` until then), or
within the same step (SAME_STEP). Leaves out every implementation; factory.py chooses among them.
"""

from abc import abstractmethod
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from playout.agents.vector.spaces import Arrays

Step = tuple[Arrays, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]
"""Observations `[B, ...]`, rewards, terminations and truncations `[B]`."""


class Environments(Protocol):
    """B environments stepped together.

    Attributes:
        num_envs: B.
        observation_space: One environment's, simple (spaces.py).
        action_space: One environment's.
        description: What runs and how, for the console.
        idle: bool `[B]`: the next step of the row is its reset, and ignores the action.
    """

    num_envs: int
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    description: str
    idle: NDArray[np.bool_]

    native: bool = False
    """Whether it is one of playout's own."""

    first: int = 0
    """Number of its first row among those of all ranks."""

    reward_threshold: float | None = None
    """Mean return that counts as solved, or None."""

    resumable: bool = True
    """Whether `get_state` is exact."""

    same_step: bool = False
    """Whether an episode that ends begins anew within the same step."""

    final_obs: Arrays | None = None
    """With `same_step`: the last observations of episodes where the last step ended some."""

    @abstractmethod
    def reset(self, seed: int) -> Arrays:
        """Begin everywhere; observations `[B, ...]`."""

    @abstractmethod
    def step(self, actions: NDArray[Any]) -> Step:
        """One step of every row; the arrays may be reused by the next call."""

    @abstractmethod
    def get_state(self) -> dict[str, Any]:
        """Everything the future depends on, as plain data."""

    @abstractmethod
    def set_state(self, state: dict[str, Any]) -> Arrays:
        """Continue from `get_state`; the observations now."""

    def masks(self) -> NDArray[Any] | None:
        """Legal actions now, `[B, A]`, or None where every action is legal."""
        return None

    def close(self) -> None:
        """Free what they hold."""
        return None
