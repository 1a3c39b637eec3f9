"""ControlVectorEnv: a batch of one native control task as a Gymnasium vector environment.

A step is one call into C for all environments. Physics is in envs/control/physics, what is
common to native environments in vector_base.py. Leaves out threads: one core steps faster than a
learner can use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from playout.envs.control.tasks import ControlBatch, describe, make_task, reset_bounds
from playout.envs.farama.vector_base import Array, NativeVectorEnv, read_limit, read_num_envs


def observation_space(info: Mapping[str, Any], dtype: npt.DTypeLike) -> spaces.Box:
    """The Box of one environment's observations."""
    low = np.full(info["obs_shape"], info["obs_low"], dtype)
    high = np.full(info["obs_shape"], info["obs_high"], dtype)
    return spaces.Box(low, high, dtype=np.dtype(dtype).type)


def action_space(info: Mapping[str, Any]) -> spaces.Discrete | spaces.Box:
    """Discrete, or a Box of one number."""
    if info["num_actions"] > 0:
        return spaces.Discrete(info["num_actions"])
    return spaces.Box(info["action_low"], info["action_high"], (1,), np.float32)


class ControlVectorEnv(NativeVectorEnv):
    """`num_envs` copies of a control task.

    Row i with seed s plays the same episodes in a batch of any size. With `copy=False` the arrays
    returned by `reset` and `step` are the environment's own buffers, overwritten by the next call;
    nothing is allocated then.

    Args:
        task: a name of the catalogue, such as "cartpole" or "signal_maze", or a capsule with a
            task of your own (playout_control.h).
        num_envs: B, how many.
        max_episode_steps: episodes are truncated after so many steps; None: the task's own limit,
            -1: never.
        render_mode: None or "rgb_array".
        autoreset_mode: Gymnasium's NEXT_STEP (default), SAME_STEP or DISABLED.
        copy: return fresh arrays.
        dtype: of observations, float32 or float64.
        **params: the task's own, such as `sutton_barto_reward` of CartPole.
    """

    def __init__(
        self,
        task: Any,
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        copy: bool = True,
        dtype: npt.DTypeLike = np.float32,
        isa: str | None = None,
        **params: Any,
    ) -> None:
        self.task, capsule = make_task(task, params, dtype, isa)
        self._arguments = {
            "task": task,
            "num_envs": num_envs,
            "max_episode_steps": max_episode_steps,
            "render_mode": render_mode,
            "autoreset_mode": autoreset_mode,
            "copy": copy,
            "dtype": dtype,
            "isa": isa,
            **params,
        }
        self._bounds: tuple[Array, Array] | None = None
        modes = ["rgb_array"] if isinstance(task, str) else []
        self._begin(num_envs, autoreset_mode, copy, render_mode, self.task.fps, modes)
        info = describe(capsule)
        self.max_episode_steps = read_limit(max_episode_steps, self.task.max_episode_steps)
        self._batch = batch = ControlBatch(
            capsule,
            read_num_envs(num_envs),
            max_episode_steps=self.max_episode_steps,
            mode=self.autoreset_mode.value,
            dtype=dtype,
            isa=isa,
        )
        self._seeds, self._episodes = batch.seeds, batch.episodes
        self._results = (batch.obs, batch.rewards, batch.terminations, batch.truncations)
        self._low, self._high = np.asarray(info["reset_low"]), np.asarray(info["reset_high"])
        self.reward_threshold = self.task.reward_threshold
        self.single_observation_space = observation_space(info, dtype)
        self.single_action_space = action_space(info)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Any]]:
        """Starts new episodes, of the rows in options["reset_mask"] [B] only if it is given.

        Args:
            seed: row i gets seed + i; or a list of one for each row; None continues the streams.
            options: "low" and "high" bound the new states (Pendulum: "x_init", "y_init");
                "reset_mask" as above.

        Returns:
            Observations [B, O] and an empty dict.
        """
        rest = {key: value for key, value in (options or {}).items() if key != "reset_mask"}
        low, high = reset_bounds(self.task, self._low, self._high, rest, ("reset_mask",))
        mask, _ = self._begin_reset(seed, options)
        self._batch.reset(mask, low, high)
        self._bounds = low, high
        return self.observe(), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Steps every environment.

        Args:
            actions: whole numbers [B] or floats [B, 1], checked before anything changes.

        Returns:
            Observations [B, O], rewards float64 [B], terminations and truncations bool [B], infos.
        """
        ended = self._batch.step(actions)
        infos: dict[str, Any] = {}
        if ended:
            over = self._batch.terminations | self._batch.truncations
            self._final_infos(infos, over, self._batch.final_obs)
        obs, rewards, terminations, truncations = self._results
        if self.copy:
            return obs.copy(), rewards.copy(), terminations.copy(), truncations.copy(), infos
        return obs, rewards, terminations, truncations, infos

    def observe(self) -> Array:
        """The present observations [B, O]."""
        return self._batch.obs.copy() if self.copy else self._batch.obs

    def render(self) -> tuple[Array, ...] | None:
        """A picture uint8 [H, W, 3] of each environment, if `render_mode` is "rgb_array"."""
        if self.render_mode is None:
            return None
        from playout.envs.drawing.control import render_control

        columns = self._batch.state
        return tuple(render_control(self.task.name, columns[:, i]) for i in range(self.num_envs))

    def _arrays(self) -> dict[str, Array]:
        batch = self._batch
        return {
            "state": batch.state[:, : self.num_envs].T,
            "seeds": batch.seeds,
            "episodes": batch.episodes,
            "elapsed": batch.elapsed,
            "pending": batch.pending,
        }

    def _check_values(self, state: Mapping[str, Array]) -> None:
        if not np.all(np.isfinite(state["state"])):
            raise ValueError("the state must be finite numbers")

    def _show(self) -> None:
        self._batch.observe()

    def _resume(self, state: Mapping[str, Array], goes_on: bool) -> None:
        if self._bounds is not None:  # new episodes have those of the last reset
            self._batch.reset(None, *self._bounds)
        super()._resume(state, goes_on)
