"""Single Gymnasium environments stepped in one process, with NEXT_STEP autoreset and exact resume.

Leaves out processes (workers.py) and environments that are vectorised themselves
(gymnasium_vector.py).
"""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from playout.agents.vector.episodes import EpisodeLog
from playout.agents.vector.groups import Buffers, Group, make_buffers
from playout.agents.vector.spaces import (
    check_action_space,
    check_obs,
    has_mask_key,
    mask_size,
    simple_obs,
    simple_space,
    write,
)
from playout.errors import ConfigError, EnvironmentFault

MakeEnv = Callable[[], gym.Env[Any, Any]]


class EnvGroup(Group):
    """Some environments, written into arrays that may lie in shared memory."""

    def __init__(
        self, makers: Sequence[MakeEnv], first: int = 0, buffers: Buffers | None = None
    ) -> None:
        """Make the environments.

        Args:
            makers: One function for each.
            first: Number of the first environment among all workers'.
            buffers: Arrays to write into; by default the group's own.
        """
        self.first = first
        self.envs = []
        for i, make in enumerate(makers):
            try:
                self.envs.append(make())
            except (ConfigError, EnvironmentFault):
                raise
            except Exception as error:
                raise EnvironmentFault(
                    f"environment {first + i} cannot be made: {error}"
                ) from error
        env = self.envs[0]
        self.raw_space = env.observation_space
        self.observation_space = simple_space(env.observation_space)
        self.action_space = env.action_space
        check_action_space(self.action_space)
        self.masked = has_mask_key(self.raw_space)
        self.asks_masks = False
        if not self.masked and mask_size(self.action_space) and hasattr(env, "get_wrapper_attr"):
            try:
                self.asks_masks = callable(env.get_wrapper_attr("action_masks"))
            except AttributeError:
                self.asks_masks = False
            self.masked = self.asks_masks
        self.log = EpisodeLog(len(self.envs), first=first)
        self.buffers = buffers or make_buffers(
            self.observation_space, self.action_space, len(self.envs)
        )

    def reset(self, seed: int) -> None:
        """Begin the first episode of every environment."""
        self.log.restart(seed)
        for i in range(len(self.envs)):
            self._begin(i)

    def step(self, actions: NDArray[Any]) -> None:
        """Step every environment; one that was over begins anew and ignores its action."""
        buffers = self.buffers
        for i, env in enumerate(self.envs):
            if buffers["idle"][i]:
                self.log.next(i)
                self._begin(i)
                continue
            # Numbers as Python numbers, arrays as copies: environments may keep what they get.
            action = actions[i].item() if actions[i].ndim == 0 else actions[i].copy()
            try:
                obs, reward, terminated, truncated, info = env.step(action)
            except Exception as error:
                raise self._fault(i, "step", error) from error
            self.log.actions[i].append(action)
            self._write(i, obs, info)
            try:
                buffers["rewards"][i] = reward
            except (TypeError, ValueError) as error:
                raise self._fault(i, "reward", error) from error
            buffers["terminations"][i] = terminated
            buffers["truncations"][i] = truncated
            buffers["idle"][i] = terminated or truncated

    def _begin(self, i: int) -> None:
        try:
            obs, info = self.envs[i].reset(seed=self.log.begin(i))
        except Exception as error:
            raise self._fault(i, "reset", error) from error
        self.buffers["idle"][i] = False
        self.buffers["rewards"][i] = 0.0
        self.buffers["terminations"][i] = self.buffers["truncations"][i] = False
        self._write(i, obs, info)

    def _write(self, i: int, obs: Any, info: dict[str, Any]) -> None:
        try:
            simple, mask = simple_obs(self.raw_space, obs)
        except (KeyError, TypeError, ValueError) as error:
            raise self._fault(i, "observation", error) from error
        check_obs(self.observation_space, simple, f"environment {self.first + i}")
        write(self.buffers["obs"], i, simple)
        if mask is None and self.asks_masks:
            mask = self.envs[i].get_wrapper_attr("action_masks")()
        if mask is None:
            mask = info.get("action_mask")
            self.masked = self.masked or mask is not None
        if mask is not None:
            self.buffers["masks"][i] = np.asarray(mask).reshape(-1) != 0

    def _fault(self, i: int, where: str, error: Exception) -> EnvironmentFault:
        if isinstance(error, EnvironmentFault):
            return error
        return EnvironmentFault(
            f"environment {self.first + i} failed in {where} "
            f"(episode {self.log.numbers[i]}, step {len(self.log.actions[i])}): "
            f"{type(error).__name__}: {error}"
        )

    def get_state(self) -> dict[str, Any]:
        """Seed, episode numbers and the actions of the running episodes."""
        lengths = [len(actions) for actions in self.log.actions]
        return {
            **self.log.get_state(),
            "over": self.buffers["idle"].copy(),
            "lengths": np.array(lengths, np.int64),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Rebuild the environments by playing the running episodes again."""
        for i, actions in self.log.set_state(state):
            self._begin(i)
            for action in actions[: int(state["lengths"][i])]:
                self._replay(i, action.item() if action.ndim == 0 else action.copy())
            self.buffers["idle"][i] = state["over"][i]
            self.buffers["rewards"][i] = 0.0

    def _replay(self, i: int, action: Any) -> None:
        try:
            obs, _, _, _, info = self.envs[i].step(action)
        except Exception as error:
            raise self._fault(i, "step", error) from error
        self.log.actions[i].append(action)
        self._write(i, obs, info)

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()
