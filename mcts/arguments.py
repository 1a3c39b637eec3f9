"""Arguments of `Search`'s methods, examined and typed for the loops in C.

Rows of trees, budgets, noise, moves allowed at roots, evaluations. What they are for stands in
search.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import StateBatch
from playout.mcts.config import MAX_SIMULATIONS


def as_rows(where: npt.ArrayLike, num_trees: int) -> npt.NDArray[np.int32]:
    """Numbers of trees, from a boolean mask [B] or from row numbers."""
    rows = np.asarray(where)
    if rows.dtype == np.bool_ and rows.shape == (num_trees,):
        return np.flatnonzero(rows).astype(np.int32)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise ValueError(f"where must be a boolean mask of {num_trees} rows or row numbers")
    if rows.size and (rows.min() < 0 or rows.max() >= num_trees):
        raise ValueError(f"where names rows outside 0 to {num_trees - 1}")
    if np.unique(rows).size != rows.size:
        raise ValueError("where names a row twice")
    return np.ascontiguousarray(rows, np.int32)


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
