"""Flags that language stages share. They cost no torch; the work is done elsewhere.

What is set up from them is policy_stage.py's; the settings of PPO and GRPO are online/config.py's.
"""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeVar

import numpy as np
from playout.agents.optim.names import OPTIMIZERS, check_optimizer
from playout.agents.runs.options import (
    MachineOptions,
    TrainingOptions,
    agree_on,
    make_command,
)
from playout.errors import ConfigError
from playout.rlhf.commands.memory_options import AdapterOptions
from playout.rlhf.stages.paths import located, whole
from playout.rlhf.stages.sizes import recipe
from tyro.conf import arg

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from playout.rlhf.supervised.trainer import LearnConfig

__all__ = [
    "SOURCES",
    "AdaptedOptions",
    "Data",
    "HeldWeights",
    "LengthOptions",
    "ModelOptions",
    "OptimizerOptions",
    "OptionalFile",
    "OptionalRun",
    "PolicyOptions",
    "RequiredRun",
    "RouterOptions",
    "Size",
    "StageOptions",
    "TextOptions",
    "check_beside",
    "check_numbers",
    "data_file",
    "learn_config",
    "stage_command",
]

Size = Annotated[str, arg(metavar="tiny|small|base|large")]
Data = Annotated[str, arg(metavar="auto|real|synthetic|FILE")]
HeldWeights = Annotated[
    Literal["float32", "bfloat16", "int8", "nf4"], arg(metavar="float32|bfloat16|int8|nf4")
]
RequiredRun = Annotated[str, arg(metavar="RUN", help_behavior_hint="(required)")]
OptionalRun = Annotated[str, arg(metavar="RUN", help_behavior_hint="")]
OptionalFile = Annotated[str, arg(metavar="FILE", help_behavior_hint="")]

T = TypeVar("T", bound=TrainingOptions)


def check_beside(command: "DataclassInstance", needed: str, *names: str) -> None:
    """Refuses options that do nothing without another, where that is not given.

    Args:
        command: A dataclass of options.
        needed: The other flag, such as `--dedup near`.
        names: Fields of those that mean something only beside it.

    Raises:
        ConfigError: One of them is not as it is by default; it is named.
    """
    usual = {field.name: field.default for field in fields(command)}
    for name in names:
        if getattr(command, name) != usual[name]:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{flag} does nothing without {needed}; give that, too")


@dataclass(frozen=True, kw_only=True)
class RouterOptions:
    """How a new mixture of experts learns to divide its tokens; kept with the model."""

    router_balance: float = 0.01
    """With --experts: weight of the loss that spreads tokens evenly over experts."""
    router_z: float = 0.001
    """With --experts: weight of the loss that keeps the router's logits small."""


SOURCES = ("auto", "real", "synthetic")
"""What `--data` names where it names no file."""
# Whole numbers whose default is not 0, but which 0 switches off; and numbers of either sign.
_MAY_BE_ZERO = frozenset({"value_warmup"})
_ANY_SIGN = frozenset({"missing_end_penalty", "seed", "threads", "from_step"})


def check_numbers(command: MachineOptions) -> None:
    """Refuse counts and rates of a command that mean nothing.

    A whole number is at least 1, or 0 where 0 is the default (it leaves the number to the size, or
    switches something off). A real number is finite and not negative, a learning rate positive.

    Raises:
        ConfigError: Names the first option that is wrong.
    """
    for field in fields(command):
        value, flag = getattr(command, field.name), "--" + field.name.replace("_", "-")
        if field.name in _ANY_SIGN or isinstance(value, bool):
            continue
        if isinstance(value, int) and isinstance(field.default, int):
            least = 0 if field.default == 0 or field.name in _MAY_BE_ZERO else 1
            if value < least:
                raise ConfigError(f"{flag} must be at least {least}, not {value}")
        elif isinstance(value, float):
            positive = field.name.endswith("learning_rate") and field.default != 0
            if not math.isfinite(value) or value < 0 or (positive and value == 0):
                wanted = "positive" if positive else "0 or more"
                raise ConfigError(f"{flag} must be {wanted}, not {value}")


def data_file(data: str, named: str = "", flag: str = "") -> str:
    """The file that `--data` or a stage's own flag names; empty where neither does.

    Args:
        data: `auto`, `real` or `synthetic`, or a file, a folder or `hub:NAME`.
        named: The value of the stage's own flag.
        flag: That flag.

    Raises:
        ConfigError: Both name one, or it is not there.
    """
    if data in SOURCES:
        return named
    if named:
        raise ConfigError(f"give --data {data} or {flag} {named}, not both")
    if not data.startswith("hub:") and not Path(data).exists():
        raise ConfigError(
            f"data must be auto, real or synthetic, or a file that exists; not {data!r}"
        )
    return data


