"""Observation spaces as the learner sees them: simple types, masks split off, saved as data.

Tuples become dictionaries, 64-bit floats 32-bit ones, and an "action_mask" beside the observation
(PettingZoo's convention) is taken out. Spaces are stored as plain data, so that a player can be
loaded without making, or importing, the environment.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from playout.errors import CheckpointError, ConfigError, EnvironmentFault

Arrays = Any
"""An array, or a dict of them."""


def simple_space(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """The space of what `simple_obs` returns for observations of `space`."""
    if isinstance(space, spaces.Tuple):
        space = spaces.Dict({str(i): part for i, part in enumerate(space.spaces)})
    if isinstance(space, spaces.Dict):
        rest = {key: part for key, part in space.spaces.items() if key != "action_mask"}
        if set(space.spaces) == {"observation", "action_mask"}:
            return simple_space(rest["observation"])
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
        array = array.astype(np.float32)
    return array, None


def check_action_space(space: spaces.Space[Any]) -> None:
    """Refuse actions that no policy here has a distribution for."""
    kinds = spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary | spaces.Box
    if not isinstance(space, kinds):
        raise ConfigError(
            f"actions of type {type(space).__name__} are not supported; "
            "Discrete, MultiDiscrete, MultiBinary and Box are"
        )


def mask_size(space: spaces.Space[Any]) -> int:
    """Length of an action mask for an action space, 0 where it has none."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    return 0


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


def rows_of(arrays: Arrays, rows: slice | NDArray[Any]) -> Arrays:
    """Some rows of an array, or of every array of a dict; a slice shares memory."""
    return map_arrays(lambda array: array[rows], arrays)


def same_arrays(a: Arrays, b: Arrays) -> bool:
    """Whether two observations are equal to the last bit."""
    if isinstance(a, dict):
        return all(same_arrays(a[key], b[key]) for key in a)
    return bool(np.array_equal(a, b))


def write(arrays: Arrays, index: Any, obs: Arrays) -> None:
    """Put `obs` at `arrays[index]`, key by key."""
    if isinstance(arrays, dict):
        for key, array in arrays.items():
            write(array, index, obs[key])
    else:
        arrays[index] = obs


def check_obs(space: spaces.Space[Any], obs: Arrays, name: str) -> None:
    """Refuse an observation whose shape or values a simple space does not allow.

    Values of a Box may lie outside its bounds, as those of many environments do by rounding; NaN
    and infinities, wrong shapes and numbers outside a Discrete space may not.
    """
    if isinstance(space, spaces.Dict):
        if not isinstance(obs, Mapping) or set(obs) != set(space.spaces):
            raise EnvironmentFault(f"{name} broke its space: the keys are not {list(space.spaces)}")
        for key, part in space.spaces.items():
            check_obs(part, obs[key], f"{name} ({key})")
        return
    array = np.asarray(obs)
    if array.shape != (space.shape or ()):
        raise EnvironmentFault(
            f"{name} broke its space: an observation of shape {array.shape}, not {space.shape}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise EnvironmentFault(f"{name} gave an observation with NaN or infinity")
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        low, high = _limits(space)
        if (array < low).any() or (array >= high).any():
            raise EnvironmentFault(f"{name} broke its space: {array} is not in {space}")


def _limits(space: spaces.Space[Any]) -> tuple[Any, Any]:
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
            return spaces.Dict({key: decode_space(data["parts"][key]) for key in data["keys"]})
        if kind == "box":
            shape, dtype = tuple(data["shape"]), np.dtype(data["dtype"])
            if dtype not in (np.dtype(np.uint8), np.dtype(np.float32), np.dtype(np.float64)):
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
            return spaces.MultiBinary(tuple(data["shape"]))
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise CheckpointError(f"the checkpoint describes a space that cannot be: {error}") from None
    raise CheckpointError(f"the checkpoint describes a space of unknown type {kind!r}")


def _squeeze(bounds: NDArray[Any]) -> Any:
    if bounds.size and (bounds == bounds.reshape(-1)[0]).all():
        return bounds.reshape(-1)[0].item()
    return bounds
