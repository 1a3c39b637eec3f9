"""Presets: `agents/presets/NAME.toml`, tables of settings by environment, game or size.

A file holds one table a subject and may hold [default], which each builds on:
    [default]            learning_rate = 3e-4
    ["CartPole-v1"]      num_envs = 64
Leaves out what the settings mean; they are read into the dataclass that uses them.
"""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from playout.agents.runs.config import from_dict, nearest
from playout.agents.runs.durable_io import describe
from playout.errors import ConfigError

FOLDER = Path(__file__).parent.parent / "presets"
_MAX_BYTES = 1 << 20
T = TypeVar("T")


def preset_files() -> list[str]:
    """Names of the preset files that come with playout."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


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


def read_presets(name: str) -> dict[str, dict[str, Any]]:
    """All tables of a preset file ("ppo", "alphazero", ... or a path ending in .toml)."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.exists() and not name.endswith(".toml"):
        raise ConfigError(f"there are no presets {name!r}; {nearest(name, preset_files())}")
    tables = read_toml(path)
    for key, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {key} must stand in a table")
    return tables


def load_preset(
    cls: type[T], name: str, subject: str, *, base: T | None = None, required: bool = False
) -> T:
    """Settings for a subject: [default], then its own table, over `base`.

    Args:
        cls: the dataclass that holds the settings.
        name: the preset file.
        subject: the table; one that is absent gives the defaults, unless `required`.
        base: where to start instead of the dataclass's defaults.
        required: whether an absent table is an error.

    Raises:
        ConfigError: an unknown key (the nearest is named), a wrong type, or no such table.
    """
    tables = read_presets(name)
    if required and subject not in tables:
        names = [key for key in tables if key != "default"]
        raise ConfigError(f"presets {name} have no {subject!r}; {nearest(subject, names)}")
    values = {**tables.get("default", {}), **tables.get(subject, {})}
    return from_dict(cls, values, where=f"preset {name}[{subject}]", base=base)