def stage_command(
    cls: type[T], data: Any, *, path_as: str = "data", text_as: str = "text", **options: Any
) -> tuple[T, list[dict[str, Any]] | None]:
    """The command of a stage called from Python, and the rows where data are no name or path.

    Args:
        cls: The command's dataclass.
        data: A name, a path, or rows (dictionaries, or texts) of any iterable.
        path_as: The flag that takes a path.
        text_as: The field of a row that a text in `data` stands for.
        **options: The command's flags; those that are None are left out.

    Raises:
        ConfigError: An unknown option or a value of the wrong type.
    """
    rows = None
    if isinstance(data, str | os.PathLike):
        options[path_as] = os.fspath(data) or None
    elif isinstance(data, Mapping):
        raise ConfigError("rows are a list of dictionaries, not one dictionary")
    elif data is not None:
        if hasattr(data, "to_dict") and hasattr(data, "columns"):  # a table of pandas
            # It fills what a row lacks with NaN.
            data = [
                {key: None if isinstance(value, float) and value != value else value
                 for key, value in row.items()}
                for row in data.to_dict("records")
            ]  # fmt: skip
        if not isinstance(data, Iterable):
            kind = type(data).__name__
            raise ConfigError(f"data are a name, a path or a list of rows, not {kind}")
        plain = str | list if text_as == "prompt" else str  # a prompt may be messages
        rows = [{text_as: row} if isinstance(row, plain) else _python(row) for row in data]
    given = {name: None if value == "" else value for name, value in options.items()}
    command = make_command(cls, **given)
    agree_on(command)
    return command, rows


def _python(value: Any) -> Any:
    """What a row holds, numbers of NumPy's as Python's of the same value, which JSON knows."""
    if isinstance(value, Mapping):
        return {key: _python(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_python(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_python(item) for item in value)
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions(MachineOptions):
    """What a command that only asks models has besides its own options."""

    weights: HeldWeights = "float32"
    """Type in which weights are held; bfloat16 takes half of the memory, int8 a quarter, nf4 (4
    bits) an eighth."""


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """What moves the weights of a stage that learns from given texts."""

    optimizer: Annotated[str, arg(metavar="|".join(OPTIMIZERS))] = "adam"
    """muon makes orthogonal steps of the layers' matrices, and takes fewer of them; the rest is
    Adam's. With it a learning rate of 3e-3 suits models of a few million parameters; sgd and
    momentum want one that is larger by far."""
    weight_decay: float = 0.0
    """Of the weights, a step and a unit of learning rate; with adamw, sgd and momentum of matrices
    alone."""


class Learning(Protocol):
    """Options that say how the weights of a supervised stage move."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def microbatch(self) -> int: ...


def learn_config(command: Learning, *, usual_rate: float = 0.0) -> "LearnConfig":
    """The same for its trainer.

    Args:
        command: The stage's.
        usual_rate: Where the command's learning rate is 0.
    """
    from playout.rlhf.supervised.trainer import LearnConfig

    return LearnConfig(
        learning_rate=command.learning_rate or usual_rate,
        weight_decay=command.weight_decay,
        optimizer=command.optimizer,
        dtype=command.dtype,
        microbatch=command.microbatch,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOptions(TrainingOptions):
    """What every stage that learns has besides its own options."""

    size: Size = "small"
    """Sets what is not given."""

    kept, found = staticmethod(whole), staticmethod(located)

    def __post_init__(self) -> None:
        TrainingOptions.__post_init__(self)
        check_numbers(self)
        if isinstance(self, OptimizerOptions):
            check_optimizer(self.optimizer)


@dataclass(frozen=True, kw_only=True)
class AdaptedOptions(AdapterOptions):
    """Adapters of a stage that learns from given texts, above weights that do not learn."""

    lora_dropout: float = 0.0
    """With --lora-rank: share of the adapters' inputs that a step leaves out."""
    weights: HeldWeights = "float32"
    """Type in which weights below adapters are held; the others take a half, a quarter and an
    eighth of the memory."""


@dataclass(frozen=True, kw_only=True)
class LengthOptions:
    """How long the rows of a stage that learns from given texts may be."""

    max_length: int = 0
    """Longest text in tokens; 0: of own data the longest one, up to 1024 and the context, else what
    the size says."""
    truncate: Literal["right", "left", "drop", "error"] = "right"
    """What becomes of longer texts: their end is cut, their beginning, they are left out, or they
    are refused."""


@dataclass(frozen=True, kw_only=True)
class TextOptions(LengthOptions):
    """How a stage that learns from prompts and answers makes rows of them."""

    plain: bool = False
    """Leave the chat template alone: plain prompts are texts to be continued, not a user's
    messages."""
    join: Literal["space", "none"] = "space"
    """Between a plain prompt and an answer that would run into one word: a space, or nothing."""

    @staticmethod
    def stored_today(config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Runs of earlier versions go on as they began: rows of the size's length, no templates."""
        if "truncate" in config:
            return config
        pairs = "beta" in config
        length = 0 if pairs else recipe(str(config.get("size", "small"))).length
        rest = {"truncate": "drop" if pairs else "right", "plain": True, "join": "none"}
        return {**config, "max_length": length, **rest}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOptions(AdapterOptions, StageOptions):
    """Where a policy comes from and what it is for."""

    base: RequiredRun = ""
    """Run or Hugging Face folder of the policy to start from."""
    reward: RequiredRun = ""
    """Run of a reward stage, or module:function; several between commas."""
    prompts: OptionalFile = ""
    """Prompts: .jsonl with the field `prompt`, or a line each; by default beginnings of reviews."""
    data: Data = "auto"
    """Which prompts and which independent judge; or a file of prompts."""
    max_new_tokens: int = 0
    """Longest response, in tokens; 0 leaves it to the size."""
    weights: HeldWeights = "float32"
    """Type in which weights that do not learn are held (reference, reward model, and the policy's
    own below adapters); bfloat16 halves their memory, int8 and nf4 (4 bits) take less."""
