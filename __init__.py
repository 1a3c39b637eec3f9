"""playout: reinforcement learning environments and agents in one pipeline.

Importing playout is cheap: torch and the trainers are loaded when they are first used.
"""

from importlib import import_module
from typing import Any

from playout.envs.farama import import_hook as _hook

__version__ = "0.1.0"

# name -> module that defines it, and the name there if it is another; resolved on first access, so
# that `import playout` needs no torch.
_LAZY = {
    "load": "playout.agents.runs.kinds",
    "analyse": "playout.agents.commands.analyse",
    "evaluate": "playout.agents.commands.eval",
    "match": "playout.agents.commands.match",
    "resume": "playout.agents.runs.kinds",
    "alphazero": "playout.agents.commands.alphazero",
    "ppo": "playout.agents.commands.ppo",
    "pretrain": "playout.rlhf.commands.learn.pretrain",
    "sft": "playout.rlhf.commands.learn.sft",
    "classify": "playout.rlhf.commands.learn.classify",
    "reward": "playout.rlhf.commands.learn.reward",
    "rlhf": "playout.rlhf",
    "grpo": "playout.rlhf.commands.learn.grpo",
    "dpo": "playout.rlhf.commands.learn.dpo",
    "pretrain_trunk": "playout.agents.commands.pretrain_trunk",
    "Game": "playout.envs.core.python_game",
    "game": "playout.envs.core.registry:given_game",
    "testing": "playout.testing",
}

# What is a module itself; `playout.rlhf` can also be called.
_MODULES = ("testing", "rlhf")

__all__ = ["__version__", *_LAZY]


_hook.install()


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'playout' has no attribute {name!r}")
    module, _, attribute = _LAZY[name].partition(":")
    found = import_module(module)
    return found if name in _MODULES else getattr(found, attribute or name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
