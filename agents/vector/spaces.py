"""Observation spaces as the learner sees them: simple types, masks split off, saved as data.

Tuples become dictionaries, 64-bit floats 32-bit ones, and an "action_mask" beside the observation
(PettingZoo's convention) is taken out. Spaces are stored as plain data, so that a player can be
loaded without making, or importing, the environment.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from playout.errors import CheckpointError, ConfigError, DivergedError, EnvironmentFault

Arrays = Any
"""An array, or a dict of them."""

# By so much may a number pass the bound of a Box, relative to the bound where that is above 1.
_ROUNDING = 1e-3


def simple_space(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """The space of what `simple_obs` returns for observations of `space`."""
    if isinstance(space, spaces.Tuple):
        space = spaces.Dict({str(i): part for i, part in enumerate(space.spaces)})
    if isinstance(space, spaces.Dict):
        rest = {key: part for key, part in space.spaces.items() if key != "action_mask"}
        if set(space.spaces) == {"observation", "action_mask"}:
            return simple_space(rest["observation"])
        if not rest:
            raise ConfigError(
                f"observations of {space} show nothing to learn from: add a part, if only of zeros"
            )
        return spaces.Dict({key: simple_space(part) for key, part in rest.items()})
    if isinstance(space, spaces.Box) and space.dtype not in (np.uint8, np.float32):
        return spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32))
    if isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        return space
    raise ConfigError(
        f"observations of type {type(space).__name__} are not supported; wrap the environment so "
        "that it gives Box, Discrete, MultiDiscrete, MultiBinary, or Dict or Tuple of them"
    )


def simple_obs(space: spaces.Space[Any], obs: Any) -> tuple[Arrays, NDArray[Any] | None]:
    """Observations (one or many) in the types of `simple_space(space)`, and their mask."""
    if isinstance(space, spaces.Tuple):
        pairs = {
            str(i): simple_obs(part, value)[0]
            for i, (part, value) in enumerate(zip(space.spaces, obs, strict=True))
        }
        return pairs, None
    if isinstance(space, spaces.Dict):
        mask = obs.get("action_mask")
        if set(space.spaces) == {"observation", "action_mask"}:
            return simple_obs(space.spaces["observation"], obs["observation"])[0], mask
        found = {
            key: simple_obs(part, obs[key])[0]
            for key, part in space.spaces.items()
            if key != "action_mask"
        }
        return found, mask
    array = np.asarray(obs)
    if isinstance(space, spaces.Box) and space.dtype != np.uint8 and array.dtype != np.float32:
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{str(obs)[:40]!r} is no number")
        array = array.astype(np.float32)
    return array, None


def has_mask_key(space: spaces.Space[Any]) -> bool:
    """Whether observations carry their action mask."""
    return isinstance(space, spaces.Dict) and "action_mask" in space.spaces


def empty(space: spaces.Space[Any], *shape: int) -> Arrays:
    """Zeroed arrays `[*shape, ...]` for observations of a simple space."""
    if isinstance(space, spaces.Dict):
        return {key: empty(part, *shape) for key, part in space.spaces.items()}
    return np.zeros((*shape, *(space.shape or ())), space.dtype)


def map_arrays(function: Callable[[NDArray[Any]], NDArray[Any]], arrays: Arrays) -> Arrays:
    """Apply `function` to an array, or to every array of a dict."""
    if isinstance(arrays, dict):
        return {key: map_arrays(function, value) for key, value in arrays.items()}
    return function(arrays)


def leaves(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The arrays of nested dictionaries, or the spaces of nested Dicts, by dotted key.

    That of an array, or of a space, that stands alone is "".
    """
    parts = tree.spaces if isinstance(tree, spaces.Dict) else tree
    if isinstance(parts, dict):
        for name, part in parts.items():
            yield from leaves(part, f"{key}.{name}" if key else name)
    else:
        yield key, tree


def rows_of(arrays: Arrays, rows: slice | NDArray[Any]) -> Arrays:
    """Some rows of an array, or of every array of a dict; a slice shares memory."""
    return map_arrays(lambda array: array[rows], arrays)


def same_arrays(a: Arrays, b: Arrays) -> bool:
    """Whether two observations are equal to the last bit."""
    if isinstance(a, dict):
        return all(same_arrays(a[key], b[key]) for key in a)
    return bool(np.array_equal(a, b))


def non_finite(obs: Arrays, steps: int) -> DivergedError | None:
    """An error that names the row and step of a rollout `[R, T, ...]` with NaN or infinity.

    None where the first `steps` are numbers.
    """
    for key, array in leaves(obs):
        if array.dtype.kind != "f":
            continue
        if np.isfinite(array[:, :steps].sum(dtype=np.float64)):
            continue
        bad = ~np.isfinite(array[:, :steps])
        if bad.any():
            row, t = (int(i) for i in np.argwhere(bad)[0][:2])
            where = f" ({key})" if key else ""
            return DivergedError(
                f"environment {row} gave an observation{where} with NaN or infinity "
                f"at step {t} of the rollout"
            )
    return None


def write(arrays: Arrays, index: Any, obs: Arrays) -> None:
    """Put `obs` at `arrays[index]`, key by key."""
    if isinstance(arrays, dict):
        for key, array in arrays.items():
            write(array, index, obs[key])
    else:
        arrays[index] = obs


