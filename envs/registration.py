"""Registers every environment of playout with Gymnasium, once.

Imported through the hook in playout's __init__ (hook.py).
"""

from __future__ import annotations

import gymnasium as gym
from playout.envs.control.tasks import TASKS

# Time limits and thresholds are Gymnasium's.
_LIMITS: dict[str, tuple[int, float | None]] = {
    "cartpole": (500, 475.0),
    "mountain_car": (200, -110.0),
    "mountain_car_continuous": (999, 90.0),
    "acrobot": (500, -100.0),
    "pendulum": (200, None),
}


def register_control() -> None:
    """`playout/CartPole-v1` and the other control tasks."""
    for task in TASKS.values():
        if task.env_id in gym.registry:
            continue
        limit, threshold = _LIMITS[task.name]
        gym.register(
            id=task.env_id,
            entry_point="playout.envs.control.single:ControlEnv",
            vector_entry_point="playout.envs.control.vector:ControlVectorEnv",
            max_episode_steps=limit,
            reward_threshold=threshold,
            kwargs={"task": task.name},
        )


register_control()
