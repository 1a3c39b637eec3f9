"""Arguments of `Search`'s methods, examined and typed for the loops in C.

Whole numbers, rows of trees, budgets, noise, moves allowed at roots, evaluations. What they are for
stands in search.py.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
from playout.envs.core.arrays import row_numbers
from playout.envs.core.game import StateBatch
from playout.errors import ConfigError
from playout.mcts.config import MAX_SIMULATIONS


def as_integer(value: Any, what: str, low: int, high: int) -> int:
    """A whole number of any type as an int; ConfigError where it is none, or out of range."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ConfigError(f"{what} must be an integer, not {value!r}")
    number = int(value)
    if not low <= number <= high:
        raise ConfigError(f"{what} must be from {low} to {high}, not {number}")
    return number


def as_rows(where: npt.ArrayLike, num_trees: int) -> npt.NDArray[np.int32]:
    """Numbers of trees, from what StateBatch takes as `where`, but none of them twice."""
    rows = row_numbers(where, num_trees)
    if np.unique(rows).size != rows.size:
        raise ValueError("where names a row twice")
    return rows


def as_budgets(values: npt.ArrayLike, size: int) -> npt.NDArray[np.int32]:
    """Simulations of each row, int32 [size]; a single number stands for all rows."""
    given = np.asarray(values)
    if given.dtype.kind not in "iu" or given.shape not in ((), (size,)):
        raise ValueError(f"num_simulations must be an integer or {size} of them")
    if given.size and (given.min() < 0 or given.max() > MAX_SIMULATIONS):
        raise ValueError(f"num_simulations must lie in [0, {MAX_SIMULATIONS}]")
    return np.ascontiguousarray(np.broadcast_to(given, size), np.int32)


def as_noise(values: npt.ArrayLike, size: int) -> npt.NDArray[np.uint8]:
    """Whether each row has noise at its root, uint8 [size]; one value stands for all rows."""
    given = np.asarray(values)
    if given.dtype.kind not in "biu" or given.shape not in ((), (size,)):
        raise ValueError(f"noise must be a truth value or {size} of them")
    return np.ascontiguousarray(np.broadcast_to(given != 0, size), np.uint8)


def as_allowed(values: npt.ArrayLike, states: StateBatch) -> npt.NDArray[np.uint8]:
    """The legal moves among those allowed, uint8 [B, A]; one row [A] stands for all states."""
    given, shape = np.asarray(values), (len(states), states.game.num_actions)
    if given.dtype.kind not in "biu" or given.shape not in (shape, shape[1:]):
        raise ValueError(f"allowed must be truth values of shape {shape[1:]} or {shape}")
    allowed = np.broadcast_to(given != 0, shape) & (states.legal_mask() != 0)
    nothing = np.flatnonzero(~allowed.any(axis=1))
    if nothing.size:
        raise ValueError(f"state {nothing[0]}: none of its legal moves is allowed")
    return np.ascontiguousarray(allowed, np.uint8)


def as_floats(array: Any, what: str) -> npt.NDArray[np.float32]:
    """The same as contiguous float32."""
    if type(array) is np.ndarray and array.dtype == np.float32 and array.flags.c_contiguous:
        return array
    floats = np.asarray(array)
    if floats.dtype.kind != "f":
        raise TypeError(f"{what} must be floats, not {floats.dtype}")
    return np.ascontiguousarray(floats, np.float32)
