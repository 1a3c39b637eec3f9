"""Arguments of `StateBatch`'s methods, examined and typed for the loops in C.

Numbers for each row, random streams, seeds and buffers of the caller's. What they are for stands in
state_batch.py.
"""

from __future__ import annotations

import operator
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray
from playout.errors import GameError

NO_FLOATS = np.empty(0, np.float32)
NO_FLOAT_ROWS = np.empty((0, 0), np.float32)
NO_BYTE_ROWS = np.empty((0, 0), np.uint8)
NO_INTS = np.empty(0, np.int32)
ALL = np.empty(0, np.uint8)
"""`as_rows` of all rows. An empty batch has no rows either way."""


def is_whole(number: object) -> TypeGuard[int]:
    """Whether it is an integer of Python's or NumPy's; truth values are none."""
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def as_rows(where: ArrayLike | None, size: int) -> NDArray[np.uint8]:
    """Which rows, as uint8 [size] or ALL; from None or what `row_numbers` takes."""
    if where is None:
        return ALL
    array = np.asarray(where)
    if array.dtype in (np.bool_, np.uint8) and array.shape == (size,):
        return np.ascontiguousarray(array).view(np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[row_numbers(array, size)] = 1
    return mask


def row_numbers(where: ArrayLike, size: int) -> NDArray[np.int32]:
    """Numbers of rows, int32 in the order given.

    From a boolean mask [size] (bytes will do), or from row numbers, which count from the end where
    they are below 0.
    """
    array = np.asarray(where)
    if array.dtype in (np.bool_, np.uint8) and array.shape == (size,):
        return np.flatnonzero(array).astype(np.int32)
    if array.shape == (0,) and array.dtype == np.float64:  # as [] becomes
        return np.empty(0, np.int32)
    if array.dtype.kind not in "iu" or array.dtype == np.uint8:
        raise ValueError(
            f"where must be a boolean array of shape ({size},) or row numbers, "
            f"got {array.dtype} {array.shape}"
        )
    outside = (array < -size) | (array >= size)
    if outside.any():
        raise IndexError(f"where names row {array[outside].flat[0]}, there are {size}")
    return np.arange(size, dtype=np.int32)[array].reshape(-1)


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


def as_players(player: ArrayLike | None, size: int, num_players: int) -> NDArray[np.int32]:
    """Players int32 [size] from one number, [size] or None, which is -1: the side to move."""
    players = as_integers(-1 if player is None else player, size, "player")
    if player is not None and not np.all((players >= 0) & (players < num_players)):
        raise ValueError(f"player must be 0 to {num_players - 1}")
    return players


def as_index(number: object, what: str, count: int, game: object) -> int:
    """`number` as an integer from 0 to `count` - 1, for a single state.

    Raises:
        TypeError: It is no integer.
        GameError: It is out of the range.
    """
    try:
        value = operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{what} must be an integer, got {type(number).__name__}") from None
    if not 0 <= value < count:
        raise GameError(f"{game}: {what} {value} is not 0 to {count - 1}")
    return value


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


def as_seed(seed: int, what: str = "a seed") -> int:
    """A seed, or another number, as the 64 bits that the generator takes."""
    if not is_whole(seed) or not 0 <= seed < 2**64:
        raise ValueError(f"{what} must be an integer from 0 to 2^64 - 1, got {seed!r}")
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
