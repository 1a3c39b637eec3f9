"""Single Gymnasium environments stepped in one process, with NEXT_STEP autoreset and exact resume.

Every episode is begun with a seed derived from (seed, environment, episode), and the actions of the
running episode are kept, so that the state of any environment that is deterministic given its seed
can be saved as plain numbers and rebuilt by playing those actions again. Leaves out processes
(workers.py) and environments that are vectorised themselves (environments.py).
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from playout.agents.vector.spaces import (
    check_obs,
    empty,
    has_mask_key,
    simple_obs,
    simple_space,
    write,
)
from playout.errors import ConfigError, EnvironmentFault

MakeEnv = Callable[[], gym.Env[Any, Any]]


def derive_seed(seed: int, *names: object) -> int:
    """A seed below 2^62 for the stream called by `names`, unrelated to those of other names."""
    text = "/".join(map(str, (seed, *names))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 2


def mask_size(space: gym.Space[Any]) -> int:
    """Length of an action mask for a space, 0 where it has none."""
    if isinstance(space, gym.spaces.Discrete):
        return int(space.n)
    if isinstance(space, gym.spaces.MultiDiscrete):
        return int(space.nvec.sum())
    return 0


def buffers_for(
    observation_space: gym.Space[Any], action_space: gym.Space[Any], count: int
) -> dict[str, Any]:
    """What `count` rows of environments say at a step, by name."""
    return {
        "obs": empty(observation_space, count),
        "rewards": np.zeros(count, np.float64),
        "terminations": np.zeros(count, np.bool_),
        "truncations": np.zeros(count, np.bool_),
        "idle": np.zeros(count, np.bool_),
        "masks": np.ones((count, mask_size(action_space)), np.uint8),
    }


class EnvGroup:
    """Some environments, written into arrays that may lie in shared memory.

    `idle` says which environments are over and will ignore their next action, as they begin anew.

    Attributes:
        observation_space: One environment's, as `simple_space` gives it.
        action_space: One environment's.
        masked: Whether the environments tell which actions are legal.
    """

    def __init__(self, makers: Sequence[MakeEnv], first: int = 0) -> None:
        """Make the environments; `first` is the number of the first among all workers."""
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
        self.masked = has_mask_key(self.raw_space)
        self.asks_masks = False
        if not self.masked and mask_size(self.action_space) and hasattr(env, "get_wrapper_attr"):
            try:
                self.asks_masks = callable(env.get_wrapper_attr("action_masks"))
            except AttributeError:
                self.asks_masks = False
            self.masked = self.asks_masks
        self.seed = 0
        self.episodes = [0] * len(self.envs)
        self.actions: list[list[Any]] = [[] for _ in self.envs]

    def bind(self, buffers: dict[str, Any]) -> None:
        """Use these arrays, which may be shared (see `make_buffers` for their names)."""
        self.buffers = buffers

    def make_buffers(self) -> dict[str, Any]:
        """Arrays of our own, where nobody shares them."""
        return buffers_for(self.observation_space, self.action_space, len(self.envs))

    def reset(self, seed: int) -> None:
        """Begin the first episode of every environment."""
        self.seed = seed
        for i in range(len(self.envs)):
            self.episodes[i] = 0
            self._begin(i)

    def step(self, actions: NDArray[Any]) -> None:
        """Step every environment; one that was over begins anew and ignores its action."""
        buffers = self.buffers
        for i, env in enumerate(self.envs):
            if buffers["idle"][i]:
                self.episodes[i] += 1
                self._begin(i)
                continue
            # Numbers as Python numbers, arrays as copies: environments may keep what they get.
            action = actions[i].item() if actions[i].ndim == 0 else actions[i].copy()
            try:
                obs, reward, terminated, truncated, info = env.step(action)
            except Exception as error:
                raise self._fault(i, "step", error) from error
            self.actions[i].append(action)
            self._put(i, obs, info)
            try:
                buffers["rewards"][i] = reward
            except (TypeError, ValueError) as error:
                raise self._fault(i, "reward", error) from error
            buffers["terminations"][i] = terminated
            buffers["truncations"][i] = truncated
            buffers["idle"][i] = terminated or truncated

    def _begin(self, i: int) -> None:
        seed = derive_seed(self.seed, "episode", self.first + i, self.episodes[i]) % 2**31
        try:
            obs, info = self.envs[i].reset(seed=seed)
        except Exception as error:
            raise self._fault(i, "reset", error) from error
        self.actions[i] = []
        self.buffers["idle"][i] = False
        self.buffers["rewards"][i] = 0.0
        self.buffers["terminations"][i] = self.buffers["truncations"][i] = False
        self._put(i, obs, info)

    def _put(self, i: int, obs: Any, info: dict[str, Any]) -> None:
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
            f"(episode {self.episodes[i]}, step {len(self.actions[i])}): "
            f"{type(error).__name__}: {error}"
        )

    def get_state(self) -> dict[str, Any]:
        """Seed, episode numbers and the actions of the running episodes."""
        return {
            "seed": self.seed,
            "episodes": np.array(self.episodes, np.int64),
            "over": self.buffers["idle"].copy(),
            "lengths": np.array([len(a) for a in self.actions], np.int64),
            "actions": [np.array(a) for a in self.actions],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Rebuild the environments by playing the running episodes again."""
        self.seed = int(state["seed"])
        self.episodes = [int(n) for n in state["episodes"]]
        buffers = self.buffers
        for i, length in enumerate(state["lengths"]):
            self._begin(i)
            for action in state["actions"][i][: int(length)]:
                self._replay(i, action.item() if action.ndim == 0 else action.copy())
            buffers["idle"][i] = state["over"][i]
            buffers["rewards"][i] = 0.0

    def _replay(self, i: int, action: Any) -> None:
        try:
            obs, _, _, _, info = self.envs[i].step(action)
        except Exception as error:
            raise self._fault(i, "step", error) from error
        self.actions[i].append(action)
        self._put(i, obs, info)

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()
