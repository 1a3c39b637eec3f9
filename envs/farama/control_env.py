"""ControlEnv: one native control task as a plain Gymnasium environment, for `gym.make`.

A batch of one with autoreset off; the time limit comes from `gym.make`'s TimeLimit wrapper.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded
from playout.envs.control.tasks import ControlBatch, describe, make_task, reset_bounds
from playout.envs.farama.control_vector import action_space, observation_space
from playout.envs.farama.vector_base import read_seeds

_ARRAYS = ("state", "seeds", "episodes", "elapsed", "pending")


class ControlEnv(gym.Env[npt.NDArray[Any], Any]):
    """One copy of a control task; arguments as in ControlVectorEnv."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012 (Gymnasium's)

    def __init__(
        self,
        task: Any,
        *,
        render_mode: str | None = None,
        dtype: npt.DTypeLike = np.float32,
        **params: Any,
    ) -> None:
        self._arguments = (task, params, dtype)
        self.task, capsule = make_task(task, params, dtype)
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": self.task.fps}
        info = describe(capsule)
        self._batch = ControlBatch(capsule, 1, max_episode_steps=0, mode="Disabled", dtype=dtype)
        self._low, self._high = np.asarray(info["reset_low"]), np.asarray(info["reset_high"])
        self._seeded = False
        self.observation_space = observation_space(info, dtype)
        self.action_space = action_space(info)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        """Starts an episode; a seed names the stream, without one the stream goes on."""
        low, high = reset_bounds(self.task, self._low, self._high, options or {})
        read_seeds(seed, 1)
        super().reset(seed=seed)
        if seed is not None or not self._seeded:
            drawn = self.np_random.integers(0, 2**63, dtype=np.uint64) if seed is None else seed
            self._batch.seeds[0] = drawn
            self._batch.episodes[0] = 0
            self._seeded = True
        self._batch.reset(None, low, high)
        return self._batch.obs[0].copy(), {}

    def __getstate__(self) -> dict[str, Any]:
        arrays = {key: np.array(getattr(self._batch, key)) for key in _ARRAYS}
        return {**self.__dict__, "_batch": arrays}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        task, params, dtype = self._arguments
        _, capsule = make_task(task, params, dtype)
        self._batch = ControlBatch(capsule, 1, max_episode_steps=0, mode="Disabled", dtype=dtype)
        for key, array in state["_batch"].items():
            getattr(self._batch, key)[...] = array
        if self._seeded:
            self._batch.observe()

    def step(self, action: Any) -> tuple[npt.NDArray[Any], float, bool, bool, dict[str, Any]]:
        """One step; the action is a whole number, or one float in an array of shape (1,)."""
        batch = self._batch
        if batch.pending[0]:
            raise ResetNeeded("the episode is over: call reset() before the next step")
        batch.step(np.asarray(action)[np.newaxis])
        return batch.obs[0].copy(), float(batch.rewards[0]), bool(batch.terminations[0]), False, {}

    def render(self) -> Any:
        """A picture uint8 [H, W, 3], if `render_mode` is "rgb_array"."""
        if self.render_mode is None:
            return None
        from playout.envs.drawing.control import render_control

        return render_control(self.task.name, self._batch.state[:, 0])
