"""Actions of any space as rows of numbers, their masks side by side, and random legal ones.

What `Environments.step` takes is one array: of a plain space (Discrete, MultiDiscrete, MultiBinary,
Box) the actions as they are, of a Dict or Tuple the numbers of all its parts in one flat row, parts
in the order of the space. `nested` turns a row into what the person's environment takes. A mask is
one row too, 1 where a choice is allowed. Leaves out distributions (networks/heads.py).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from playout.errors import ConfigError, EnvironmentFault

_PLAIN = spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary | spaces.Box


def leaves(space: spaces.Space[Any]) -> Iterator[spaces.Space[Any]]:
    """The plain parts of a space, in the order of their numbers in a row; itself if it is plain."""
    for _, part in _parts(space):
        yield from leaves(part)
    if not is_composite(space):
        yield space


def is_composite(space: spaces.Space[Any]) -> bool:
    """Whether actions are made of named or numbered parts."""
    return isinstance(space, spaces.Dict | spaces.Tuple)


def _parts(space: spaces.Space[Any]) -> Iterator[tuple[Any, spaces.Space[Any]]]:
    if isinstance(space, spaces.Dict):
        yield from space.spaces.items()
    elif isinstance(space, spaces.Tuple):
        yield from enumerate(space.spaces)


def check_action_space(space: spaces.Space[Any], where: str = "") -> None:
    """Refuse actions that no policy here has a distribution for; the part of a Dict is named."""
    parts = list(_parts(space))
    for key, part in parts:
        check_action_space(part, f"{where}[{key!r}]")
    if (is_composite(space) and not parts) or not isinstance(
        space, _PLAIN | spaces.Dict | spaces.Tuple
    ):
        raise ConfigError(
            f"actions{where} of type {type(space).__name__} are not supported; Discrete, "
            "MultiDiscrete, MultiBinary and Box are, and Dict and Tuple of them"
        )


def row_size(space: spaces.Space[Any]) -> int:
    """How many numbers a flat row of a composite space's action has."""
    return sum(int(np.prod(part.shape or ())) for part in leaves(space))


def row_form(space: spaces.Space[Any]) -> tuple[tuple[int, ...], Any]:
    """Shape and dtype of one action as `Environments.step` takes it."""
    if is_composite(space):
        return (row_size(space),), np.float64
    return space.shape or (), space.dtype


def nested(space: spaces.Space[Any], rows: NDArray[Any]) -> Any:
    """Actions in the form of the person's space.

    Args:
        space: One environment's.
        rows: `[...]` plus the shape of `row_form(space)`: one action or many.

    Returns:
        Of a plain space `rows` itself; of a Dict or Tuple the parts, each `[...]` plus its shape.
    """
    return rows if not is_composite(space) else _nested(space, rows, 0)[0]


def _nested(space: spaces.Space[Any], rows: NDArray[Any], at: int) -> tuple[Any, int]:
    if not is_composite(space):
        shape = space.shape or ()
        end = at + int(np.prod(shape))
        return rows[..., at:end].reshape((*rows.shape[:-1], *shape)).astype(space.dtype), end
    found = {}
    for key, part in _parts(space):
        found[key], at = _nested(part, rows, at)
    return (found if isinstance(space, spaces.Dict) else tuple(found.values())), at


def one_action(space: spaces.Space[Any], row: NDArray[Any]) -> Any:
    """One action for one environment: numbers as Python's own, arrays as copies."""
    return _plain_numbers(nested(space, np.array(row)))


def _plain_numbers(action: Any) -> Any:
    if isinstance(action, dict):
        return {key: _plain_numbers(part) for key, part in action.items()}
    if isinstance(action, tuple):
        return tuple(_plain_numbers(part) for part in action)
    return action.item() if action.ndim == 0 else action


def mask_size(space: spaces.Space[Any]) -> int:
    """Length of an action mask for an action space, 0 where it has none."""
    return sum(_choices(space))


