"""Reward functions: any Python function of texts, or the model of a reward stage.

`checked_rewards` holds a function to its contract, one finite number a text; `load_reward` finds
what the command line names. The reward model itself is supervised/reward.py's.
"""

import math
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from playout.errors import ConfigError, DataError
from torch import Tensor

__all__ = ["RewardFunction", "checked_rewards", "load_reward"]

RewardFunction = Callable[[list[str]], Sequence[float]]
"""Whole texts, prompt and response joined, to a number each; more is better."""


def checked_rewards(reward: RewardFunction, texts: Sequence[str]) -> Tensor:
    """The rewards of texts, float32 [N].

    Raises:
        DataError: The function raised, or did not give one finite number a text.
    """
    name = getattr(reward, "__name__", type(reward).__name__)
    try:
        found: Any = reward(list(texts))
    except Exception as error:
        where = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(f"the reward function {name} raised {where}") from error
    if isinstance(found, Tensor):
        found = found.detach().cpu().tolist()
    try:
        values = [float(value) for value in found]
    except (TypeError, ValueError):
        raise DataError(
            f"the reward function {name} must return one number a text, not {_kind(found)}"
        ) from None
    if len(values) != len(texts):
        raise DataError(
            f"the reward function {name} returned {len(values)} numbers for {len(texts)} texts"
        )
    for row, value in enumerate(values):
        if not math.isfinite(value):
            raise DataError(
                f"the reward function {name} returned {value} for text {row}: {texts[row][:60]!r}"
            )
    return torch.tensor(values, dtype=torch.float32)


def _kind(value: Any) -> str:
    return f"{value!r:.40}" if isinstance(value, int | float | str) else type(value).__name__


def load_reward(name: str, *, dtype: str = "auto") -> RewardFunction:
    """The reward that a command line names.

    Args:
        name: The folder of a reward stage, of its model, or of a whole pipeline; or
            `module:function`, the module found from the current folder on.
        dtype: Of a model's matrix products.
    """
    if not Path(name).exists() and ":" in name:
        return _function(name)
    from playout.rlhf.supervised.reward import RewardModel

    return RewardModel.load(name, dtype=dtype)


def _function(name: str) -> RewardFunction:
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")]):
        raise ConfigError(f"{name!r} is neither a folder nor module:function")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = import_module(module)
    except ImportError as error:
        raise ConfigError(f"the reward {name!r} cannot be imported: {error}") from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"the module {module} has no {attribute!r}")
        found = getattr(found, part)
    if not callable(found):
        raise ConfigError(f"the reward {name!r} is not a function")
    return found  # type: ignore[no-any-return]
