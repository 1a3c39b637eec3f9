"""Improve a policy by comparing responses to the same prompt (GRPO)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from playout.rlhf.commands.options import RoundsOptions

if TYPE_CHECKING:
    from playout.rlhf.online.rewards import RewardFunction


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(RoundsOptions):
    """Generate groups, score, learn; the policy is left in RUN/model."""

    group: int = 8
    """Responses a prompt."""
    learning_rate: float = 4e-4
    """At the start; it falls to zero."""
    kl_coef: float = 0.05
    """Coefficient of KL in a response's score."""
    unscaled: bool = False
    """Do not divide advantages by the group's deviation."""


def main(command: Command, reward_fn: RewardFunction | None = None) -> int:
    """Run the stage; `reward_fn` takes the place of `--reward`."""
    from playout.rlhf.commands.options import begin, improve, rounds_of
    from playout.rlhf.online.grpo import GRPOConfig, GRPOTrainer
    from playout.rlhf.sizes import recipe

    task = begin(command, "grpo", reward_fn)
    config = GRPOConfig(
        updates=command.updates or recipe(command.size).grpo_steps,
        group=command.group,
        scale=not command.unscaled,
        **rounds_of(command, task, vf_coef=0.0, norm_adv=False),
    )
    return improve(GRPOTrainer, config, task, command)


def grpo(base: str = "", *, reward_fn: RewardFunction | None = None, **options: Any) -> int:
    """GRPO on a language policy from Python; the arguments are those of `rlhf`."""
    from playout.agents.runs.options import make_command

    return main(make_command(Command, base=base or None, **options), reward_fn)
