"""Improve a policy by comparing responses to the same prompt (GRPO)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from playout.agents.runs.options import run_options_last
from playout.rlhf.commands.online_options import LeftToSize, OnlineCommand, online_command
from playout.rlhf.online.config import GRPOConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from playout.agents.runs.directory import RunDir
    from playout.rlhf.data.rows import Row, Source
    from playout.rlhf.environments.environment import EnvironmentFactory
    from playout.rlhf.online.rewards import RewardFunction


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(LeftToSize, GRPOConfig, OnlineCommand):
    """Generate groups, score, learn; the policy is left in RUN/model."""

    def __post_init__(self) -> None:
        OnlineCommand.__post_init__(self)


def main(command: Command) -> int:
    """Run the stage."""
    train(command)
    return 0


def grpo(
    base: Any = "",
    prompts: Source | Iterable[str] = "",
    *,
    reward: Any = "",
    reward_fn: RewardFunction | Sequence[RewardFunction] | None = None,
    env: Any = "",
    **options: Any,
) -> RunDir:
    """GRPO on a language policy from Python: `playout.grpo("runs/sft", prompts, reward_fn=f)`.

    Args:
        base: Run or Hugging Face folder of the policy to start from.
        prompts: Texts, rows with the field `prompt`, or what `--prompts` takes. Rows are kept in
            the run.
        reward: Run of a reward stage, `module:function`, or a function.
        reward_fn: Any function from a list of texts to a list of numbers, in place of `reward`, or
            a list of such. A run cannot keep it: whoever resumes the run gives it again.
        env: What to act in, in place of prompts and reward: a name as `--env` takes it, or a class
            with `reset` and `step`, which a run cannot keep either.
        **options: The command's flags, with underscores.

    Returns:
        The run; `playout.load(run)` answers prompts.
    """
    command, rows, environment, function = online_command(
        Command, base, prompts, reward=reward, reward_fn=reward_fn, env=env, **options
    )
    return train(command, function, rows, environment)


def train(
    command: Command,
    reward_fn: RewardFunction | None = None,
    rows: list[Row] | None = None,
    environment: EnvironmentFactory | None = None,
) -> RunDir:
    """Learn as the command says; `reward_fn` takes the place of `--reward`, `rows` of prompts."""
    from playout.rlhf.commands.policy_stage import learn_online
    from playout.rlhf.online.grpo import GRPOTrainer
    from playout.rlhf.stages.sizes import recipe

    return learn_online(
        GRPOTrainer,
        GRPOConfig,
        command,
        name="grpo",
        updates=recipe(command.size).grpo_steps,
        reward=reward_fn,
        rows=rows,
        environment=environment,
    )
