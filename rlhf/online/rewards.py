"""Reward functions: any Python function, or the model of a reward stage; several with weights.

A function says by the names of its parameters what it wants to see: texts, prompts, answers,
episodes, or the task's own data. `checked_rewards` holds it to its contract, one finite number an
episode; `load_reward` finds what the command line names. The reward model itself is
supervised/reward.py's.
"""

import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from playout.errors import ConfigError, DataError
from playout.own_code import fault_of, load_object, trust
from playout.rlhf.data.messages import Prompt
from playout.rlhf.environments.checked import (
    STOPS,
    as_number,
    fault_of_reward,
    kept_folder,
    kind_of,
)
from playout.rlhf.online.episode import Episode
from torch import Tensor

__all__ = [
    "RewardFunction",
    "RewardInputs",
    "WeightedRewards",
    "checked_rewards",
    "faults_of_rewards",
    "load_reward",
    "own_reward",
    "trust_reward",
]

RewardFunction = Callable[..., Sequence[float]]
"""Whole texts, or whatever its parameters name, to a number each; more is better."""

_COLUMNS = ("texts", "prompts", "answers", "completions", "episodes", "tasks")


@dataclass(frozen=True, slots=True)
class RewardInputs:
    """What reward functions may ask for; lists of N, in which an entry belongs to one episode."""

    texts: Sequence[str]
    """Prompt and all that followed, joined."""
    prompts: Sequence[Prompt] | None = None
    answers: Sequence[str] | None = None
    """What the policy wrote last; of a prompt with one answer, that."""
    episodes: Sequence[Episode] | None = None

    @classmethod
    def of(cls, episodes: Sequence[Episode]) -> "RewardInputs":
        """What functions see of episodes."""
        return cls(
            [episode.text for episode in episodes],
            [episode.prompt for episode in episodes],
            [episode.answer for episode in episodes],
            episodes,
        )

    def column(self, name: str) -> list[Any] | None:
        """The list that a parameter of this name gets; None where there is none."""
        if name == "completions":
            name = "answers"
        if name in ("texts", "prompts", "answers", "episodes"):
            found = getattr(self, name)
            return None if found is None else list(found)
        if self.episodes is None:
            return None
        if name == "tasks":
            return [episode.task for episode in self.episodes]
        try:
            return [episode.field_of_task(name) for episode in self.episodes]
        except KeyError:
            return None

    def fields(self) -> list[str]:
        """Fields that all tasks have, where tasks are dictionaries."""
        tasks = [episode.task for episode in self.episodes or ()]
        if not tasks or not all(isinstance(task, Mapping) for task in tasks):
            return []
        return [name for name in tasks[0] if all(name in task for task in tasks)]


