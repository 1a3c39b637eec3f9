"""Registers playout's games with PettingZoo, where it has a registry (1.27 and later)."""

from __future__ import annotations

import pettingzoo

GAMES = ("connect_four", "tic_tac_toe")


def register_all() -> None:
    """`playout/connect_four-v0` and the other AEC games, and `playout/pursuit-v0` (parallel)."""
    register = getattr(pettingzoo, "register", None)
    if register is None:
        return
    for game in GAMES:
        register(
            "aec", f"playout/{game}-v0", "playout.envs.farama.game_aec:env", kwargs={"game": game}
        )
    register("parallel", "playout/pursuit-v0", "playout.envs.farama.pursuit:parallel_env")


register_all()
