"""Registers every entry of the catalogue with Gymnasium and with PettingZoo.

Called through the hook in playout's __init__ (import_hook.py) once each library is imported. Names
only: the environments themselves are imported when they are made. Ids that are taken already stay
as they are.
"""

from __future__ import annotations

from playout.envs.catalogue import GAMES, PARALLEL, TASKS


def register_gymnasium() -> None:
    """Control tasks and games, each alone (`gym.make`) and as a vector (`gym.make_vec`)."""
    import gymnasium as gym

    for task in TASKS.values():
        if task.gymnasium_id not in gym.registry:
            gym.register(
                id=task.gymnasium_id,
                entry_point="playout.envs.farama.control_env:ControlEnv",
                vector_entry_point="playout.envs.farama.control_vector:ControlVectorEnv",
                max_episode_steps=task.max_episode_steps,
                reward_threshold=task.reward_threshold,
                kwargs={"task": task.name},
            )
    for game in GAMES.values():
        if game.gymnasium_id not in gym.registry:
            gym.register(
                id=game.gymnasium_id,
                entry_point="playout.envs.farama.game_env:GameEnv",
                vector_entry_point="playout.envs.farama.game_vector:GameVectorEnv",
                kwargs={"game": game.name},
            )


def register_pettingzoo() -> None:
    """Games turn by turn (AEC) and the parallel environments, if PettingZoo is 1.27 or later."""
    import pettingzoo

    if not hasattr(pettingzoo, "register"):  # older releases have no registry
        return
    for game in GAMES.values():
        if game.pettingzoo_id not in pettingzoo.aec_registry:
            pettingzoo.register(
                "aec",
                game.pettingzoo_id,
                "playout.envs.farama.game_aec:env",
                kwargs={"game": game.name},
            )
    for parallel in PARALLEL.values():
        if parallel.pettingzoo_id not in pettingzoo.parallel_registry:
            pettingzoo.register("parallel", parallel.pettingzoo_id, parallel.entry_point)