def form_of(space: spaces.Space[Any]) -> Any:
    """A space without its bounds and number types: equal where one policy fits both."""
    if isinstance(space, spaces.Dict):
        return {key: form_of(part) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return [form_of(part) for part in space.spaces]
    data = encode_space(space)
    return [data["type"], *(str(data.get(key)) for key in ("shape", "n", "nvec", "start"))]


def check_obs(
    space: spaces.Space[Any], obs: Arrays, where: Callable[[], str], *, strict: bool = True
) -> None:
    """Refuse an observation that a simple space does not allow.

    Args:
        space: What was declared.
        obs: One observation.
        where: Says which environment and step it is of.
        strict: Refuse numbers outside the bounds of a Box too, which many published environments
            give; wrong shapes, text, NaN and infinity are refused always.

    Raises:
        EnvironmentFault: It is not of the space.
    """
    if isinstance(space, spaces.Dict):
        if not isinstance(obs, Mapping) or set(obs) != set(space.spaces):
            raise EnvironmentFault(
                f"{where()} broke its space: the keys are not {list(space.spaces)}"
            )
        for key, part in space.spaces.items():
            check_obs(part, obs[key], lambda key=key: f"{where()} ({key})", strict=strict)  # type: ignore[misc]
        return
    array = np.asarray(obs)
    if array.shape != (space.shape or ()):
        raise EnvironmentFault(
            f"{where()} broke its space: an observation of shape {array.shape}, not {space.shape}"
        )
    if array.dtype.kind not in "biuf":
        raise EnvironmentFault(
            f"{where()} broke its space: an observation of {array.dtype}, which is no number"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise EnvironmentFault(f"{where()} gave an observation with NaN or infinity")
    if isinstance(space, spaces.Box):
        if strict:
            _check_box(space, array, where)
        return
    low, high = limits(space)
    if (array < low).any() or (array >= high).any() or (array != np.floor(array)).any():
        raise EnvironmentFault(f"{where()} broke its space: {array} is not in {space}")


def _check_box(space: spaces.Box, array: NDArray[Any], where: Callable[[], str]) -> None:
    """Bounds, with room for rounding; whole numbers where bytes or integers were declared."""
    if np.dtype(space.dtype).kind in "iu":
        if array.dtype.kind == "f" and (array != np.floor(array)).any():
            raise EnvironmentFault(
                f"{where()} broke its space: fractions, though it declares {space.dtype}"
            )
        below, above = array < space.low, array > space.high
    else:
        below = array < space.low - _ROUNDING * np.maximum(1.0, np.abs(space.low))
        above = array > space.high + _ROUNDING * np.maximum(1.0, np.abs(space.high))
    outside = below | above
    if outside.any():
        index = tuple(int(i) for i in np.argwhere(outside)[0])
        entry = f"number {list(index)} is" if index else "it is"
        raise EnvironmentFault(
            f"{where()} broke its space: {entry} {array[index]:.6g}, outside "
            f"{space.low[index]:.6g} to {space.high[index]:.6g}; widen observation_space or clip"
        )


def limits(space: spaces.Space[Any]) -> tuple[Any, Any]:
    """Least value and first value beyond of a Discrete, MultiDiscrete or MultiBinary."""
    if isinstance(space, spaces.Discrete):
        return int(space.start), int(space.start + space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return space.start, space.start + space.nvec
    return 0, 2


def encode_space(space: spaces.Space[Any]) -> dict[str, Any]:
    """A space as plain data for a checkpoint; bounds that are all equal become one number."""
    if isinstance(space, spaces.Dict):
        parts = {key: encode_space(part) for key, part in space.spaces.items()}
        return {"type": "dict", "keys": list(space.spaces), "parts": parts}
    if isinstance(space, spaces.Tuple):
        return {"type": "tuple", "parts": [encode_space(part) for part in space.spaces]}
    if isinstance(space, spaces.Box):
        bounds = {name: _squeeze(getattr(space, name)) for name in ("low", "high")}
        return {
            "type": "box",
            "shape": [int(n) for n in space.shape],
            "dtype": str(space.dtype),
            **bounds,
        }
    if isinstance(space, spaces.Discrete):
        return {"type": "discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"type": "multi_discrete", "nvec": space.nvec, "start": space.start}
    if isinstance(space, spaces.MultiBinary):
        return {"type": "multi_binary", "shape": [int(n) for n in space.shape]}
    raise ConfigError(f"spaces of type {type(space).__name__} are not supported")


def decode_space(data: Mapping[str, Any]) -> spaces.Space[Any]:
    """The space that `encode_space` described."""
    try:
        kind = data["type"]
        if kind == "dict":
            # A list of pairs keeps its order; Gymnasium would sort a dictionary.
            return spaces.Dict([(key, decode_space(data["parts"][key])) for key in data["keys"]])
        if kind == "tuple":
            return spaces.Tuple([decode_space(part) for part in data["parts"]])
        if kind == "box":
            shape, dtype = tuple(data["shape"]), np.dtype(data["dtype"])
            if dtype.kind not in "iuf" or dtype.itemsize > 8:
                dtype = np.dtype(np.float32)
            low, high = (
                np.broadcast_to(np.asarray(data[name], dtype), shape) for name in ("low", "high")
            )
            return spaces.Box(low, high, shape, dtype.type)
        if kind == "discrete":
            return spaces.Discrete(data["n"], start=data["start"])
        if kind == "multi_discrete":
            return spaces.MultiDiscrete(data["nvec"], start=data["start"])
        if kind == "multi_binary":
            shape = tuple(data["shape"])
            return spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise CheckpointError(f"the checkpoint describes a space that cannot be: {error}") from None
    raise CheckpointError(f"the checkpoint describes a space of unknown type {kind!r}")


def _squeeze(bounds: NDArray[Any]) -> Any:
    if bounds.size and (bounds == bounds.reshape(-1)[0]).all():
        return bounds.reshape(-1)[0].item()
    return bounds


def channels_last(space: spaces.Box) -> bool:
    """Whether a three-dimensional box looks like `[H, W, C]` rather than `[C, H, W]`."""
    if len(space.shape) != 3:
        return False
    first, _, last = space.shape
    return last < first and last <= 4
