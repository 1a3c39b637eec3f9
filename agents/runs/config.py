"""Dataclasses <-> plain dicts (TOML, JSON), checked against the field types.

An unknown key, a wrong type or a value outside a Literal is a ConfigError that names the key, the
place and the nearest right one. Leaves out files (presets.py) and flags (tyro reads the same
dataclasses).
"""

import dataclasses
import difflib
import types
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from playout.errors import ConfigError

T = TypeVar("T")


def nearest(name: str, names: Collection[str]) -> str:
    """A hint for a misspelt name: ", did you mean X?" or the list of what there is."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]}?"
    shown = sorted(names)
    return f"there are {', '.join(shown[:30])}{' ...' if len(shown) > 30 else ''}"


def to_dict(value: Any) -> Any:
    """A dataclass as nested dicts, lists, numbers, text and None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_dict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_dict(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _type_name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(kind))
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_type_name(part) for part in get_args(kind) if part is not type(None))
    return getattr(kind, "__name__", str(kind))


def _sequence(kind: Any, value: Any, where: str) -> Any:
    parts, origin = get_args(kind), get_origin(kind) or kind
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where} must be a list, not {value!r:.60}")
    if origin is list or not parts or (len(parts) == 2 and parts[1] is Ellipsis):
        item = parts[0] if parts else Any
        return origin(convert(item, entry, f"{where}[{i}]") for i, entry in enumerate(value))
    if len(parts) != len(value):
        raise ConfigError(f"{where} must have {len(parts)} entries, not {len(value)}")
    return tuple(
        convert(part, entry, f"{where}[{i}]")
        for i, (part, entry) in enumerate(zip(parts, value, strict=True))
    )


def _union(kind: Any, value: Any, where: str) -> Any:
    parts = get_args(kind)
    if value is None and type(None) in parts:
        return None
    errors = []
    for part in parts:
        if part is not type(None):
            try:
                return convert(part, value, where)
            except ConfigError as error:
                errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    raise ConfigError(f"{where} must be {_type_name(kind)}, not {value!r:.60}")


def convert(kind: Any, value: Any, where: str) -> Any:
    """`value` (from TOML or JSON) as the type `kind`; whole numbers may stand for floats."""
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        return _union(kind, value, where)
    if origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in get_args(kind)):
            return value
        raise ConfigError(f"{where} must be {_type_name(kind)}, not {value!r:.60}")
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return from_dict(kind, value, where=where)
    if kind in (tuple, list) or origin in (tuple, list):
        return _sequence(kind, value, where)
    if kind is dict or origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be a table, not {value!r:.60}")
        item = get_args(kind)[1] if get_args(kind) else Any
        return {str(key): convert(item, entry, f"{where}.{key}") for key, entry in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    if kind is Path and type(value) is str:
        return Path(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise ConfigError(f"{where} must be {_type_name(kind)}, not {value!r:.60}")


def from_dict(cls: type[T], values: Any, *, where: str, base: T | None = None) -> T:
    """Build a dataclass from a dict.

    Args:
        cls: the dataclass.
        values: its fields by name; those left out keep the default, or the value in `base`.
        where: names the source in errors.
        base: an instance to start from.

    Raises:
        ConfigError: an unknown key, a missing one, or a value of the wrong type.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where} must be a table of settings, not {values!r:.60}")
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(f"{where} has no setting {key!r}; {nearest(str(key), fields)}")
        found[key] = convert(hints[key], value, f"{where}: {key}")
    if base is not None:
        return dataclasses.replace(base, **found)  # type: ignore[type-var]
    for name, field in fields.items():
        absent = field.default is field.default_factory is dataclasses.MISSING
        if absent and name not in found:
            raise ConfigError(f"{where} lacks the setting {name!r}")
    return cls(**found)
