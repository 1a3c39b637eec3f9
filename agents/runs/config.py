"""Settings: frozen dataclasses <-> plain data (TOML, JSON), and preset files.

A preset file, agents/presets/NAME.toml, holds a table of settings for each environment or game,
and [default]. An unknown key, a wrong type or a value outside a Literal is a ConfigError that names
the key, the place and the nearest right one; types are checked by msgspec. Leaves out flags (tyro
reads the same dataclasses) and what the settings mean.
"""

import dataclasses
import math
import os
import tomllib
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
import tomli_w
from playout.agents.runs.checkpoint.durable_io import describe
from playout.errors import ConfigError, likely_names

PRESETS = Path(__file__).parent.parent / "presets"
_MAX_BYTES = 1 << 20
T = TypeVar("T")


def nearest(name: str, names: Collection[str]) -> str:
    """A hint for a misspelt name: "did you mean X?" or the list of what there is."""
    close = likely_names(name, names, least=0.5)
    if close:
        return f"did you mean {close[0]}?"
    shown = sorted(names)
    return f"there are {', '.join(shown[:30])}{' ...' if len(shown) > 30 else ''}"


def to_dict(value: Any, where: str = "") -> Any:
    """Settings as JSON and TOML hold them: dataclasses become dicts, tuples lists, paths text.

    A number of NumPy's is Python's of the same value.

    Raises:
        ConfigError: a number that is not finite, or an object; `where` is the setting's name.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        below = f"{where}." if where else ""
        return {str(key): to_dict(item, f"{below}{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_dict(item, where) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        what = "no number" if math.isnan(value) else "not finite; for no limit say none"
        raise ConfigError(f"setting {where} is {value}, which is {what}")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(
        f"setting {where} is a {type(value).__name__}, which a configuration cannot hold"
    )


def _type_name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(kind))
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_type_name(part) for part in get_args(kind) if part is not type(None))
    return str(kind) if get_args(kind) else getattr(kind, "__name__", str(kind))


def _path_from_text(kind: Any, value: Any) -> Any:
    if kind is Path and type(value) is str:
        return Path(value)
    raise ValueError(f"not a {_type_name(kind)}")


def check_names(
    cls: type, names: Iterable[Any], *, where: str
) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a dataclass by name; raises ConfigError for a name that is none of them."""
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for name in names:
        if name not in fields:
            raise ConfigError(f"{where} has no setting {name!r}; {nearest(str(name), fields)}")
    return fields


def from_dict(cls: type[T], values: Any, *, where: str, base: T | None = None) -> T:
    """Build a dataclass from a dict; whole numbers may stand for floats.

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
    fields = check_names(cls, values, where=where)
    hints = get_type_hints(cls)
    found: dict[str, Any] = {}
    for key, value in values.items():
        kind, place = hints[key], f"{where}: {key}"
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            found[key] = from_dict(kind, value, where=place, base=getattr(base, key, None))
            continue
        try:
            found[key] = msgspec.convert(value, kind, dec_hook=_path_from_text)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{place} must be {_type_name(kind)}, not {value!r:.60}") from error
    if base is not None:
        return dataclasses.replace(base, **found)  # type: ignore[type-var]
    for name, field in fields.items():
        absent = field.default is field.default_factory is dataclasses.MISSING
        if absent and name not in found:
            raise ConfigError(f"{where} lacks the setting {name!r}")
    return cls(**found)


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file of settings as a dict.

    Raises:
        ConfigError: it is missing, too large, or not TOML.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {describe(error)}") from error
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{path} is too large for a settings file")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def preset_files() -> list[str]:
    """Names of the preset files that come with playout."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def read_presets(name: str) -> dict[str, dict[str, Any]]:
    """All tables of a preset file."""
    path = PRESETS / f"{name}.toml"
    if not path.exists():
        raise ConfigError(f"there are no presets {name!r}; {nearest(name, preset_files())}")
    tables = read_toml(path)
    for key, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {key} must stand in a table")
    return tables


def dotted(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of nested tables as (dotted name, value)."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def as_toml(config: dict[str, Any]) -> bytes:
    """The configuration for people; what is None stands in a comment, for TOML has no null."""
    unset: list[str] = []

    def strip(value: Any, path: str) -> Any:
        if isinstance(value, dict):
            unset.extend(path + key for key, item in value.items() if item is None)
            kept = {key: item for key, item in value.items() if item is not None}
            return {key: strip(item, f"{path}{key}.") for key, item in kept.items()}
        if isinstance(value, list):
            return ["none" if item is None else strip(item, path) for item in value]
        return value

    text = tomli_w.dumps(strip(config, ""))
    if unset:
        text += f"\n# not set: {', '.join(unset)}\n"
    return text.encode("utf-8", "backslashreplace")
