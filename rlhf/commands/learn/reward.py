"""Fit a reward model to preferences or ratings."""

from dataclasses import dataclass
from typing import Any

from playout.agents.runs.options import TrainingOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TrainingOptions):
    """Learn what people prefer; RUN/model is the model, RUN/table.json says what it is worth."""

    base: str = ""
    """Run or Hugging Face folder of the model to start from (required)."""
    policy: str = ""
    """Run of the reference policy on whose samples scores get mean 0 and deviation 1; by default
    they are normalised on held-out texts."""
    preferences: str = ""
    """File or folder of votes between answers, in place of ratings."""
    rated: tuple[str, ...] = ()
    """Data sets or files of rated texts to learn from; only of the first are some held out to judge
    by. By default movie reviews, and tweets, editorials and product reviews beside them."""
    data: str = "auto"
    """auto, real or synthetic: which data, if no file is named."""
    size: str = "small"
    """tiny, small, base or large: sets the number of steps."""
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
    dtype: str = "auto"
    """float32, bfloat16 or auto."""


def main(command: Command) -> int:
    """Run the stage."""
    from playout.agents.runs.loop import train
    from playout.errors import ConfigError
    from playout.rlhf.commands.options import write_json
    from playout.rlhf.data.splits import resolve
    from playout.rlhf.sizes import recipe
    from playout.rlhf.stage import finish, interval, load_model, start
    from playout.rlhf.supervised.reward import RewardConfig, RewardTrainer
    from playout.rlhf.supervised.trainer import LearnConfig

    if not command.base:
        raise ConfigError("name the model to start from: --base RUN")
    numbers = recipe(command.size)
    model, tokenizer = load_model(command.base, ["pretrain", "sft"])
    made_of_files = bool(command.preferences) and bool(command.rated)
    if made_of_files:
        raise ConfigError("give --preferences or --rated, not both")
    run = start(
        command,
        "reward",
        lambda: {"material": "files" if command.preferences else resolve(command.data)},
    )
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
    trainer = RewardTrainer(
        model, tokenizer, _comparisons(command, run.config["material"]), config, seed=command.seed
    )
    every = interval(config.steps, 6)
    train(trainer, run, eval_every=every, save_every=30.0, console=not command.quiet)
    trainer.reward.normalise(_samples(command, run.config["material"], trainer))
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
    finish(run)
    return 0


def _comparisons(command: Command, kind: str) -> Any:
    from playout.errors import DataError
    from playout.rlhf.data.comparisons import RatedPairs, VotedPairs
    from playout.rlhf.data.corpora import RATED
    from playout.rlhf.data.records import read_preferences, split_by_text
    from playout.rlhf.data.splits import HELD_OUT, Material

    if command.preferences:
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
    material = Material(kind)
    names = command.rated or (RATED if kind == "real" else ("",))
    rated, heldout = material.rated(names[0])
    for name in names[1:]:
        rated = rated + material.rated(name)[0]
    if not rated or not heldout:
        raise DataError("there are too few rated texts to hold some out; give at least a few dozen")
    return RatedPairs(rated), RatedPairs(heldout)


def _samples(command: Command, kind: str, trainer: Any) -> list[str]:
    """Texts of the reference policy, or held-out texts."""
    if not command.policy:
        return list(trainer.test.texts)
    from playout.rlhf.data.splits import Material
    from playout.rlhf.online.episodes import respond
    from playout.rlhf.sizes import recipe
    from playout.rlhf.stage import load_model, pick_dtype

    numbers = recipe(command.size)
    policy, tokenizer = load_model(command.policy, ["sft"])
    prompts = [d.prompt for d in Material(kind).demonstrations()[0][:512]]
    samples = respond(
        policy,
        tokenizer,
        prompts,
        max_new_tokens=numbers.response_length,
        seed=command.seed + 7,
        dtype=pick_dtype(command.dtype),
    )
    return samples.texts
