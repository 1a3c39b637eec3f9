"""as_sb3: a native vector environment as a stable-baselines3 VecEnv.

stable-baselines3 expects SAME_STEP resets, with the last observation in the info of the step that
ended the episode. It is imported when `as_sb3` is called, never before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from playout.envs.farama.vector_base import NativeVectorEnv


def as_sb3(envs: NativeVectorEnv) -> Any:
    """Wraps `envs` for stable-baselines3 (and sb3-contrib's MaskablePPO, by action_masks).

    Args:
        envs: made with autoreset_mode="SameStep".

    Returns:
        A stable_baselines3.common.vec_env.VecEnv.
    """
    from stable_baselines3.common.vec_env import VecEnv

    if not isinstance(envs, NativeVectorEnv):
        raise TypeError(f"as_sb3 takes a vector environment of playout, got {type(envs).__name__}")
    if envs.autoreset_mode is not AutoresetMode.SAME_STEP:
        raise ValueError(
            "stable-baselines3 expects resets within the step: make the environment with "
            "autoreset_mode='SameStep'"
        )

    class NativeVecEnv(VecEnv):  # type: ignore[misc]
        """The adaptor; its class stands here because its base is imported here."""

        def __init__(self) -> None:
            self.envs = envs
            self._actions: Any = None
            super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

        def reset(self) -> Any:
            given = [seed for seed in self._seeds if seed is not None]
            seeds = self._seeds if given else None
            obs, _ = envs.reset(seed=seeds)
            self._reset_seeds()
            self.reset_infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
            return np.array(obs)

        def step_async(self, actions: Any) -> None:
            self._actions = actions

        def step_wait(self) -> tuple[Any, Any, Any, list[dict[str, Any]]]:
            obs, rewards, terminations, truncations, infos = envs.step(self._actions)
            dones = terminations | truncations
            listed: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
            for row in np.flatnonzero(dones):
                listed[row]["terminal_observation"] = np.array(infos["final_obs"][row])
                cut = bool(truncations[row] and not terminations[row])
                listed[row]["TimeLimit.truncated"] = cut
            return np.array(obs), np.array(rewards, np.float32), dones, listed

        def close(self) -> None:
            envs.close()

        def get_images(self) -> Sequence[Any]:
            return envs.render() or ()

        def has_attr(self, attr_name: str) -> bool:
            return hasattr(envs, attr_name)

        def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
            return [getattr(envs, attr_name) for _ in self._get_indices(indices)]

        def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
            raise NotImplementedError(
                "attributes of native environments are set when they are made"
            )

        def env_method(
            self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any
        ) -> list[Any]:
            rows: Iterable[int] = self._get_indices(indices)
            if method_name == "action_masks":
                masks = np.array(envs.action_masks())  # type: ignore[attr-defined]
                return [masks[row] for row in rows]
            raise NotImplementedError(f"native environments have no method {method_name!r} a row")

        def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
            return [False for _ in self._get_indices(indices)]

    return NativeVecEnv()
