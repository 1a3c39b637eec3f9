"""Improve a policy by PPO against a reward, near a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from playout.rlhf.options import PolicyOptions

if TYPE_CHECKING:
    from playout.rlhf.scoring import RewardFunction


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(PolicyOptions):
    """Generate, score, learn; the policy is left in RUN/model."""

    updates: int = 0
    """Rounds; 0 leaves it to the size."""
    batch: int = 64
    """Responses a round."""
    learning_rate: float = 1e-4
    """At the start; it falls to zero."""
    epochs: int = 4
    """Passes over a round's responses."""
    minibatch: int = 32
    """Responses a gradient step."""
    microbatch: int = 0
    """Responses a forward pass, to save memory; 0 takes the minibatch."""
    clip: float = 0.2
    """How far the ratio may move in one round."""
    temperature: float = 1.0
    """At which responses are sampled."""
    kl_coef: float = 0.1
    """Coefficient of KL in the reward; the least one if it is steered."""
    kl_target: float = 7.0
    """Steer the coefficient towards this KL a response, in nats; 0 keeps it fixed."""
    kl_horizon: float = 0.0
    """In five times so many responses the coefficient can change by a factor of e at most; 0 stands
    for a twentieth of the run."""
    kl_estimator: str = "k1"
    """k1 or k3."""
    missing_end_penalty: float = 1.0
    """Taken from the score of a response that was cut off."""
    whiten_rewards: bool = False
    """Divide rewards by their deviation."""
    value_warmup: int = 4
    """Batches to which the value head is fitted before the first round."""
    critic: str = "auto"
    """What the value head stands on: shared (the policy's Transformer), own (a copy of it), reward
    (a copy of the reward model) or auto (the last if it reads the same tokens)."""


def main(command: Command, reward_fn: RewardFunction | None = None) -> int:
    """Run the stage; `reward_fn` takes the place of `--reward`."""
    from playout.agents.run.loop import train
    from playout.rlhf.options import begin
    from playout.rlhf.recipes import recipe
    from playout.rlhf.rlhf import RLHFConfig, RLHFTrainer, language_ppo
    from playout.rlhf.stage import export_model, finish, interval

    task = begin(command, "rlhf", reward_fn)
    config = RLHFConfig(
        updates=command.updates or recipe(command.size).rlhf_steps,
        batch=command.batch,
        max_new_tokens=task.evaluator.max_new_tokens,
        temperature=command.temperature,
        kl_coef=command.kl_coef,
        kl_target=command.kl_target,
        kl_horizon=command.kl_horizon,
        kl_estimator=command.kl_estimator,
        missing_end_penalty=command.missing_end_penalty,
        whiten_rewards=command.whiten_rewards,
        value_warmup=command.value_warmup,
        critic=command.critic,
        dtype=command.dtype,
        ppo=language_ppo(
            learning_rate=command.learning_rate,
            num_epochs=command.epochs,
            minibatch_size=command.minibatch,
            microbatch_size=command.microbatch,
            clip_coef=command.clip,
        ),
    )
    task.baseline()
    trainer = RLHFTrainer(
        task.model,
        task.tokenizer,
        task.prompts,
        task.reward,
        config,
        seed=command.seed,
        evaluator=task.evaluator,
        folder=task.run.path,
    )
    train(
        trainer,
        task.run,
        eval_every=interval(config.updates, 10),
        save_every=30.0,
        console=not command.quiet,
    )
    export_model(task.run.path / "model", trainer.model, task.tokenizer)
    finish(task.run)
    return 0


def rlhf(base: str = "", *, reward_fn: RewardFunction | None = None, **options: Any) -> int:
    """PPO on a language policy from Python: `rlhf("runs/sft-1", reward_fn=my_function)`.

    Args:
        base: Run of the policy to start from.
        reward_fn: Any function from a list of texts to a list of numbers.
        **options: The command's flags.
    """
    from playout.agents.run.options import make_command

    return main(make_command(Command, base=base or None, **options), reward_fn)
