"""Pretrain a Transformer on raw text: a decoder by next tokens, or an encoder by masked ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from playout.agents.runs.options import run_options_last
from playout.rlhf.commands.memory_options import MicrobatchOptions
from playout.rlhf.commands.options import Data, Size, StageOptions, data_file, stage_command
from tyro.conf import arg

if TYPE_CHECKING:
    from collections.abc import Iterable

    from playout.agents.runs.directory import RunDir
    from playout.rlhf.data.rows import Row, Source
    from playout.rlhf.generation.tokenizer import Tokenizer
    from playout.rlhf.model.transformer import TransformerConfig
    from playout.rlhf.supervised.pretrain import MaskedTrainer, PretrainConfig, PretrainTrainer


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(MicrobatchOptions, StageOptions):
    """Pretrain on text; the model is left in RUN/model."""

    text: Annotated[tuple[str, ...], arg(metavar="FILE", help_behavior_hint="")] = ()
    """Files (.txt; .jsonl, .csv or .parquet with the field `text`), folders of such, or data sets
    such as shakespeare."""
    size: Size = "small"
    """Sets the model and everything else that is not given."""
    data: Data = "auto"
    """Which texts, if --text names none; or a file of them."""
    tokenizer: Annotated[str, arg(metavar="FOLDER", help_behavior_hint="")] = ""
    """Folder of a tokenizer to use instead of learning one."""
    encoder: bool = False
    """Pretrain an encoder by masked tokens."""
    pairs: bool = False
    """With --encoder: also predict whether the second half of a row follows the first."""
    steps: int = 0
    """Gradient steps; 0 leaves it to the size."""
    rows: int = 16
    """Rows a step."""
    length: int = 0
    """Tokens a row; 0 leaves it to the size."""
    learning_rate: float = 2e-3
    """At its highest."""
    compile: bool = False
    """Compile the model first."""


def main(command: Command) -> int:
    """Run the stage."""
    train(command)
    return 0


def pretrain(text: Source | Iterable[str] = "", **options: Any) -> RunDir:
    """Pretrain from Python: `playout.pretrain(["a text", ...], size="tiny")`.

    Args:
        text: Texts, rows with the field `text`, or what `--data` takes. Rows are kept in the run.
        **options: The command's flags, with underscores.

    Returns:
        The run; other stages take it as their `base`.
    """
    return train(*stage_command(Command, text, **options))


def train(command: Command, rows: list[Row] | None = None) -> RunDir:
    """Pretrain as the command says, on the texts of `rows` if they are given."""
    from playout.errors import DataError
    from playout.rlhf.data.datasets import HELD_OUT, Datasets, choose_source, hold_out
    from playout.rlhf.data.records import read_texts
    from playout.rlhf.generation.tokenizer import Tokenizer
    from playout.rlhf.model.folder import export_model
    from playout.rlhf.stages.run import (
        discarded_unused,
        mark_finished,
        open_stage,
        own_tokenizer,
        stage_source,
        train_stage,
    )
    from playout.rlhf.stages.sizes import recipe
    from playout.rlhf.stages.threads import set_threads

    numbers = recipe(command.size)
    file = data_file(command.data, " ".join(command.text), "--text")
    own = None
    if command.text:
        own = Datasets("files").texts(command.text)
        if not all(own):
            raise DataError("there are too few texts to hold some out; give at least a few dozen")
    elif (source := stage_source(command, file, rows)) != "":
        own = hold_out(read_texts(source), HELD_OUT, texts=lambda text: [text])
    run = open_stage(
        command,
        "pretrain",
        lambda: {"material": "files" if own else choose_source(command.data)},
        rows=rows,
    )
    texts, heldout = own or Datasets(run.config["material"]).texts()

    def make() -> Tokenizer:
        if command.tokenizer:
            return Tokenizer.load(command.tokenizer)
        return Tokenizer.train(texts, vocab_size=numbers.vocab_size)

    tokenizer = own_tokenizer(run, make)
    build = _encoder if command.encoder else _decoder
    with discarded_unused(run, command):
        trainer = build(command, tokenizer, texts, heldout)
    trainer.model.recompute = command.checkpoint_activations
    set_threads(run, trainer.model.config.hidden_size, command.threads)
    train_stage(trainer, run, updates=trainer.config.steps, evaluations=10, quiet=command.quiet)
    heads = {name: part for name, part in trainer.parts.items() if name != "model"}
    export_model(
        run.path / "model",
        trainer.model,
        tokenizer,
        heads={"mlm": heads["head"]} if heads else {},
    )
    mark_finished(run, quiet=command.quiet)
    return run


def _config(command: Command, tokenizer: Tokenizer) -> tuple[TransformerConfig, PretrainConfig]:
    """Shape of the model and size of the run."""
    from playout.rlhf.model.transformer import sized_config
    from playout.rlhf.stages.sizes import recipe
    from playout.rlhf.supervised.pretrain import PretrainConfig
    from playout.rlhf.supervised.trainer import LearnConfig

    numbers = recipe(command.size)
    shape = sized_config(
        numbers.model,
        tokenizer.vocab_size,
        causal=not command.encoder,
        pad_token_id=tokenizer.pad_id,
        bos_token_id=tokenizer.end_id,
        eos_token_id=tokenizer.end_id,
    )
    config = PretrainConfig(
        steps=command.steps or numbers.pretrain_steps,
        rows=command.rows,
        length=min(command.length or numbers.length, shape.max_position_embeddings),
        compile=command.compile,
        learn=LearnConfig(
            learning_rate=command.learning_rate,
            weight_decay=0.1,
            dtype=command.dtype,
            microbatch=command.microbatch,
        ),
    )
    return shape, config


def _decoder(
    command: Command, tokenizer: Tokenizer, texts: list[str], heldout: list[str]
) -> PretrainTrainer:
    from playout.agents.runs.devices import resolve_device
    from playout.rlhf.data.batches import Corpus
    from playout.rlhf.model.transformer import Transformer
    from playout.rlhf.supervised.pretrain import PretrainTrainer

    shape, config = _config(command, tokenizer)
    return PretrainTrainer(
        Transformer(shape, seed=command.seed).to(resolve_device(command.device)),
        Corpus.of(tokenizer, texts),
        Corpus.of(tokenizer, heldout[:400]),
        config,
        seed=command.seed,
    )


def _encoder(
    command: Command, tokenizer: Tokenizer, texts: list[str], heldout: list[str]
) -> MaskedTrainer:
    from playout.agents.runs.devices import resolve_device
    from playout.rlhf.model.heads import MaskedTokenHead
    from playout.rlhf.model.transformer import Transformer
    from playout.rlhf.supervised.pretrain import MaskedTrainer

    shape, config = _config(command, tokenizer)
    device = resolve_device(command.device)
    return MaskedTrainer(
        Transformer(shape, seed=command.seed).to(device),
        MaskedTokenHead(shape, seed=command.seed + 1).to(device),
        tokenizer,
        (texts, heldout),
        config,
        pairs=command.pairs,
        seed=command.seed,
    )
