"""Control tasks as capsules and batches, their parameters and reset options.

The facade of the compiled driver (_control.pyx): `make_task` finds a task of the catalogue or takes
a user's own, `ControlBatch` steps many copies of it. Physics is in the C headers of physics/.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from playout.envs.catalogue import TASKS, TaskEntry
from playout.envs.control._control import ControlBatch, describe, make

__all__ = ["ControlBatch", "describe", "make_task", "reset_bounds"]

Bounds = npt.NDArray[np.float64]


def make_task(
    task: object, params: Mapping[str, Any], dtype: npt.DTypeLike, isa: str | None = None
) -> tuple[TaskEntry, object]:
    """A task of the catalogue by name, or the caller's own in a capsule; with its capsule.

    Args:
        task: A name such as "cartpole", or a capsule (playout_control.h).
        params: Parameters of a task of the catalogue.
        dtype: Of observations.
        isa: The instruction set; None takes the best.
    """
    if isinstance(task, str):
        if task not in TASKS:
            raise ValueError(f"no control task {task!r}; there are {', '.join(TASKS)}")
        entry = TASKS[task]
        values = _values(entry, params, single=np.dtype(dtype) == np.float32)
        threshold = math.nan if entry.reward_threshold is None else entry.reward_threshold
        limit = entry.max_episode_steps
        return entry, make(task, values, isa, max_episode_steps=limit, reward_threshold=threshold)
    info = describe(task)
    entry = TaskEntry(
        name=info["name"],
        gymnasium_id=info["name"],
        max_episode_steps=info["max_episode_steps"],
        reward_threshold=info["reward_threshold"],
        bounded=info["state_size"],
    )
    _values(entry, params, single=False)
    return entry, task


def _values(entry: TaskEntry, given: Mapping[str, Any], *, single: bool) -> list[float]:
    """The numbers for the C struct; raises on names that the task does not have.

    `single` (observations are float32) lets MountainCarContinuous keep its state in single
    precision, as Gymnasium does.
    """
    known = dict(entry.params)
    for key, value in given.items():
        if key not in known:
            names = ", ".join(known) or "none"
            raise TypeError(f"{entry.gymnasium_id} has no parameter {key!r}; it has {names}")
        known[key] = _number(key, value)
    values = list(known.values())
    if entry.name == "signal_maze" and not 3 <= values[0] <= values[1] <= 100:
        raise ValueError(f"lengths must be 3 <= min_length <= max_length <= 100, got {values}")
    return [*values, float(single)] if entry.name == "mountain_car_continuous" else values


def reset_bounds(
    entry: TaskEntry,
    low: Bounds,
    high: Bounds,
    options: Mapping[str, Any],
    others: tuple[str, ...] = (),
) -> tuple[Bounds, Bounds]:
    """Bounds [state_size] of new states after `options` of reset.

    Raises:
        ValueError: An option that is unknown, and none of `others`, which an error names as well.
    """
    low, high = low.copy(), high.copy()
    if entry.name == "pendulum":
        for key, component in (("x_init", 0), ("y_init", 1)):
            if key in options:
                high[component] = _number(key, options[key])
                low[component] = -high[component]
        allowed: tuple[str, ...] = ("x_init", "y_init")
    elif entry.bounded == 0:
        allowed = ()
    else:
        if "low" in options:
            low[: entry.bounded] = _number("low", options["low"])
        if "high" in options:
            high[: entry.bounded] = _number("high", options["high"])
        allowed = ("low", "high")
    for key in options:
        if key not in allowed:
            names = ", ".join((*allowed, *others)) or "none"
            raise ValueError(f"unknown reset option {key!r}; {entry.gymnasium_id} has {names}")
    if np.any(low > high):
        raise ValueError(f"the lower reset bound must not exceed the upper one: {low} and {high}")
    return low, high


def _number(name: str, value: Any) -> float:
    """A finite float, or an error that names the option."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number, got {value!r}") from None
    if not math.isfinite(result):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return result
