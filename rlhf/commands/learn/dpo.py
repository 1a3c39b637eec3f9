"""Improve a policy from pairs of answers (DPO), given or sampled and ranked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from playout.rlhf.commands.options import PolicyOptions

if TYPE_CHECKING:
    from playout.rlhf.online.rewards import RewardFunction


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(PolicyOptions):
    """Learn from pairs; the policy is left in RUN/model, the pairs in RUN/pairs.jsonl."""

    preferences: str = ""
    """File or folder of preferences; by default the policy's own samples, ranked by the reward."""
    samples: int = 4
    """Responses a prompt to rank."""
    num_pairs: int = 0
    """Prompts to make pairs of; 0 leaves it to the size."""
    steps: int = 0
    """Gradient steps; 0 leaves it to the size."""
    batch: int = 32
    """Pairs a step."""
    beta: float = 0.1
    """How dear it is to leave the reference."""
    kind: str = "dpo"
    """dpo or ipo."""
    label_smoothing: float = 0.0
    """Share of labels taken to be wrong."""
    learning_rate: float = 2e-4
    """At its highest."""


def main(command: Command, reward_fn: RewardFunction | None = None) -> int:
    """Run the stage; `reward_fn` takes the place of `--reward`."""
    from playout.rlhf.commands.options import begin, carry_out
    from playout.rlhf.data.records import read_preferences
    from playout.rlhf.sizes import recipe
    from playout.rlhf.supervised.dpo import DPOConfig, DPOTrainer, rank_samples, write_preferences
    from playout.rlhf.supervised.trainer import LearnConfig

    task = begin(command, "dpo", reward_fn)
    config = DPOConfig(
        steps=command.steps or recipe(command.size).dpo_steps,
        batch=command.batch,
        beta=command.beta,
        kind=command.kind,
        label_smoothing=command.label_smoothing,
        learn=LearnConfig(learning_rate=command.learning_rate, dtype=command.dtype),
    )
    path = task.run.path / "pairs.jsonl"
    if command.preferences:
        pairs = read_preferences(command.preferences)
    else:
        if not path.exists():
            wanted = command.num_pairs or 24 * recipe(command.size).num_prompts
            ranked = rank_samples(
                task.model,
                task.tokenizer,
                task.prompts[:wanted],
                task.reward,
                samples=command.samples,
                max_new_tokens=task.evaluator.max_new_tokens,
                seed=command.seed + 5,
                dtype=task.evaluator.dtype,
            )
            write_preferences(path, ranked)
        pairs = read_preferences(path)
    task.baseline()
    trainer = DPOTrainer(
        task.model,
        task.tokenizer,
        pairs,
        config,
        seed=command.seed,
        evaluator=task.evaluator,
        folder=task.run.path,
    )
    return carry_out(trainer, task, command, updates=config.steps)
