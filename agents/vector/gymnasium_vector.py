"""A Gymnasium vector environment as `Environments`: native, with its own entry point, or yours.

All three autoreset modes of Gymnasium are covered. Environments that have `get_state` and
`set_state` resume exactly; those with `action_masks` tell legal actions, as do an "action_mask" in
the observation or in the info. Leaves out making them (factory.py).
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from playout.agents.vector.episodes import derive_seed
from playout.agents.vector.interface import Environments, Step
from playout.agents.vector.spaces import Arrays, empty, simple_obs, simple_space, write
from playout.errors import EnvironmentFault


class VectorEnvs(Environments):
    """A Gymnasium vector environment."""

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

    def step(self, actions: NDArray[Any]) -> Step:
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
