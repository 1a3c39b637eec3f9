"""Environments as collection sees them, whatever they come from; `make_environments` chooses.

An id with a native twin uses the twin, one with a vector entry point uses that, any other is made
once for each environment and stepped in this process or in several, whichever a short measurement
says is faster (the numbers are the same). The common form is NEXT_STEP: a row that ended is `idle`
at the next step, or SAME_STEP with `final_obs`. Leaves out self-play (league/environments.py).
"""

import os
import time
from collections.abc import Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from playout.agents.vector.in_process import EnvGroup, MakeEnv, derive_seed
from playout.agents.vector.spaces import Arrays, empty, simple_obs, simple_space, write
from playout.agents.vector.workers import WorkerPool
from playout.errors import EnvironmentFault

# Below this many seconds for one step of all environments, processes cost more than they give.
_WORTH_PROCESSES = 1e-3


class Environments(Protocol):
    """B environments stepped together.

    Attributes:
        num_envs: B.
        observation_space: One environment's, simple (spaces.py).
        action_space: One environment's.
        description: What runs and how, for the console.
        native: Whether it is one of playout's own.
        reward_threshold: Mean return that counts as solved, or None.
        resumable: Whether `get_state` is exact.
        idle: bool `[B]`: the next step of the row is its reset, and ignores the action.
        same_step: An episode that ends begins anew within the same step (SAME_STEP).
        final_obs: Last observations where the last step ended an episode and began another within
            the same step (SAME_STEP); None otherwise.
    """

    num_envs: int
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    description: str
    native: bool
    reward_threshold: float | None
    resumable: bool
    idle: NDArray[np.bool_]
    same_step: bool
    final_obs: Arrays | None

    def reset(self, seed: int) -> Arrays:
        """Begin everywhere; observations `[B, ...]`."""

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Arrays, NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Observations, rewards, terminations, truncations; the arrays may be reused."""

    def masks(self) -> NDArray[Any] | None:
        """Legal actions now, `[B, A]`, or None."""

    def get_state(self) -> dict[str, Any]:
        """Everything the future depends on."""

    def set_state(self, state: dict[str, Any]) -> Arrays:
        """Continue from `get_state`; the observations now."""

    def close(self) -> None:
        """Free what they hold."""


class GroupEnvs:
    """Single environments in this process or in worker processes."""

    def __init__(
        self, group: EnvGroup | WorkerPool, num_envs: int, name: str, threshold: float | None
    ) -> None:
        self.group, self.num_envs = group, num_envs
        self.observation_space, self.action_space = group.observation_space, group.action_space
        workers = len(group.processes) if isinstance(group, WorkerPool) else 0
        where = f"in {workers} processes" if workers else "in one process"
        self.description = f"{name}, {num_envs} environments {where}"
        self.native, self.resumable, self.same_step = False, True, False
        self.reward_threshold = threshold
        self.idle: NDArray[np.bool_] = group.buffers["idle"]
        self.final_obs: Arrays | None = None

    def reset(self, seed: int) -> Arrays:
        """Begin everywhere."""
        self.group.reset(seed)
        return self.group.buffers["obs"]

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Arrays, NDArray[Any], NDArray[Any], NDArray[Any]]:
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


class VectorEnvs:
    """A Gymnasium vector environment: a native one, one with its own entry point, or yours."""

    def __init__(self, envs: VectorEnv[Any, Any, Any], name: str, *, native: bool) -> None:
        self.envs = envs
        self.num_envs = int(envs.num_envs)
        self.seed = 0
        self.raw_space = envs.single_observation_space
        self.observation_space = simple_space(self.raw_space)
        self.action_space = envs.single_action_space
        self.native = native
        self.resumable = hasattr(envs, "get_state") and hasattr(envs, "set_state")
        mode = envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self.mode = AutoresetMode(mode)
        self.same_step = self.mode is not AutoresetMode.NEXT_STEP
        kind = "native" if native else "vectorised by its own entry point"
        self.description = f"{name}, {self.num_envs} environments, {kind}"
        spec = getattr(envs, "spec", None)
        threshold = getattr(envs, "reward_threshold", None)
        self.reward_threshold = threshold if spec is None else spec.reward_threshold
        self.idle = np.zeros(self.num_envs, np.bool_)
        self.final_obs: Arrays | None = None
        self._final = empty(self.observation_space, self.num_envs)
        self._mask: NDArray[Any] | None = None
        self._asks = callable(getattr(envs, "action_masks", None))
        self._plain = isinstance(self.raw_space, gym.spaces.Box) and (
            self.raw_space.dtype in (np.uint8, np.float32)
        )

    def reset(self, seed: int) -> Arrays:
        """Begin everywhere."""
        self.seed = seed
        obs, info = self.envs.reset(seed=seed)
        self.idle[:] = False
        self.final_obs = None
        return self._simple(obs, info)

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Arrays, NDArray[Any], NDArray[Any], NDArray[Any]]:
        """One step of all."""
        try:
            obs, rewards, terminations, truncations, info = self.envs.step(actions)
        except (EnvironmentFault, ValueError, TypeError):
            raise
        except Exception as error:
            raise EnvironmentFault(f"the environments failed in step: {error}") from error
        if self.mode is AutoresetMode.NEXT_STEP:
            np.logical_or(terminations, truncations, out=self.idle)
        else:
            obs, info = self._begin_again(obs, terminations | truncations, info)
        return self._simple(obs, info), rewards, terminations, truncations

    def _begin_again(
        self, obs: Any, over: NDArray[np.bool_], info: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """SAME_STEP: keep the last observations of the rows that are over."""
        self.final_obs = None
        if not over.any():
            return obs, info
        self.final_obs = self._final
        if self.mode is AutoresetMode.DISABLED:
            write(self._final, slice(None), simple_obs(self.raw_space, obs)[0])
            return self.envs.reset(options={"reset_mask": over})
        last = info["final_obs"]
        if isinstance(last, np.ndarray) and last.dtype == object:
            for row in over.nonzero()[0]:
                write(self._final, row, simple_obs(self.raw_space, last[row])[0])
        else:
            write(self._final, slice(None), simple_obs(self.raw_space, last)[0])
        return obs, info

    def _simple(self, obs: Any, info: dict[str, Any]) -> Arrays:
        if self._plain:
            mask = None
        else:
            obs, mask = simple_obs(self.raw_space, obs)
        if self._asks:
            self._mask = self.envs.action_masks()  # type: ignore[attr-defined]
        else:
            self._mask = info.get("action_mask") if mask is None else mask
        return obs

    def masks(self) -> NDArray[Any] | None:
        """Legal actions, if the environments tell."""
        return self._mask

    def get_state(self) -> dict[str, Any]:
        """The environments' own state; empty where they have none."""
        own = self.envs.get_state() if self.resumable else {}  # type: ignore[attr-defined]
        return {"own": own, "idle": self.idle.copy(), "seed": self.seed}

    def set_state(self, state: dict[str, Any]) -> Arrays:
        """Continue; environments without a state begin anew."""
        self.idle[:] = state["idle"]
        if not self.resumable:
            return self.reset(derive_seed(int(state["seed"]), "resumed"))
        self.seed = int(state["seed"])
        return self._simple(self.envs.set_state(state["own"]), {})  # type: ignore[attr-defined]

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()


