"""Fine-tune a pretrained model on demonstrations, learning from the answers only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from playout.agents.runs.options import run_options_last
from playout.rlhf.commands.memory_options import (
    MicrobatchOptions,
    ShardOptions,
    adapt,
    check_shard,
    first_device,
    spread,
)
from playout.rlhf.commands.options import (
    AdaptedOptions,
    Data,
    OptimizerOptions,
    OptionalFile,
    RequiredRun,
    StageOptions,
    TextOptions,
    data_file,
    learn_config,
    stage_command,
)
from playout.rlhf.commands.prune_options import PruneOptions, drop, narrow, say_pruned
from playout.rlhf.commands.teacher_options import (
    TeacherOptions,
    check_teaching,
    load_teacher,
    say_taught,
)

if TYPE_CHECKING:
    from playout.agents.runs.directory import RunDir
    from playout.rlhf.data.rows import Row, Source


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(
    TextOptions,
    TeacherOptions,
    PruneOptions,
    AdaptedOptions,
    MicrobatchOptions,
    OptimizerOptions,
    ShardOptions,
    StageOptions,
):
    """Imitate demonstrations; the model is left in RUN/model."""

    base: RequiredRun = ""
    """Run or Hugging Face folder of the pretrained model."""
    data: Data = "auto"
    """Demonstrations: .jsonl, .json, .csv, .parquet or a folder, with `messages`, or with `prompt`
    and `response` (or `completion`); by default beginnings of reviews, real or synthetic, which a
    published or a chat model gets only by name."""
    demonstrations: OptionalFile = ""
    """The same as --data FILE."""
    steps: int = 0
    """Gradient steps; 0 leaves it to the size."""
    epochs: float = 0.0
    """Passes over the demonstrations, in place of --steps."""
    batch: int = 64
    """Demonstrations a step."""
    learning_rate: float = 0.0
    """At its highest; 0 takes 5e-4, and less for models of more than ten million parameters that
    learn as a whole (1.4e-4 at 135 million)."""


def main(command: Command) -> int:
    """Run the stage."""
    train(command)
    return 0


def sft(base: Any = "", data: Source = "", **options: Any) -> RunDir:
    """Fine-tune from Python: `playout.sft("runs/pre", [{"prompt": "2+2=", "response": "4"}])`.

    Args:
        base: Run or Hugging Face folder of the pretrained model.
        data: Rows as dictionaries, or what `--data` takes. Rows are kept in the run.
        **options: The command's flags, with underscores.

    Returns:
        The run; `playout.load(run)` answers prompts, and other stages take it as their `base`.
    """
    return train(*stage_command(Command, data, base=base, **options))


def train(command: Command, rows: list[Row] | None = None) -> RunDir:
    """Fine-tune as the command says, on `rows` if they are given."""
    from playout.agents.runs import ranks
    from playout.agents.runs.devices import resolve_device
    from playout.agents.runs.directory import RunDir
    from playout.errors import ConfigError
    from playout.rlhf.data.datasets import Datasets, choose_source
    from playout.rlhf.data.encoding import as_turns
    from playout.rlhf.generation.conversation import conversation_format
    from playout.rlhf.model.folder import load_model
    from playout.rlhf.stages.run import (
        begin_stage,
        check_usual_data,
        discarded_unused,
        export_stage,
        mark_finished,
        say_all,
        stage_source,
        train_stage,
    )
    from playout.rlhf.stages.sizes import recipe
    from playout.rlhf.supervised.sft import SFTConfig, SFTTrainer, usual_rate

    if not command.base:
        raise ConfigError("name the pretrained model: --base RUN")
    if command.steps and command.epochs:
        raise ConfigError("give --steps or --epochs, not both")
    check_shard(command, weights=command.weights in ("int8", "nf4"))
    if command.resume is None:  # runs of earlier versions go on
        check_teaching(command)
    numbers, device = recipe(command.size), resolve_device(command.device)
    file = data_file(command.data, command.demonstrations, "--demonstrations")
    source = stage_source(command, file, rows)
    if source == "":
        check_usual_data(command, command.data, command.base, what="demonstrations")
    # Runs of earlier versions divided their own data by answers and counted conversations, of
    # which a template may make several rows, or steps of a whole batch where there are fewer rows;
    # they go on with the same ones, for as many steps.
    usual = {"split": "prompt", "epochs_of": "steps"}
    kept = usual if command.resume is None else RunDir.open(command.resume).config
    by = "prompt" if "split" in kept else "response"
    model, tokenizer = load_model(command.base, ["pretrain"], device=first_device(command, device))
    if command.sparsity and command.lora_rank:
        raise ConfigError("adapters leave the weights as they are: prune without --lora-rank")
    model = narrow(command, model)
    adapt(
        model,
        command,
        seed=command.seed,
        weights=command.weights,
        dropout=command.lora_dropout,
    )
    talk = conversation_format(tokenizer, plain=command.plain)
    own, notes = None, list[str]()
    if source != "":
        # A message is no text that another runs into.
        join = command.join == "space" and not talk.speaks_in_turns
        own = Datasets("files").demonstrations(source, join=join, by=by, tell=notes.append)
    run = begin_stage(
        command,
        "sft",
        lambda: {
            "material": "files" if own else choose_source(command.data),
            **usual,
        },
        model=model,
        base=command.base,
        stages=["pretrain"],
        rows=rows,
    )
    sides = own or Datasets(run.config["material"]).demonstrations()
    steps = command.steps or numbers.sft_steps
    if command.epochs and "epochs_of" not in kept:
        steps = math.ceil(command.epochs * len(sides[0]) / command.batch)
    config = SFTConfig(
        steps=steps,
        epochs=command.epochs if "epochs_of" in kept else 0.0,
        full_batches=kept.get("epochs_of") == "rows",
        batch=command.batch,
        length=command.max_length or numbers.length,
        stretch=own is not None and not command.max_length,
        truncate=command.truncate,
        max_new_tokens=numbers.response_length,
        learn=learn_config(command, usual_rate=usual_rate(model)),
    )
    with discarded_unused(run, command):
        spread(model, command, device)
        if own and talk.speaks_in_turns:  # the texts that come with playout are to be continued
            train_side = as_turns(sides[0])
            sides = train_side, train_side if sides[1] is sides[0] else as_turns(sides[1])
        teacher = load_teacher(
            command, run, model.config, tokenizer, device=model.device, length=config.length
        )
        trainer = SFTTrainer(
            model,
            tokenizer,
            sides,
            config,
            seed=command.seed,
            folder=run.path,
            talk=talk,
            teacher=teacher,
        )
        drop(command, trainer)
    say_all(notes)
    steps = trainer.learner.total_steps
    train_stage(trainer, run, updates=steps, evaluations=6, quiet=command.quiet)
    export_stage(run, model, tokenizer, base=command.base, stages=["pretrain"])
    if not command.quiet and ranks.is_first():
        say_taught(command, run)
        say_pruned(command, trainer, model)
    mark_finished(run, quiet=command.quiet)
    return run
