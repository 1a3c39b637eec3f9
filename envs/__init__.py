"""Native games and control tasks behind C function tables.

`playout.game("connect_four")` makes a game, `get_include()` names the folder of the C headers that
a game in a package of its own is compiled against. Gymnasium and PettingZoo are imported only by
the modules that speak to them.
"""

from importlib import import_module
from typing import Any

_LAZY = {
    "Game": "playout.envs.core.python_game",
    "GameInfo": "playout.envs.core.registry",
    "NativeGame": "playout.envs.core.game",
    "State": "playout.envs.core.game",
    "StateBatch": "playout.envs.core.state_batch",
    "from_python": "playout.envs.core.python_game",
    "games": "playout.envs.core.registry",
    "register_game": "playout.envs.core.registry",
}

__all__ = [*_LAZY, "get_include"]


def get_include() -> str:
    """The folder that holds playout_game.h, playout_control.h and their Cython declarations."""
    from pathlib import Path

    return str(Path(__file__).resolve().parent / "include")


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'playout.envs' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
