"""Options of a PPO run by their plain names: presets, keyword arguments and flags in one form.

A table such as {"num_envs": 64, "learning_rate": 1e-3} is sorted into the dataclasses of
config.py. Leaves out the command itself (commands/ppo.py). No torch here.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from playout.agents.networks.config import NetworkConfig
from playout.agents.ppo.config import CollectConfig, PPOConfig
from playout.agents.runs.config import nearest
from playout.agents.runs.presets import read_presets
from playout.errors import ConfigError

GROUPS: Mapping[str, type] = {"ppo": PPOConfig, "network": NetworkConfig, "collect": CollectConfig}


def option_names() -> dict[str, str]:
    """Every option's name and the group it belongs to."""
    return {field.name: group for group, cls in GROUPS.items() for field in dataclasses.fields(cls)}


def sort_options(options: Mapping[str, Any], own: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Options by plain name, sorted into groups.

    Args:
        options: Names and values.
        own: Options that stay at the top (the command's own fields).
        where: Names the source in errors.

    Raises:
        ConfigError: An option that does not exist, with the nearest that does.
    """
    groups = option_names()
    found: dict[str, Any] = {}
    for name, value in options.items():
        if name in groups:
            found.setdefault(groups[name], {})[name] = value
        elif name in own:
            found[name] = value
        else:
            hint = nearest(name, [*groups, *own])
            raise ConfigError(f"{where} has no option {name!r}; {hint}")
    return found


def subject(env: str) -> str:
    """The name a preset goes by: without playout/ or ALE/ or a module in front."""
    return env.rpartition(":")[2].rpartition("/")[2]


def preset(env: str) -> dict[str, Any]:
    """The preset's options for an environment by plain name, over those of [default]."""
    tables = read_presets("ppo")
    return {**tables.get("default", {}), **tables.get(subject(env), {})}


def find_env(arguments: list[str]) -> str:
    """The environment among command-line arguments: the first word, or one that has a preset."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0]
    tables = read_presets("ppo")
    return next((a for a in arguments if subject(a) in tables), "")
