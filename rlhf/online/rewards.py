"""Reward functions: any Python function of texts, or the model of a reward stage.

`checked_rewards` holds a function to its contract, one finite number a text; `load_reward` finds
what the command line names. The reward model itself is supervised/reward.py's.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from playout.errors import ConfigError, DataError
from playout.own_code import load_object, trust
from torch import Tensor

__all__ = ["RewardFunction", "checked_rewards", "load_reward", "trust_reward"]

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


def load_reward(
    name: str,
    *,
    dtype: str = "auto",
    device: torch.device | None = None,
    weights: torch.dtype = torch.float32,
) -> RewardFunction:
    """The reward that a command line names.

    Args:
        name: The folder of a reward stage, of its model, or of a whole pipeline; or
            `module:function`, the module found from the current folder on.
        dtype: Of a model's matrix products.
        device: Where a model computes; the processor if None.
        weights: float32 or bfloat16, of a model.
    """
    if is_function(name):
        return _function(name)
    from playout.rlhf.supervised.reward import RewardModel

    return RewardModel.load(name, dtype=dtype, device=device, weights=weights)


def is_function(name: str) -> bool:
    """Whether a reward's name is `module:function` and no folder."""
    return not Path(name).exists() and ":" in name


def trust_reward(name: str, where: object) -> None:
    """Refuses a function that only a run names, unless its module is trusted (own_code.py)."""
    if is_function(name):
        trust(name, where)


def _function(name: str) -> RewardFunction:
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")]):
        raise ConfigError(f"{name!r} is neither a folder nor module:function")
    found = load_object(name, "the reward")
    if not callable(found):
        raise ConfigError(f"the reward {name!r} is not a function")
    return found  # type: ignore[no-any-return]
