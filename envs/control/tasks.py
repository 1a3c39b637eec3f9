"""The built-in control tasks by name: Gymnasium ids, parameters, reset options.

Physics is in the C headers beside this file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Bounds = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Task:
    """One native control task.

    `params` are keyword arguments of the environment with their defaults, in the order of the C
    struct's params. `bounded` says how many components of the state the reset options "low" and
    "high" bound.
    """

    name: str
    env_id: str
    params: tuple[tuple[str, float], ...] = ()
    bounded: int = 4
    fps: int = 50

    def values(self, given: Mapping[str, Any], *, single: bool) -> list[float]:
        """The numbers for the C struct; raises on names that the task does not have.

        `single` (observations are float32) lets MountainCarContinuous keep its state in single
        precision, as Gymnasium does.
        """
        known = dict(self.params)
        for key, value in given.items():
            if key not in known:
                names = ", ".join(known) or "none"
                raise TypeError(f"{self.env_id} has no parameter {key!r}; it has {names}")
            known[key] = number(key, value)
        values = list(known.values())
        if self.name == "signal_maze" and not 3 <= values[0] <= values[1] <= 100:
            raise ValueError(f"lengths must be 3 <= min_length <= max_length <= 100, got {values}")
        return [*values, float(single)] if self.name == "mountain_car_continuous" else values

    def bounds(
        self, low: Bounds, high: Bounds, options: Mapping[str, Any]
    ) -> tuple[Bounds, Bounds]:
        """Bounds [state_size] of new states after `options` of reset; raises on unknown options."""
        low, high = low.copy(), high.copy()
        if self.name == "pendulum":
            for key, component in (("x_init", 0), ("y_init", 1)):
                if key in options:
                    high[component] = number(key, options[key])
                    low[component] = -high[component]
            allowed: tuple[str, ...] = ("x_init", "y_init")
        elif self.bounded == 0:
            allowed = ()
        else:
            if "low" in options:
                low[: self.bounded] = number("low", options["low"])
            if "high" in options:
                high[: self.bounded] = number("high", options["high"])
            allowed = ("low", "high")
        for key in options:
            if key not in allowed:
                raise ValueError(
                    f"unknown reset option {key!r}; {self.env_id} has "
                    f"{', '.join((*allowed, 'reset_mask'))}"
                )
        if np.any(low > high):
            raise ValueError(
                f"the lower reset bound must not exceed the upper one: {low} and {high}"
            )
        return low, high


def number(name: str, value: Any) -> float:
    """A finite float, or an error that names the option."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number, got {value!r}") from None
    if not math.isfinite(result):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return result


_ALL = (
    Task("cartpole", "playout/CartPole-v1", (("sutton_barto_reward", 0.0),)),
    Task("mountain_car", "playout/MountainCar-v0", (("goal_velocity", 0.0),), 1, 30),
    Task(
        "mountain_car_continuous",
        "playout/MountainCarContinuous-v0",
        (("goal_velocity", 0.0),),
        1,
        30,
    ),
    Task("acrobot", "playout/Acrobot-v1", (), 4, 15),
    Task("pendulum", "playout/Pendulum-v1", (("g", 10.0),), 2, 30),
    Task(
        "signal_maze",
        "playout/SignalMaze-v0",
        (("min_length", 3.0), ("max_length", 8.0)),
        0,
        5,
    ),
)
TASKS = {task.name: task for task in _ALL}


def find_task(name: str) -> Task:
    """The built-in task with this name."""
    if name not in TASKS:
        raise ValueError(f"no control task {name!r}; there are {', '.join(TASKS)}")
    return TASKS[name]
