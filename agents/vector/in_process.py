"""Single Gymnasium environments stepped in one process, with NEXT_STEP autoreset and exact resume.

Leaves out processes (workers.py) and environments that are vectorised themselves
(gymnasium_vector.py).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from playout.agents.vector.actions import check_action_space, flat_mask, mask_size, one_action
from playout.agents.vector.episodes import EpisodeLog
from playout.agents.vector.groups import Buffers, Group, make_buffers
from playout.agents.vector.spaces import check_obs, has_mask_key, simple_obs, simple_space, write
from playout.errors import ConfigError, EnvironmentFault, PlayoutError
from playout.own_code import is_known

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
            except PlayoutError:
                raise
            except Exception as error:
                raise EnvironmentFault(
                    f"environment {first + i} cannot be made: {error}"
                ) from error
        env = self.envs[0]
        if not isinstance(env, gym.Env):
            raise ConfigError(
                f"{type(env).__name__} is no gymnasium.Env: inherit it, and have reset() return "
                "(observation, info) and step() five values"
            )
        for name in ("observation_space", "action_space"):
            if not isinstance(getattr(env, name, None), spaces.Space):
                raise ConfigError(f"{type(env).__name__} has no {name}, a gymnasium.spaces.Space")
        self.raw_space = env.observation_space
        self.observation_space = simple_space(env.observation_space)
        self.action_space = env.action_space
        check_action_space(self.action_space)
        # The bounds that a published environment declares are not the person's to mend.
        self.strict = not is_known(type(env.unwrapped).__module__)
        self.masked = has_mask_key(self.raw_space)
        self.asks_masks = False
        if not self.masked and mask_size(self.action_space):
            self.asks_masks = self.masked = has_mask_method(env)
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
            # A copy, since the environment may keep what it gets.
            row = np.array(actions[i])
            try:
                found = env.step(one_action(self.action_space, row))
                obs, reward, terminated, truncated, info = found
            except Exception as error:
                raise self._fault(i, "step", error) from error
            self.log.actions[i].append(row)
            over = bool(terminated or truncated)
            self._write(i, obs, info, over)
            buffers["rewards"][i] = read_reward(reward, lambda i=i: self._where(i))  # type: ignore[misc]
            buffers["terminations"][i] = terminated
            buffers["truncations"][i] = truncated
            buffers["idle"][i] = over

    def _begin(self, i: int) -> None:
        try:
            obs, info = self.envs[i].reset(seed=self.log.begin(i))
        except Exception as error:
            raise self._fault(i, "reset", error) from error
        self.buffers["idle"][i] = False
        self.buffers["rewards"][i] = 0.0
        self.buffers["terminations"][i] = self.buffers["truncations"][i] = False
        self._write(i, obs, info, False)

    def _write(self, i: int, obs: Any, info: dict[str, Any], over: bool) -> None:
        try:
            simple, mask = simple_obs(self.raw_space, obs)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise self._fault(i, "observation", error) from error
        check_obs(self.observation_space, simple, lambda: self._where(i), strict=self.strict)
        write(self.buffers["obs"], i, simple)
        if mask is None and self.asks_masks:
            try:
                mask = self.envs[i].get_wrapper_attr("action_masks")()
            except Exception as error:
                raise self._fault(i, "action_masks", error) from error
        if not isinstance(info, Mapping):
            raise EnvironmentFault(
                f"{self._where(i)} gave an info that is no dictionary: {info!r:.60}"
            )
        if mask is None:
            mask = info.get("action_mask")
            self.masked = self.masked or mask is not None
        if mask is None:
            self.buffers["masks"][i] = 1
        else:
            where = self._where(i)
            self.buffers["masks"][i] = flat_mask(self.action_space, mask, where, over=over)

    def _where(self, i: int) -> str:
        """Which environment, episode and step: for errors."""
        return (
            f"environment {self.first + i} (episode {self.log.numbers[i]}, "
            f"step {len(self.log.actions[i])})"
        )

    def _fault(self, i: int, what: str, error: Exception) -> EnvironmentFault:
        return fault_of(
            f"environment {self.first + i} failed in {what} "
            f"(episode {self.log.numbers[i]}, step {len(self.log.actions[i])})",
            error,
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
                self._replay(i, np.array(action))
            self.buffers["idle"][i] = state["over"][i]
            self.buffers["rewards"][i] = 0.0

    def _replay(self, i: int, row: NDArray[Any]) -> None:
        try:
            found = self.envs[i].step(one_action(self.action_space, row))
            obs, _, terminated, truncated, info = found
        except Exception as error:
            raise self._fault(i, "step", error) from error
        self.log.actions[i].append(row)
        self._write(i, obs, info, bool(terminated or truncated))

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()


def has_mask_method(env: gym.Env[Any, Any]) -> bool:
    """Whether an environment or one of its wrappers has a method `action_masks`."""
    try:
        return callable(env.get_wrapper_attr("action_masks"))
    except AttributeError:
        return False


def fault_of(what: str, error: Exception) -> EnvironmentFault:
    """An error of a person's code as a fault that says what failed; a fault stays as it is."""
    if isinstance(error, EnvironmentFault):
        return error
    return EnvironmentFault(f"{what}: {type(error).__name__}: {error}")


def read_reward(reward: Any, where: Callable[[], str]) -> float:
    """A reward as a number; EnvironmentFault if it is none, such as text that looks like one."""
    found = np.asarray(reward)
    if found.dtype.kind not in "biuf" or found.size != 1:
        raise EnvironmentFault(f"{where()} gave a reward that is no number: {reward!r:.60}")
    return float(found.reshape(()))
