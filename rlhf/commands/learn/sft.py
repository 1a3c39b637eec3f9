"""Fine-tune a pretrained model on demonstrations, learning from the answers only."""

from dataclasses import dataclass

from playout.agents.runs.options import TrainingOptions, run_options_last
from playout.rlhf.commands.options import Data, OptionalFile, RequiredRun, Size


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TrainingOptions):
    """Imitate demonstrations; the model is left in RUN/model."""

    base: RequiredRun = ""
    """Run or Hugging Face folder of the pretrained model."""
    demonstrations: OptionalFile = ""
    """.jsonl or .csv with the fields `prompt` and `response`; by default beginnings of reviews."""
    size: Size = "small"
    """Sets the number of steps and the length of texts."""
    data: Data = "auto"
    """Which data, if no file is named."""
    steps: int = 0
    """Gradient steps; 0 leaves it to the size."""
    batch: int = 64
    """Demonstrations a step."""
    learning_rate: float = 5e-4
    """At its highest."""
    lora_rank: int = 0
    """Train low-rank adapters of this rank instead of all weights."""


def main(command: Command) -> int:
    """Run the stage."""
    from playout.agents.runs.devices import resolve_device
    from playout.errors import ConfigError
    from playout.rlhf.data.datasets import Datasets, choose_source
    from playout.rlhf.model.folder import export_model, load_model
    from playout.rlhf.model.lora import LoRAConfig, add_adapters
    from playout.rlhf.stages.run import mark_finished, open_stage, train_stage
    from playout.rlhf.stages.sizes import recipe
    from playout.rlhf.supervised.sft import SFTConfig, SFTTrainer
    from playout.rlhf.supervised.trainer import LearnConfig

    if not command.base:
        raise ConfigError("name the pretrained model: --base RUN")
    numbers = recipe(command.size)
    model, tokenizer = load_model(command.base, ["pretrain"], device=resolve_device(command.device))
    run = open_stage(
        command,
        "sft",
        lambda: {"material": "files" if command.demonstrations else choose_source(command.data)},
    )
    demonstrations = Datasets(run.config["material"]).demonstrations(command.demonstrations)
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
    train_stage(trainer, run, updates=config.steps, evaluations=6, quiet=command.quiet)
    export_model(run.path / "model", model, tokenizer)
    mark_finished(run, quiet=command.quiet)
    return 0
