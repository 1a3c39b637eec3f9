"""Improve a policy from pairs of answers (DPO), given or sampled and ranked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from playout.agents.runs.options import run_options_last
from playout.rlhf.commands.options import OptionalFile, PolicyOptions
from tyro.conf import arg

if TYPE_CHECKING:
    from playout.rlhf.online.rewards import RewardFunction


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(PolicyOptions):
    """Learn from pairs; the policy is left in RUN/model.

    Without --preferences the policy's own samples are ranked by the reward; these pairs are left in
    RUN/pairs.jsonl.
    """

    preferences: OptionalFile = ""
    """.jsonl, .csv: `prompt`, `chosen`, `rejected`, or `prompt`, `left`, `right`, `winner`."""
    samples: int = 4
    """Responses a prompt to rank."""
    num_pairs: int = 0
    """Prompts to make pairs of; 0 leaves it to the size."""
    steps: int = 0
    """Gradient steps; 0 leaves it to the size."""
    batch: int = 32
    """Pairs a step."""
    beta: float = 0.1
    """Weight of the log-ratio to the reference: a larger one stays nearer to it."""
    kind: Annotated[str, arg(metavar="dpo|ipo")] = "dpo"
    """dpo (logistic loss) or ipo (squared)."""
    label_smoothing: float = 0.0
    """Share of labels taken to be wrong."""
    learning_rate: float = 2e-4
    """At its highest."""


def main(command: Command, reward_fn: RewardFunction | None = None) -> int:
    """Run the stage; `reward_fn` takes the place of `--reward`."""
    from playout.rlhf.commands.policy_stage import open_policy_stage, train_policy
    from playout.rlhf.data.records import read_preferences
    from playout.rlhf.online.ranking import rank_samples, write_preferences
    from playout.rlhf.stages.sizes import recipe
    from playout.rlhf.supervised.dpo import DPOConfig, DPOTrainer
    from playout.rlhf.supervised.trainer import LearnConfig

    stage = open_policy_stage(command, "dpo", reward_fn)
    config = DPOConfig(
        steps=command.steps or recipe(command.size).dpo_steps,
        batch=command.batch,
        beta=command.beta,
        kind=command.kind,
        label_smoothing=command.label_smoothing,
        learn=LearnConfig(learning_rate=command.learning_rate, dtype=command.dtype),
    )
    path = stage.run.path / "pairs.jsonl"
    if not command.preferences and not path.exists():
        wanted = command.num_pairs or 24 * recipe(command.size).num_prompts
        ranked = rank_samples(
            stage.model,
            stage.tokenizer,
            stage.prompts[:wanted],
            stage.reward,
            samples=command.samples,
            max_new_tokens=stage.evaluator.max_new_tokens,
            seed=command.seed + 5,
            dtype=stage.evaluator.dtype,
        )
        write_preferences(path, ranked)
    pairs = read_preferences(command.preferences or path)
    stage.baseline()
    trainer = DPOTrainer(
        stage.model,
        stage.tokenizer,
        pairs,
        config,
        seed=command.seed,
        evaluator=stage.evaluator,
        folder=stage.run.path,
        weights=stage.weights,
    )
    return train_policy(trainer, stage, updates=config.steps, quiet=command.quiet)
