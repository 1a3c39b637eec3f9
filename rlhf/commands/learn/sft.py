"""Fine-tune a pretrained model on demonstrations, learning from the answers only."""

from dataclasses import dataclass

from playout.agents.runs.options import TrainingOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TrainingOptions):
    """Imitate demonstrations; the model is left in RUN/model."""

    base: str = ""
    """Run or Hugging Face folder of the pretrained model (required)."""
    demonstrations: str = ""
    """File of prompts and responses (.jsonl, .csv); by default beginnings of reviews."""
    data: str = "auto"
    """auto, real or synthetic: which data, if no file is named."""
    size: str = "small"
    """tiny, small, base or large: sets the number of steps."""
    steps: int = 0
    """Gradient steps; 0 leaves it to the size."""
    batch: int = 64
    """Demonstrations a step."""
    learning_rate: float = 5e-4
    """At its highest."""
    lora_rank: int = 0
    """Train low-rank adapters of this rank instead of all weights."""
    dtype: str = "auto"
    """float32, bfloat16 or auto."""


def main(command: Command) -> int:
    """Run the stage."""
    from playout.agents.runs.loop import train
    from playout.errors import ConfigError
    from playout.rlhf.data.splits import Material, resolve
    from playout.rlhf.model.lora import LoRAConfig, add_adapters
    from playout.rlhf.sizes import recipe
    from playout.rlhf.stage import export_model, finish, interval, load_model, start
    from playout.rlhf.supervised.sft import SFTConfig, SFTTrainer
    from playout.rlhf.supervised.trainer import LearnConfig

    if not command.base:
        raise ConfigError("name the pretrained model: --base RUN")
    numbers = recipe(command.size)
    model, tokenizer = load_model(command.base, ["pretrain"])
    run = start(
        command,
        "sft",
        lambda: {"material": "files" if command.demonstrations else resolve(command.data)},
    )
    demonstrations = Material(run.config["material"]).demonstrations(command.demonstrations)
    if command.lora_rank:
        add_adapters(model, LoRAConfig(rank=command.lora_rank), seed=command.seed)
    config = SFTConfig(
        steps=command.steps or numbers.sft_steps,
        batch=command.batch,
        length=numbers.length,
        max_new_tokens=numbers.response_length,
        learn=LearnConfig(learning_rate=command.learning_rate, dtype=command.dtype),
    )
    trainer = SFTTrainer(
        model, tokenizer, demonstrations, config, seed=command.seed, folder=run.path
    )
    train(
        trainer,
        run,
        eval_every=interval(config.steps, 6),
        save_every=30.0,
        console=not command.quiet,
    )
    export_model(run.path / "model", model, tokenizer)
    finish(run)
    return 0