def make_group(
    makers: Sequence[MakeEnv], name: str, threshold: float | None, processes: int | None = None
) -> GroupEnvs:
    """Single environments, in as many processes as a short measurement says are worth it.

    Args:
        makers: One function for each environment.
        name: For the console and errors.
        threshold: Mean return that counts as solved.
        processes: 0 or more to choose by hand (0: this process).
    """
    template = EnvGroup(makers[:1])
    template.bind({**template.make_buffers()})
    if processes is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        worth = cores > 1 and len(makers) > 1
        worth = worth and _step_seconds(template) * len(makers) > _WORTH_PROCESSES
        processes = min(cores, len(makers)) if worth else 0
    if processes > 0:
        pool = WorkerPool(makers, processes, template)
        template.close()
        return GroupEnvs(pool, len(makers), name, threshold)
    template.close()
    group = EnvGroup(makers)
    group.bind(group.make_buffers())
    return GroupEnvs(group, len(makers), name, threshold)


def _step_seconds(group: EnvGroup, budget: float = 0.1) -> float:
    """Mean seconds of a step with random actions, measured for at most `budget` seconds."""
    space = group.action_space
    space.seed(0)
    group.reset(0)
    begun, steps = time.perf_counter(), 0
    while time.perf_counter() - begun < budget and steps < 500:
        group.step(np.asarray(space.sample())[None])
        steps += 1
    return (time.perf_counter() - begun) / max(steps, 1)