def _choices(space: spaces.Space[Any]) -> list[int]:
    """How many options each maskable choice of a space has."""
    found: list[int] = []
    for part in leaves(space):
        if isinstance(part, spaces.Discrete):
            found.append(int(part.n))
        elif isinstance(part, spaces.MultiDiscrete):
            found += [int(n) for n in part.nvec.reshape(-1)]
    return found


def flat_mask(space: spaces.Space[Any], mask: Any, where: str, *, over: bool) -> NDArray[np.uint8]:
    """An environment's mask as one row `[mask_size]` of 0 and 1.

    Args:
        space: The action space.
        mask: One array; of a MultiDiscrete, Tuple or Dict also a sequence or dictionary of them, in
            which parts may be left out.
        where: Environment and step, for the error.
        over: Whether no action follows; the mask may then be empty of legal actions.

    Raises:
        EnvironmentFault: It has the wrong length, or forbids every option of a choice.
    """
    choices = _choices(space)
    try:
        found = _joined(space, mask)
    except (KeyError, TypeError, ValueError) as error:
        raise EnvironmentFault(f"{where}: the action mask cannot be read: {error}") from error
    if found.shape != (sum(choices),):
        raise EnvironmentFault(
            f"{where}: the action mask has {found.size} entries, not {sum(choices)}, "
            f"as the actions {space} need"
        )
    if not over:
        check_masks(space, found[None], lambda row: where)
    return found


def check_masks(space: spaces.Space[Any], masks: NDArray[Any], where: Any) -> None:
    """Refuse masks `[N, A]` that leave a choice without an option.

    Args:
        space: The action space.
        masks: Nonzero where legal.
        where: `where(row)` says which environment and step a row is.
    """
    begin = 0
    for count in _choices(space):
        stuck = ~masks[:, begin : begin + count].any(axis=1)
        if stuck.any():
            row = int(stuck.argmax())
            raise EnvironmentFault(
                f"{where(row)}: the action mask allows no action, though the episode goes on"
            )
        begin += count


def _joined(space: spaces.Space[Any], mask: Any) -> NDArray[np.uint8]:
    if isinstance(mask, Mapping) or (isinstance(space, spaces.Tuple) and isinstance(mask, tuple)):
        given = mask if isinstance(mask, Mapping) else dict(enumerate(mask))
        known = dict(_parts(space))
        if set(given) - set(known):
            raise KeyError(f"it names parts that the actions do not have: {sorted(given)}")
        parts = [
            np.ones(mask_size(part), np.uint8)
            if given.get(key) is None
            else _joined(part, given[key])
            for key, part in known.items()
        ]
        return np.concatenate(parts) if parts else np.ones(0, np.uint8)
    if isinstance(space, spaces.MultiDiscrete) and isinstance(mask, tuple | list):
        mask = np.concatenate([np.asarray(part).reshape(-1) for part in mask])
    return (np.asarray(mask).reshape(-1) != 0).astype(np.uint8)


def random_action(
    space: spaces.Space[Any], mask: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[Any]:
    """One random action, as a row for `Environments.step`, that the mask `[A]` allows."""
    begin, found = 0, []
    for part in leaves(space):
        count = mask_size(part)
        found.append(_random_part(part, mask[begin : begin + count], rng))
        begin += count
    if not is_composite(space):
        return found[0]
    return np.concatenate([np.asarray(part, np.float64).reshape(-1) for part in found])


def _random_part(
    space: spaces.Space[Any], mask: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[Any]:
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        begin, chosen = 0, []
        for count in _choices(space):
            legal = np.flatnonzero(mask[begin : begin + count])
            chosen.append(int(rng.choice(legal if len(legal) else count)))
            begin += count
        return np.array(chosen).reshape(space.shape or ()).astype(space.dtype) + space.start
    if isinstance(space, spaces.MultiBinary):
        return rng.integers(0, 2, space.shape).astype(space.dtype)
    assert isinstance(space, spaces.Box)
    low = np.where(np.isfinite(space.low), space.low, -1.0)
    high = np.where(np.isfinite(space.high), space.high, np.maximum(low, 0.0) + 1.0)
    drawn = rng.uniform(np.minimum(low, high), high)  # of a space without dimensions a float
    return np.asarray(drawn).astype(space.dtype)
