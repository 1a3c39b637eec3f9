"""Arguments of `StateBatch`'s methods, examined and typed for the loops in C.

Numbers for each row, random streams, seeds and buffers of the caller's. What they are for stands in
state_batch.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

ALL = np.empty(0, np.uint8)
"""`as_rows` of all rows. An empty batch has no rows either way."""


def as_rows(where: ArrayLike | None, size: int) -> NDArray[np.uint8]:
    """Which rows, as uint8 [size] or ALL; from None, a boolean mask or row numbers."""
    if where is None:
        return ALL
    array = np.asarray(where)
    if array.dtype.kind in "iu" and array.dtype != np.uint8:
        mask = np.zeros(size, np.uint8)
        mask[array] = 1
        return mask
    if array.dtype not in (np.bool_, np.uint8) or array.shape != (size,):
        raise ValueError(
            f"where must be a boolean array of shape ({size},) or row numbers, "
            f"got {array.dtype} {array.shape}"
        )
    return np.ascontiguousarray(array).view(np.uint8)


def as_integers(values: ArrayLike, size: int, what: str) -> NDArray[np.int32]:
    """`values` as int32 [size]; a single number stands for all rows."""
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{what} must be integers, got {array.dtype}")
    if array.ndim == 0:
        array = np.full(size, array)
    if array.shape != (size,):
        raise ValueError(f"{what} must have shape ({size},), got {array.shape}")
    if array.dtype != np.int32:
        limits = np.iinfo(np.int32)
        array = np.clip(array, limits.min, limits.max).astype(np.int32)
    return np.ascontiguousarray(array)


def as_streams(values: ArrayLike | None, size: int) -> NDArray[np.uint64]:
    """Random stream numbers [size]; by default the row numbers."""
    if values is None:
        return np.arange(size, dtype=np.uint64)
    array = np.asarray(values)
    if array.dtype.kind not in "iu" or array.shape != (size,):
        raise ValueError(
            f"streams must be integers of shape ({size},), got {array.dtype} {array.shape}"
        )
    return np.ascontiguousarray(array.astype(np.uint64))


def as_seed(seed: int) -> int:
    """A seed as the 64 bits that the generator takes."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise ValueError(f"a seed must be an integer from 0 to 2^64 - 1, got {seed!r}")
    return int(seed)


def out_array(
    out: NDArray[Any] | None, shape: tuple[int, ...], dtype: type, what: str = "out"
) -> NDArray[Any]:
    """A new array, or the caller's after a look at its shape, type and layout."""
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{what} must be an array, got {type(out).__name__}")
    good_type = out.dtype == dtype or (dtype is np.uint8 and out.dtype in (np.bool_, np.int8))
    if out.shape != shape or not good_type:
        name = np.dtype(dtype).name
        raise ValueError(f"{what} must be {name} {shape}, got {out.dtype} {out.shape}")
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError(f"{what} must be a writable C-contiguous array")
    return out
