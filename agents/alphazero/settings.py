"""Settings of an AlphaZero run by their names: those of stored runs, and those that a person gives.

`stored_config` reads what a run directory holds, older names included; `with_settings` changes
settings by name, such as "learner.batch_size" or "batch_size"; `network_of` reads those of a run to
begin with. What they mean says config.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playout.agents.alphazero.config import AlphaZeroConfig, LearnerConfig, SelfPlayConfig
from playout.agents.runs.config import from_dict, nearest, to_dict
from playout.agents.runs.directory import RunDir
from playout.errors import ConfigError

if TYPE_CHECKING:
    from playout.agents.networks.boards.network import BoardNetwork

# Names that settings had in runs of earlier versions, and settings that are gone, with the one
# value that any run has had.
_RENAMED = {"teach": "grow_warmup", "least_window": "min_window", "lookahead": "tactics"}
_RENAMED_SELFPLAY = {"blunder": "regret_threshold", "play_on": "continue_proven"}
# What the settings that later changed were, where a run of an earlier version does not say.
_EARLIER_SELFPLAY = {"opening_share": 0.97, "opening_plies": 21, "proof_plies": 22}
_GONE_SELFPLAY = {"cheap_simulations": None, "full_share": 1.0, "resign": -1.0}


def stored_config(values: Mapping[str, Any], *, where: str) -> AlphaZeroConfig:
    """The configuration that a run directory holds, in today's names or in older ones.

    Args:
        values: the table `alphazero` of the run's configuration.
        where: names the source in errors.

    Raises:
        ConfigError: a setting that is unknown, or that this version no longer has.
    """
    found = {_RENAMED.get(key, key): value for key, value in values.items()}
    if isinstance(found.get("tactics"), bool):  # it was a switch for lookahead and proofs alike
        if not found["tactics"]:
            found["leaf_proof_nodes"] = 0
        found["tactics"] = "auto" if found["tactics"] else "off"
    if isinstance(found.get("selfplay"), Mapping):
        selfplay = dict(found["selfplay"])
        for key, only in _GONE_SELFPLAY.items():
            value = selfplay.pop(key, only)
            if only is not None and value != only:
                raise ConfigError(f"{where}: selfplay.{key} = {value} is no longer supported")
        selfplay = {_RENAMED_SELFPLAY.get(key, key): value for key, value in selfplay.items()}
        found["selfplay"] = _EARLIER_SELFPLAY | selfplay
    learner = found.get("learner")
    if isinstance(learner, Mapping) and learner.get("dtype", "bfloat16") != "bfloat16":
        found["learner"] = {**learner, "dtype": "float32"}  # as any other word was once taken
    return from_dict(AlphaZeroConfig, found, where=where)


# What may be another when a run is resumed: where actors publish, and which of their games count.
MAY_CHANGE = frozenset({"games_from", "reuse", "stale_after"})

_GROUPS: Mapping[str, type] = {"selfplay": SelfPlayConfig, "learner": LearnerConfig}
# Settings that options of the command itself decide.
_COMMAND_SETTINGS = frozenset(
    {"game", "network", "size", "updates", "games", "minutes", "infer_dtype"}
)

# Settings of a group whose flag has a short form, without the group's name.
_SHORT = frozenset({"trunk_rate"})


def setting_names() -> dict[str, str]:
    """Every setting that can be given, such as "learner.batch_size", by its own last name.

    Names that two groups share stand here in full only.
    """
    full = [f.name for f in fields(AlphaZeroConfig) if f.name not in _GROUPS]
    full = [name for name in full if name not in _COMMAND_SETTINGS]
    full += [f"{group}.{f.name}" for group, cls in _GROUPS.items() for f in fields(cls)]
    short = [name.rpartition(".")[2] for name in full]
    found = {name: name for name in full}
    found.update((s, name) for s, name in zip(short, full, strict=True) if short.count(s) == 1)
    return found


def with_settings(config: AlphaZeroConfig, given: Mapping[str, Any]) -> AlphaZeroConfig:
    """The same with other settings: "learner.batch_size" or "batch_size", or a table "learner".

    Raises:
        ConfigError: a name that there is not, or a value of the wrong type.
    """
    names = setting_names()
    changes: dict[str, dict[str, Any]] = {"": {}, **{group: {} for group in _GROUPS}}
    for name, value in given.items():
        if name in _GROUPS:
            table = to_dict(value)
            if not isinstance(table, dict):
                raise ConfigError(f"{name} must be a table of settings, not {value!r:.60}")
            changes[name].update(table)
        elif name not in names:
            raise ConfigError(f"alphazero has no setting {name!r}; {nearest(name, names)}")
        else:
            group, _, key = names[name].rpartition(".")
            changes[group][key] = value
    groups = {
        group: from_dict(cls, changes[group], where=group, base=getattr(config, group))
        for group, cls in _GROUPS.items()
    }
    config = from_dict(AlphaZeroConfig, changes[""], where="alphazero", base=config)
    return replace(config, **groups)


def full_names(given: Mapping[str, Any]) -> list[str]:
    """Which settings `with_settings` would change, sorted."""
    names, found = setting_names(), set[str]()
    for name, value in given.items():
        if name in _GROUPS:
            found.update(f"{name}.{key}" for key in to_dict(value))
        elif name in names:
            found.add(names[name])
    return sorted(found)


def given_flags(arguments: Sequence[str]) -> dict[str, None]:
    """The settings among the flags of a command line, by full name."""
    names = setting_names()
    flags = [one[2:].partition("=")[0].replace("-", "_") for one in arguments if one[:2] == "--"]
    # The negative of a flag in a group is --group.no-flag.
    flags = [flag if flag in names else re.sub(r"(^|\.)no_", r"\1", flag) for flag in flags]
    return {names[flag]: None for flag in flags if flag in _SHORT or names.get(flag) == flag}


def picked(config: AlphaZeroConfig, names: Iterable[str]) -> dict[str, Any]:
    """The values of some settings, by full name."""
    found = {}
    for name in names:
        group, _, key = name.rpartition(".")
        found[name] = getattr(getattr(config, group) if group else config, key)
    return found


def first_run(path: Path) -> RunDir:
    """The run whose network another one begins with.

    Raises:
        ConfigError: its kind has none that could.
    """
    from playout.agents.networks.beginning import run_to_begin_with

    source = run_to_begin_with(path)
    if source.kind == "pretrain-trunk" and "encoder" in source.config["network"]:
        raise ConfigError(f"{path} has learned pictures; a game begins with a trunk of positions")
    return source


def first_weights(
    init: Path | None, run: RunDir
) -> Callable[[BoardNetwork], Collection[str]] | None:
    """What gives a network of `run` the weights that `--init` names, and says which stay fresh.

    None if nothing is named. Where the run has a checkpoint of its own nothing is given any more,
    and what the run has noted is said.
    """
    from playout.agents.networks.boards.transfer import take_weights

    if init is None:
        return None
    if run.find() is not None:
        return lambda net: run.record.get("fresh", [])
    _, state = first_run(init).load("best", only=("model", "network"))

    def take(net: BoardNetwork) -> list[str]:
        fresh = take_weights(net, state["model"], description=state["network"], where=init)
        if fresh:
            run.update(fresh=fresh)
        return fresh

    return take


def network_of(source: RunDir) -> tuple[str, str, bool]:
    """Kind, size and pooling of the network that a run of `--init` holds."""
    if source.kind == "pretrain-trunk":
        from playout.agents.networks.boards.registry import restore_network, size_of

        theirs = restore_network(source.config["network"], source.path)
        return "resnet", size_of(theirs.config), False  # of a pruned one another than was asked for
    earlier = stored_config(source.config["alphazero"], where="--init")
    return earlier.network, earlier.size, earlier.pooling
