"""Registers every environment of playout with Gymnasium, once.

Imported through the hook in playout's __init__ (import_hook.py). Names only: the environments
themselves are imported when they are made.
"""

from __future__ import annotations

import gymnasium as gym
from playout.envs.control.tasks import TASKS

# Time limits and thresholds are Gymnasium's where it has the task.
_LIMITS: dict[str, tuple[int, float | None]] = {
    "cartpole": (500, 475.0),
    "mountain_car": (200, -110.0),
    "mountain_car_continuous": (999, 90.0),
    "acrobot": (500, -100.0),
    "pendulum": (200, None),
    "signal_maze": (100, 0.85),
}
_GAMES = {"playout/ConnectFour-v0": "connect_four", "playout/TicTacToe-v0": "tic_tac_toe"}

# Gymnasium id -> the native environment that plays exactly the same task.
TWINS = {
    task.env_id.removeprefix("playout/"): task.env_id
    for task in TASKS.values()
    if task.name != "signal_maze"
}


def register_all() -> None:
    """Control tasks and games; ids that are taken already stay as they are."""
    for task in TASKS.values():
        limit, threshold = _LIMITS[task.name]
        if task.env_id not in gym.registry:
            gym.register(
                id=task.env_id,
                entry_point="playout.envs.farama.control_env:ControlEnv",
                vector_entry_point="playout.envs.farama.control_vector:ControlVectorEnv",
                max_episode_steps=limit,
                reward_threshold=threshold,
                kwargs={"task": task.name},
            )
    for env_id, game in _GAMES.items():
        if env_id not in gym.registry:
            gym.register(
                id=env_id,
                entry_point="playout.envs.farama.game_env:GameEnv",
                vector_entry_point="playout.envs.farama.game_vector:GameVectorEnv",
                kwargs={"game": game},
            )


register_all()
