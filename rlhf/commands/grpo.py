"""Improve a policy by comparing responses to the same prompt (GRPO)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from playout.rlhf.options import PolicyOptions

if TYPE_CHECKING:
    from playout.rlhf.scoring import RewardFunction


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(PolicyOptions):
    """Generate groups, score, learn; the policy is left in RUN/model."""

    updates: int = 0
    """Rounds; 0 leaves it to the size."""
    batch: int = 64
    """Responses a round."""
    group: int = 8
    """Responses a prompt."""
    learning_rate: float = 4e-4
    """At the start; it falls to zero."""
    epochs: int = 1
    """Passes over a round's responses."""
    minibatch: int = 64
    """Responses a gradient step."""
    microbatch: int = 0
    """Responses a forward pass, to save memory; 0 takes the minibatch."""
    temperature: float = 1.0
    """At which responses are sampled."""
    kl_coef: float = 0.05
    """Coefficient of KL in a response's score."""
    kl_estimator: str = "k1"
    """k1 or k3."""
    missing_end_penalty: float = 1.0
    """Taken from the score of a response that was cut off."""
    unscaled: bool = False
    """Do not divide advantages by the group's deviation."""


def main(command: Command, reward_fn: RewardFunction | None = None) -> int:
    """Run the stage; `reward_fn` takes the place of `--reward`."""
    from playout.agents.run.loop import train
    from playout.rlhf.grpo import GRPOConfig, GRPOTrainer
    from playout.rlhf.options import begin
    from playout.rlhf.recipes import recipe
    from playout.rlhf.rlhf import language_ppo
    from playout.rlhf.stage import export_model, finish, interval

    task = begin(command, "grpo", reward_fn)
    config = GRPOConfig(
        updates=command.updates or recipe(command.size).grpo_steps,
        batch=command.batch,
        group=command.group,
        max_new_tokens=task.evaluator.max_new_tokens,
        temperature=command.temperature,
        kl_coef=command.kl_coef,
        kl_estimator=command.kl_estimator,
        missing_end_penalty=command.missing_end_penalty,
        scale=not command.unscaled,
        dtype=command.dtype,
        ppo=language_ppo(
            learning_rate=command.learning_rate,
            num_epochs=command.epochs,
            minibatch_size=command.minibatch,
            microbatch_size=command.microbatch,
            vf_coef=0.0,
            norm_adv=False,
        ),
    )
    task.baseline()
    trainer = GRPOTrainer(
        task.model,
        task.tokenizer,
        task.prompts,
        task.reward,
        config,
        seed=command.seed,
        evaluator=task.evaluator,
        folder=task.run.path,
    )
    every = interval(config.updates, 10)
    train(trainer, task.run, eval_every=every, save_every=30.0, console=not command.quiet)
    export_model(task.run.path / "model", trainer.model, task.tokenizer)
    finish(task.run)
    return 0


def grpo(base: str = "", *, reward_fn: RewardFunction | None = None, **options: Any) -> int:
    """GRPO on a language policy from Python; the arguments are those of `rlhf`."""
    from playout.agents.run.options import make_command

    return main(make_command(Command, base=base or None, **options), reward_fn)