@dataclass(frozen=True, slots=True)
class WeightedRewards:
    """Several reward functions; the reward is the sum of their weighted numbers."""

    functions: Sequence[RewardFunction]
    names: Sequence[str]
    weights: Sequence[float] = field(default=())
    """One a function; 1 each where empty."""

    def __post_init__(self) -> None:
        if self.weights and len(self.weights) != len(self.functions):
            raise ConfigError(
                f"{len(self.weights)} weights were given for {len(self.functions)} rewards"
            )
        if not all(math.isfinite(weight) for weight in self.weights):
            raise ConfigError(f"weights of rewards must be finite, not {self.weights}")

    def columns(self, inputs: RewardInputs) -> dict[str, Tensor]:
        """Each function's rewards, float32 [N], before weighting."""
        found: dict[str, Tensor] = {}
        for name, function in zip(self.names, self.functions, strict=True):
            key, number = name, 2
            while key in found:
                key, number = f"{name}-{number}", number + 1
            found[key] = checked_rewards(function, inputs)
        return found

    def total(self, columns: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of `columns`, float32 [N]."""
        weights = self.weights or [1.0] * len(self.functions)
        parts = [w * column for w, column in zip(weights, columns.values(), strict=True)]
        return torch.stack(parts).sum(0)

    def __call__(self, texts: list[str]) -> Sequence[float]:
        """The rewards of texts alone."""
        found: list[float] = self.total(self.columns(RewardInputs(texts))).tolist()
        return found


def checked_rewards(reward: RewardFunction, given: Sequence[str] | RewardInputs) -> Tensor:
    """The rewards of texts, or of all that is known of some episodes; float32 [N].

    Raises:
        ConfigError: The function asks for what is not there.
        DataError: The function raised, or did not give one finite number an episode.
    """
    inputs = given if isinstance(given, RewardInputs) else RewardInputs(list(given))
    if isinstance(reward, WeightedRewards):
        return reward.total(reward.columns(inputs))
    name, texts = _name(reward), inputs.texts
    arguments, named = _arguments(reward, name, inputs)
    try:
        with kept_folder():
            found: Any = reward(*arguments, **named)
        if isinstance(found, Tensor):
            found = found.detach().cpu()
        if isinstance(found, Tensor | np.ndarray):
            found = found.tolist()
        elif isinstance(found, Iterator):
            found = list(itertools.islice(found, len(texts) + 1))
    except STOPS:
        raise
    except BaseException as error:
        raise DataError(f"the reward function {name} raised {fault_of(error)}") from error
    if inspect.iscoroutine(found):
        found.close()  # or Python warns that nobody waited for it
        raise DataError(f"the reward function {name} is asynchronous (async def)")
    if isinstance(found, str | bytes | Mapping) or not isinstance(found, Iterable):
        raise DataError(
            f"the reward function {name} must return one number a text, not {kind_of(found)}"
        )
    values = [_number(value, row, name) for row, value in enumerate(found)]
    if len(values) != len(texts):
        raise DataError(
            f"the reward function {name} returned {len(values)} numbers for {len(texts)} texts"
        )
    for row, value in enumerate(values):
        if fault := fault_of_reward(value):
            raise DataError(
                f"the reward function {name} returned {fault} for text {row}: {texts[row][:60]!r}"
            )
    return torch.tensor(values, dtype=torch.float32)


def faults_of_rewards(reward: RewardFunction, episodes: Sequence[Episode]) -> list[str]:
    """What goes wrong with the reward of each episode, asked alone; empty where nothing does."""
    found = []
    for episode in episodes:
        try:
            checked_rewards(reward, RewardInputs.of([episode]))
            found.append("")
        except DataError as error:
            found.append(str(error))
    return found


def _number(value: Any, row: int, name: str) -> float:
    if isinstance(value, Tensor):
        value = value.detach()
    try:
        return as_number(value)
    except (TypeError, ValueError):
        raise DataError(
            f"the reward function {name} returned {kind_of(value)} for text {row}, not a number"
        ) from None


def _name(reward: RewardFunction) -> str:
    return str(getattr(reward, "__name__", type(reward).__name__))


def _arguments(
    reward: RewardFunction, name: str, inputs: RewardInputs
) -> tuple[list[Any], dict[str, Any]]:
    """What a function is called with, by position and by name."""
    try:
        known = list(inspect.signature(reward).parameters.values())
    except (TypeError, ValueError):  # a function in C says nothing about itself
        return [list(inputs.texts)], {}
    positional = [p for p in known if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    # A single argument under a name of the person's own gets the texts.
    if positional and inputs.column(positional[0].name) is None:
        asked = [p for p in known if p.default is p.empty and p.kind in _BY_NAME]
        lonely = len(asked) <= 1 and positional[0] in (asked or positional)
        if positional[0].name not in _COLUMNS and lonely:
            return [list(inputs.texts)], {}
    arguments: list[Any] = []
    named: dict[str, Any] = {}
    for parameter in known:
        if parameter.kind is parameter.VAR_POSITIONAL:
            if not arguments and not named:
                return [list(inputs.texts)], {}
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            everything = [*_COLUMNS, *inputs.fields()]
            columns = {key: inputs.column(key) for key in everything if key not in named}
            named.update({key: column for key, column in columns.items() if column is not None})
            continue
        column = inputs.column(parameter.name)
        if column is None:
            if parameter.default is not parameter.empty:
                continue
            there = [key for key in _COLUMNS if inputs.column(key) is not None]
            raise ConfigError(
                f"the reward function {name} asks for {parameter.name!r}, which is not there; "
                f"there are {', '.join([*there, *inputs.fields()])}"
            )
        if parameter.kind is parameter.POSITIONAL_ONLY:
            arguments.append(column)
        else:
            named[parameter.name] = column
    return arguments, named


_BY_NAME = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.KEYWORD_ONLY,
)


def load_reward(
    name: str,
    *,
    weights_of_rewards: str = "",
    dtype: str = "auto",
    device: torch.device | None = None,
    weights: torch.dtype = torch.float32,
) -> RewardFunction:
    """The reward that a command line names.

    Args:
        name: The folder of a reward stage, of its model, or of a whole pipeline; or
            `module:function`, the module found from the current folder on; or several of these
            between commas.
        weights_of_rewards: Numbers between commas, one a reward; 1 each where empty.
        dtype: Of a model's matrix products.
        device: Where a model computes; the processor if None.
        weights: float32 or bfloat16, of a model.
    """
    names = reward_names(name)
    if not names:
        raise ConfigError(f"{name!r} names no reward: give a run or module:function")
    loaded = [_load_one(part, dtype, device, weights) for part in names]
    if len(loaded) == 1 and not weights_of_rewards:
        return loaded[0]
    return WeightedRewards(loaded, [_short(part) for part in names], _numbers(weights_of_rewards))


def own_reward(functions: Any, weights: str = "") -> RewardFunction:
    """A function given from Python, or several in a list, as one reward.

    Args:
        functions: They.
        weights: As `--reward-weights`; 1 each where empty.

    Raises:
        ConfigError: There is none, or something else among them.
    """
    if callable(functions) and not weights:
        return functions  # type: ignore[no-any-return]
    listed = [functions] if callable(functions) else functions
    if not isinstance(listed, list | tuple) or not listed or not all(map(callable, listed)):
        raise ConfigError(
            f"a reward is a function or a list of functions, not {kind_of(functions)}; runs and "
            "module:function are names"
        )
    return WeightedRewards(listed, [_name(one) for one in listed], _numbers(weights))


def _load_one(
    name: str, dtype: str, device: torch.device | None, weights: torch.dtype
) -> RewardFunction:
    if is_function(name):
        return _function(name)
    from playout.rlhf.supervised.reward import RewardModel

    return RewardModel.load(name, dtype=dtype, device=device, weights=weights)


def _short(name: str) -> str:
    return name.rpartition(":")[2] if is_function(name) else Path(name).name


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")] if text.strip() else []
    except ValueError:
        raise ConfigError(f"weights of rewards are numbers between commas, not {text!r}") from None


def reward_names(name: str) -> list[str]:
    """The rewards in what a command line names, several between commas."""
    if Path(name).exists():
        return [name]
    return [part.strip() for part in name.split(",") if part.strip()]


def is_function(name: str) -> bool:
    """Whether a reward's name is `module:function` and no folder."""
    return not Path(name).exists() and ":" in name


def trust_reward(name: str, where: object) -> None:
    """Refuses a function that only a run names, unless its module is trusted (own_code.py)."""
    for part in reward_names(name):
        if is_function(part):
            trust(part, where, "the reward")


def _function(name: str) -> RewardFunction:
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")]):
        raise ConfigError(f"{name!r} is neither a folder nor module:function")
    found = load_object(name, "the reward")
    if not callable(found):
        raise ConfigError(f"the reward {name!r} is not a function")
    return found  # type: ignore[no-any-return]
