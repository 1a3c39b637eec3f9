"""A Gymnasium vector environment as `Environments`: native, with its own entry point, or yours.

All three autoreset modes of Gymnasium are covered. Environments that have `get_state` and
`set_state` resume exactly; those with `action_masks` tell legal actions, as do an "action_mask" in
the observation or in the info. Leaves out making them (factory.py).
"""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray
from playout.agents.runs.console import counted
from playout.agents.vector.actions import (
    check_action_space,
    check_masks,
    flat_mask,
    mask_size,
    nested,
)
from playout.agents.vector.episodes import derive_seed
from playout.agents.vector.in_process import fault_of, has_mask_method
from playout.agents.vector.interface import Environments, Step
from playout.agents.vector.spaces import Arrays, empty, simple_obs, simple_space, write
from playout.errors import ConfigError, EnvironmentFault


class VectorEnvs(Environments):
    """A Gymnasium vector environment."""

    def __init__(
        self, envs: VectorEnv[Any, Any, Any], name: str, *, native: bool, first: int = 0
    ) -> None:
        self.envs = envs
        self.num_envs, self.first = int(envs.num_envs), first
        self.seed = 0
        self.raw_space = envs.single_observation_space
        self.observation_space = simple_space(self.raw_space)
        self.action_space = envs.single_action_space
        self.native = native
        self.resumable = hasattr(envs, "get_state") and hasattr(envs, "set_state")
        mode = envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self.mode = AutoresetMode(mode)
        self.same_step = self.mode is not AutoresetMode.NEXT_STEP
        self.name = name
        kind = "native" if native else "vectorised by its own entry point"
        self.description = f"{name}, {counted(self.num_envs, 'environment')}, {kind}"
        spec = getattr(envs, "spec", None)
        threshold = getattr(envs, "reward_threshold", None)
        self.reward_threshold = threshold if spec is None else spec.reward_threshold
        self.idle = np.zeros(self.num_envs, np.bool_)
        self._final = empty(self.observation_space, self.num_envs)
        check_action_space(self.action_space)
        self._mask: NDArray[Any] | None = None
        self._ask = _mask_method(envs)
        self.steps = 0
        self._plain = isinstance(self.raw_space, gym.spaces.Box) and (
            self.raw_space.dtype in (np.uint8, np.float32)
        )

    def reset(self, seed: int) -> Arrays:
        """Begin everywhere; by Gymnasium's custom row i has the seed `seed + i`."""
        self.seed, self.steps = seed, 0
        try:
            obs, info = self.envs.reset(seed=seed + self.first)
        except Exception as error:
            raise self._fault("reset", error) from error
        self.idle[:] = False
        self.final_obs = None
        return self._simple(obs, info)

    def step(self, actions: NDArray[Any]) -> Step:
        """One step of all."""
        self.steps += 1
        try:
            found = self.envs.step(nested(self.action_space, actions))
            obs, rewards, terminations, truncations, info = found
        except Exception as error:
            raise self._fault(f"step {self.steps}", error) from error
        rewards = np.asarray(rewards)
        if rewards.shape != (self.num_envs,) or rewards.dtype.kind not in "biuf":
            raise EnvironmentFault(
                f"{self.name}, step {self.steps}: rewards must be {self.num_envs} numbers"
            )
        if self.mode is AutoresetMode.NEXT_STEP:
            np.logical_or(terminations, truncations, out=self.idle)
        else:
            try:
                obs, info = self._begin_again(obs, terminations | truncations, info)
            except Exception as error:
                raise self._fault(f"the reset of step {self.steps}", error) from error
        return self._simple(obs, info), rewards, terminations, truncations

    def _fault(self, what: str, error: Exception) -> Exception:
        """Whose fault an error is: of a native one, what it is told wrongly is the caller's."""
        own = self.native and isinstance(error, ValueError | TypeError)
        return error if own else fault_of(f"{self.name} failed in {what}", error)

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
        if "final_obs" not in info:
            raise EnvironmentFault(
                f"{self.name}, step {self.steps}: it resets within the step and gives no "
                "info['final_obs']"
            )
        last = info["final_obs"]
        if isinstance(last, np.ndarray) and last.dtype == object:
            for row in over.nonzero()[0]:
                write(self._final, row, simple_obs(self.raw_space, last[row])[0])
        else:
            write(self._final, slice(None), simple_obs(self.raw_space, last)[0])
        return obs, info

    def _simple(self, obs: Any, info: dict[str, Any]) -> Arrays:
        mask: Any = None
        if not self._plain:
            try:
                obs, mask = simple_obs(self.raw_space, obs)
            except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
                raise EnvironmentFault(
                    f"{self.name}, step {self.steps}: observations are not of "
                    f"{self.raw_space}: {error}"
                ) from error
        if self._ask is not None:
            mask = self._ask()
        elif mask is None and "action_mask" in info:
            mask = _known_masks(info)
        self._mask = None if mask is None else self._checked(mask)
        return obs

    def _checked(self, masks: Any) -> NDArray[Any]:
        """Masks `[B, A]`; refuses wrong shapes, and rows that must act and may not."""
        if not isinstance(masks, np.ndarray) or masks.dtype == object:
            masks = np.stack(
                [
                    np.ones(mask_size(self.action_space), np.uint8)
                    if mask is None
                    else flat_mask(self.action_space, mask, self._where(row), over=True)
                    for row, mask in enumerate(masks)
                ]
            )
        size = mask_size(self.action_space)
        if masks.shape != (self.num_envs, size):
            raise EnvironmentFault(
                f"{self.name}: action masks must have shape {(self.num_envs, size)}, "
                f"not {masks.shape}"
            )
        if not masks.any(axis=1).all() or isinstance(self.action_space, gym.spaces.MultiDiscrete):
            acting = masks | self.idle[:, None]
            check_masks(self.action_space, acting, self._where)
        return masks

    def _where(self, row: int) -> str:
        return f"{self.name}, environment {row}, step {self.steps}"

    def masks(self) -> NDArray[Any] | None:
        """Legal actions, if the environments tell."""
        return self._mask

    def get_state(self) -> dict[str, Any]:
        """The environments' own state; empty where they have none."""
        own = self.envs.get_state() if self.resumable else {}  # type: ignore[attr-defined]
        return {"own": own, "idle": self.idle.copy(), "seed": self.seed}

    def set_state(self, state: dict[str, Any]) -> Arrays:
        """Continue; environments without a state begin anew."""
        if len(state["idle"]) != self.num_envs:
            raise ConfigError(
                f"the run steps {len(state['idle'])} environments together, "
                f"{self.name} has {self.num_envs}; make it with num_envs={len(state['idle'])}"
            )
        self.idle[:] = state["idle"]
        if not self.resumable:
            return self.reset(derive_seed(int(state["seed"]), "resumed"))
        self.steps = 0
        self.seed = int(state["seed"])
        return self._simple(self.envs.set_state(state["own"]), {})  # type: ignore[attr-defined]

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()


def _mask_method(envs: VectorEnv[Any, Any, Any]) -> Callable[[], Any] | None:
    """What asks for the legal actions: the vector environment's method, or its environments'."""
    own = getattr(envs, "action_masks", None)
    if callable(own):
        return own  # type: ignore[no-any-return]
    if isinstance(envs.unwrapped, SyncVectorEnv):
        asks = has_mask_method(envs.unwrapped.envs[0])
    elif isinstance(envs.unwrapped, AsyncVectorEnv):
        one = envs.unwrapped.env_fns[0]()  # the processes' own cannot be asked without a fault
        asks = has_mask_method(one)
        one.close()
    else:
        return None
    return (lambda: envs.call("action_masks")) if asks else None  # type: ignore[attr-defined]


def _known_masks(info: dict[str, Any]) -> Any:
    """Gymnasium fills rows that told no mask with zeros and says in `_action_mask` which did."""
    masks, told = info["action_mask"], info.get("_action_mask")
    if told is None or np.all(told) or not isinstance(masks, np.ndarray):
        return masks
    if masks.dtype == object:
        return [mask if known else None for mask, known in zip(masks, told, strict=True)]
    return np.where(np.asarray(told)[:, None], masks, 1)
