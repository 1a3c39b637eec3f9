"""Refuses what is no number: in the metrics of an update, and in what becomes a checkpoint.

A run that diverged says so at once and keeps its last good checkpoint. Leaves out where the numbers
come from (loop.py asks).
"""

import math
from collections.abc import Mapping
from typing import Any

from playout.agents.runs.checkpoint.codec import is_torch
from playout.errors import DivergedError

# Metrics of these groups describe play and may lack a value; all others must be finite.
_MAY_LACK_VALUE = frozenset({"rollout", "eval", "time", "selfplay", "search"})


def may_lack_value(key: str) -> bool:
    """Whether a metric may be NaN: it describes play, and no episode may have ended."""
    return key.split("/", 1)[0] in _MAY_LACK_VALUE


def check_metrics(metrics: Mapping[str, float], update: int, last_good: str) -> None:
    """Raises DivergedError for a metric of learning that is not finite.

    Args:
        metrics: Of one update.
        update: Its number.
        last_good: What is left, for the error.
    """
    for key, value in metrics.items():
        if math.isfinite(value) or may_lack_value(key) or "explained_variance" in key:
            continue
        raise DivergedError(
            f"{key} became {value} in update {update}: training diverged; {last_good}"
        )


def check_weights(value: Any, where: str, last_good: str) -> None:
    """Raises DivergedError for NaN in any float tensor of a state.

    Args:
        value: A nest of dicts, lists and tensors.
        where: Its name, "" for the whole state.
        last_good: What is left, for the error.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            check_weights(item, f"{where}.{key}" if where else str(key), last_good)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            check_weights(item, f"{where}.{index}", last_good)
    elif is_torch(value) and value.is_floating_point() and bool(value.isnan().any()):
        raise DivergedError(f"{where} holds NaN: training diverged; {last_good}")
