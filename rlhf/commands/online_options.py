"""What the stages that sample and learn have in common before they begin: their flags, their call.

PPO and GRPO on language differ in their settings (online/config.py) and in their trainers only.
What is done with the flags is policy_stage.py's. They cost no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from playout.agents.optim.names import check_optimizer
from playout.errors import ConfigError
from playout.rlhf.commands.environment_options import EnvironmentOptions, named_environment
from playout.rlhf.commands.memory_options import ShardOptions
from playout.rlhf.commands.options import OptionalRun, PolicyOptions, stage_command
from playout.rlhf.online.config import OnlineConfig

if TYPE_CHECKING:
    from playout.rlhf.data.rows import Row, Source
    from playout.rlhf.environments.environment import EnvironmentFactory
    from playout.rlhf.online.rewards import RewardFunction

__all__ = ["LeftToSize", "OnlineCommand", "named_reward", "online_command", "written_weights"]

T = TypeVar("T", bound="OnlineCommand")


@dataclass(frozen=True, kw_only=True)
class LeftToSize:
    """Settings that the size fills in; a command names this before those of its algorithm."""

    updates: int = 0
    """Rounds of sampling and learning; 0 leaves it to the size."""
    batch: int = 0
    """Responses a round; 0 leaves it to the size."""
    max_new_tokens: int = 0
    """Longest response, in tokens; 0 leaves it to the size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineCommand(OnlineConfig, EnvironmentOptions, ShardOptions, PolicyOptions):
    """A command that samples and learns.

    A subclass names `LeftToSize` and the settings of its algorithm before this class.
    """

    reward: OptionalRun = ""
    """Run of a reward stage, or module:function; several between commas. Needed where no --env says
    what an answer was worth."""
    minutes: float = 0.0
    """In place of --updates: as many rounds as fit into so many minutes, by what a few answers take
    before the first round. How many it was is kept as `updates` in the run."""

    def __post_init__(self) -> None:
        """Settings of the algorithm are checked when the size has filled in what is 0."""
        PolicyOptions.__post_init__(self)
        check_optimizer(self.optimizer)


def online_command(
    cls: type[T],
    base: Any,
    prompts: Source | Iterable[str],
    *,
    reward: Any,
    reward_fn: Any,
    env: Any,
    **options: Any,
) -> tuple[T, list[Row] | None, EnvironmentFactory | None, RewardFunction | None]:
    """The command of such a stage called from Python, and what is no name or path of it.

    Args:
        cls: The command's dataclass.
        base: What the policy starts from.
        prompts: Texts, rows, or what `--prompts` takes.
        reward: Run of a reward stage, `module:function`, or what `reward_fn` takes.
        reward_fn: A function, or a list of functions; None where there is none.
        env: A name as `--env` takes it, or a class.
        **options: The command's flags.

    Returns:
        The command, the rows of prompts, the environment and the reward, each where it was given.
    """
    name, environment = named_environment(env, options.get("env_timeout", 60.0))
    options = written_weights(options)
    scored, function = named_reward(reward, reward_fn, options.get("reward_weights"))
    given = {"base": base, "reward": scored, "env": name, **options}
    command, rows = stage_command(cls, prompts, path_as="prompts", text_as="prompt", **given)
    return command, rows, environment, function


def named_reward(
    reward: Any, reward_fn: Any, weights: str | None = None
) -> tuple[Any, RewardFunction | None]:
    """What `reward=` and `reward_fn=` of a function in Python stand for: a name, and a function.

    Raises:
        ConfigError: Both are given.
    """
    if reward_fn is not None and reward:
        raise ConfigError(
            "give reward or reward_fn, not both: several functions are a list of one of them"
        )
    is_code = isinstance(reward, list | tuple) or callable(reward)
    if reward_fn is None and not is_code:
        return reward, None
    from playout.rlhf.online.rewards import own_reward

    if reward_fn is None:
        return "", own_reward(reward, weights or "")
    return reward, own_reward(reward_fn, weights or "")


def written_weights(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a function in Python with `reward_weights` as `--reward-weights` takes them."""
    weights = options.get("reward_weights")
    if not isinstance(weights, list | tuple):
        return dict(options)
    return {**options, "reward_weights": ",".join(map(str, weights))}
