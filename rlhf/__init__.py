"""Language policies: text, Transformer, preference, PPO.

The package can be called as the stage of its name: `playout.rlhf("runs/sft", prompts, ...)` is PPO
on a language policy, beside `playout.sft`, `playout.dpo` and the other stages.
"""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """This package, which is also a function."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """PPO on a language policy; see `commands.learn.rlhf.rlhf`."""
        from playout.rlhf.commands.learn.rlhf import rlhf

        return rlhf(*args, **options)


sys.modules[__name__].__class__ = _Callable
