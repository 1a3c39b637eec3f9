"""Improve a policy by PPO against a reward, near a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from playout.agents.runs.options import run_options_last
from playout.rlhf.commands.options import PolicyOptions
from playout.rlhf.online.config import RLHFConfig

if TYPE_CHECKING:
    from playout.rlhf.online.rewards import RewardFunction


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(RLHFConfig, PolicyOptions):
    """Generate, score, learn; the policy is left in RUN/model."""

    updates: int = 0
    """Rounds of sampling and learning; 0 leaves it to the size."""
    batch: int = 0
    """Responses a round; 0 leaves it to the size."""
    max_new_tokens: int = 0
    """Longest response, in tokens; 0 leaves it to the size."""

    def __post_init__(self) -> None:
        """PPO's settings are checked when the size has filled in what is 0."""
        PolicyOptions.__post_init__(self)


def main(command: Command, reward_fn: RewardFunction | None = None) -> int:
    """Run the stage; `reward_fn` takes the place of `--reward`."""
    from playout.rlhf.commands.policy_stage import online_config, open_policy_stage, train_online
    from playout.rlhf.online.ppo import RLHFTrainer
    from playout.rlhf.stages.sizes import recipe

    stage = open_policy_stage(command, "rlhf", reward_fn)
    config = online_config(RLHFConfig, command, stage, recipe(command.size).rlhf_steps)
    return train_online(RLHFTrainer, config, stage, command)


def rlhf(base: str = "", *, reward_fn: RewardFunction | None = None, **options: Any) -> int:
    """PPO on a language policy from Python: `rlhf("runs/sft-1", reward_fn=my_function)`.

    Args:
        base: Run of the policy to start from.
        reward_fn: Any function from a list of texts to a list of numbers.
        **options: The command's flags.
    """
    from playout.agents.runs.options import make_command

    return main(make_command(Command, base=base or None, **options), reward_fn)
