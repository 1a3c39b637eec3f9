"""Fit a reward model to preferences or ratings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from playout.agents.runs.options import TrainingOptions, run_options_last
from playout.rlhf.commands.options import Data, OptionalFile, OptionalRun, RequiredRun, Size
from tyro.conf import arg

if TYPE_CHECKING:
    from playout.rlhf.data.comparisons import Comparisons


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TrainingOptions):
    """Learn what people prefer; RUN/model is the model, RUN/table.json says what it is worth.

    It learns from votes between answers (--preferences, as `playout rlhf judge --human` writes
    them) or from rated texts (--rated, files or data sets by name); by default from movie reviews,
    and from tweets, editorials and product reviews beside them.
    """

    base: RequiredRun = ""
    """Run or Hugging Face folder of the model to start from."""
    preferences: OptionalFile = ""
    """.jsonl, .csv: `prompt`, `chosen`, `rejected`, or `prompt`, `left`, `right`, `winner`."""
    rated: Annotated[tuple[str, ...], arg(metavar="FILE", help_behavior_hint="")] = ()
    """.jsonl or .csv with `text` and `rating` or `ratings`; of the first some are held out."""
    policy: OptionalRun = ""
    """On this policy's samples scores get mean 0 and deviation 1; by default on held-out texts."""
    size: Size = "small"
    """Sets the number of steps and the length of texts."""
    data: Data = "auto"
    """Which data, if no file is named."""
    steps: int = 0
    """Gradient steps; 0 leaves it to the size."""
    batch: int = 64
    """Texts a step."""
    learning_rate: float = 5e-4
    """At its highest."""
    weight_decay: float = 0.01
    """Of the weights, a step and a unit of learning rate."""
    train_layers: int = 0
    """Train only so many layers at the top; 0 trains all."""


def main(command: Command) -> int:
    """Run the stage."""
    from playout.agents.runs.devices import resolve_device
    from playout.agents.runs.reporting import write_json
    from playout.errors import ConfigError
    from playout.rlhf.data.datasets import choose_source
    from playout.rlhf.model.folder import load_model
    from playout.rlhf.stages.run import mark_finished, open_stage, train_stage
    from playout.rlhf.stages.sizes import recipe
    from playout.rlhf.supervised.reward import RewardConfig, RewardTrainer
    from playout.rlhf.supervised.trainer import LearnConfig

    if not command.base:
        raise ConfigError("name the model to start from: --base RUN")
    if command.preferences and command.rated:
        raise ConfigError("give --preferences or --rated, not both")
    numbers = recipe(command.size)
    model, tokenizer = load_model(
        command.base, ["pretrain", "sft"], device=resolve_device(command.device)
    )
    run = open_stage(
        command,
        "reward",
        lambda: {"material": "files" if command.preferences else choose_source(command.data)},
    )
    source = run.config["material"]
    config = RewardConfig(
        steps=command.steps or numbers.reward_steps,
        batch=command.batch,
        length=numbers.length,
        train_layers=command.train_layers,
        learn=LearnConfig(
            learning_rate=command.learning_rate,
            weight_decay=command.weight_decay,
            dtype=command.dtype,
        ),
    )
    comparisons = _voted(command) if command.preferences else _rated(command, source)
    trainer = RewardTrainer(model, tokenizer, comparisons, config, seed=command.seed)
    train_stage(trainer, run, updates=config.steps, evaluations=6, quiet=command.quiet)
    samples = _policy_samples(command, source) if command.policy else trainer.test.texts
    trainer.reward.normalise(samples)
    table = trainer.measure()
    trainer.reward.save(run.path / "model")
    write_json(run.path / "table.json", table)
    if not command.quiet:
        low, high = table["accuracy_interval"]
        print(
            f"{100 * table['accuracy']:.1f} % of held-out pairs in the order people gave them "
            f"(95 %: {100 * low:.1f} to {100 * high:.1f}), calibration error "
            f"{table['calibration_error']:.3f}"
        )
    mark_finished(run, quiet=command.quiet)
    return 0


def _voted(command: Command) -> tuple[Comparisons, Comparisons]:
    """Votes of a file, to learn from and held out."""
    from playout.errors import DataError
    from playout.rlhf.data.comparisons import VotedPairs
    from playout.rlhf.data.datasets import HELD_OUT
    from playout.rlhf.data.records import read_preferences, split_by_text

    items = read_preferences(command.preferences)
    train, test = split_by_text(
        items, HELD_OUT, texts=lambda p: [p.prompt or p.first, p.prompt or p.second]
    )
    if len({item.prompt for item in items}) < 20 and not all(i.prompt == "" for i in items):
        # With so few prompts a side could be empty: answers are divided instead.
        train, test = split_by_text(items, 0.35, texts=lambda p: [p.first, p.second])
    if not train or not test:
        raise DataError(
            f"{command.preferences} has too few votes ({len(items)} pairs) to hold some out"
        )
    return VotedPairs(train), VotedPairs(test)


def _rated(command: Command, source: str) -> tuple[Comparisons, Comparisons]:
    """Rated texts, to learn from and held out."""
    from playout.errors import DataError
    from playout.rlhf.data.comparisons import RatedPairs
    from playout.rlhf.data.corpora import RATED
    from playout.rlhf.data.datasets import Datasets

    datasets = Datasets(source)
    names = command.rated or (RATED if source == "real" else ("",))
    train, test = datasets.rated(names[0])
    for name in names[1:]:
        train = train + datasets.rated(name)[0]
    if not train or not test:
        raise DataError("there are too few rated texts to hold some out; give at least a few dozen")
    return RatedPairs(train), RatedPairs(test)


def _policy_samples(command: Command, source: str) -> list[str]:
    """Texts that the reference policy writes."""
    from playout.agents.runs.devices import resolve_device
    from playout.rlhf.data.datasets import Datasets
    from playout.rlhf.generation.responses import sample_responses
    from playout.rlhf.model.folder import load_model
    from playout.rlhf.model.transformer import pick_dtype
    from playout.rlhf.stages.sizes import recipe

    device = resolve_device(command.device)
    policy, tokenizer = load_model(command.policy, ["sft"], device=device)
    prompts = [item.prompt for item in Datasets(source).demonstrations()[0][:512]]
    return sample_responses(
        policy,
        tokenizer,
        prompts,
        max_new_tokens=recipe(command.size).response_length,
        seed=command.seed + 7,
        dtype=pick_dtype(command.dtype, device),
    ).texts
