"""Improve a policy by PPO against a reward, near a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from playout.rlhf.commands.options import RoundsOptions

if TYPE_CHECKING:
    from playout.rlhf.online.rewards import RewardFunction


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(RoundsOptions):
    """Generate, score, learn; the policy is left in RUN/model."""

    epochs: int = 4
    """Passes over a round's responses."""
    minibatch: int = 32
    """Responses a gradient step."""
    clip: float = 0.2
    """How far the ratio may move in one round."""
    kl_coef: float = 0.1
    """Coefficient of KL in the reward; the least one if it is steered."""
    kl_target: float = 7.0
    """Steer the coefficient towards this KL a response, in nats; 0 keeps it fixed."""
    kl_horizon: float = 0.0
    """In five times so many responses the coefficient can change by a factor of e at most; 0 stands
    for a twentieth of the run."""
    whiten_rewards: bool = False
    """Divide rewards by their deviation."""
    value_warmup: int = 4
    """Batches to which the value head is fitted before the first round."""
    critic: str = "auto"
    """What the value head stands on: shared (the policy's Transformer), own (a copy of it), reward
    (a copy of the reward model) or auto (the last if it reads the same tokens)."""


def main(command: Command, reward_fn: RewardFunction | None = None) -> int:
    """Run the stage; `reward_fn` takes the place of `--reward`."""
    from playout.rlhf.commands.options import begin, improve, rounds_of
    from playout.rlhf.online.ppo import RLHFConfig, RLHFTrainer
    from playout.rlhf.sizes import recipe

    task = begin(command, "rlhf", reward_fn)
    config = RLHFConfig(
        updates=command.updates or recipe(command.size).rlhf_steps,
        kl_target=command.kl_target,
        kl_horizon=command.kl_horizon,
        whiten_rewards=command.whiten_rewards,
        value_warmup=command.value_warmup,
        critic=command.critic,
        **rounds_of(command, task, clip_coef=command.clip),
    )
    return improve(RLHFTrainer, config, task, command)


def rlhf(base: str = "", *, reward_fn: RewardFunction | None = None, **options: Any) -> int:
    """PPO on a language policy from Python: `rlhf("runs/sft-1", reward_fn=my_function)`.

    Args:
        base: Run of the policy to start from.
        reward_fn: Any function from a list of texts to a list of numbers.
        **options: The command's flags.
    """
    from playout.agents.runs.options import make_command

    return main(make_command(Command, base=base or None, **options), reward_fn)
