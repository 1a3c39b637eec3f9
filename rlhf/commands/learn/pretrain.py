"""Pretrain a Transformer on raw text: a decoder by next tokens, or an encoder by masked ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from playout.agents.runs.options import TrainingOptions, run_options_last
from playout.rlhf.commands.options import Data, Size
from tyro.conf import arg

if TYPE_CHECKING:
    from playout.rlhf.generation.tokenizer import Tokenizer
    from playout.rlhf.model.transformer import TransformerConfig
    from playout.rlhf.supervised.pretrain import MaskedTrainer, PretrainConfig, PretrainTrainer


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TrainingOptions):
    """Pretrain on text; the model is left in RUN/model."""

    text: Annotated[tuple[str, ...], arg(metavar="FILE", help_behavior_hint="")] = ()
    """Files (.txt; .jsonl or .csv with the field `text`) or data sets such as shakespeare."""
    size: Size = "small"
    """Sets the model and everything else that is not given."""
    data: Data = "auto"
    """Which texts, if --text names none."""
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
    from playout.errors import DataError
    from playout.rlhf.data.datasets import Datasets, choose_source
    from playout.rlhf.generation.tokenizer import Tokenizer
    from playout.rlhf.model.folder import export_model
    from playout.rlhf.stages.run import mark_finished, open_stage, own_tokenizer, train_stage
    from playout.rlhf.stages.sizes import recipe

    numbers = recipe(command.size)
    run = open_stage(
        command,
        "pretrain",
        lambda: {"material": "files" if command.text else choose_source(command.data)},
    )
    texts, heldout = Datasets(run.config["material"]).texts(command.text)
    if not texts or not heldout:
        raise DataError("there are too few texts to hold some out; give at least a few dozen")

    def make() -> Tokenizer:
        if command.tokenizer:
            return Tokenizer.load(command.tokenizer)
        return Tokenizer.train(texts, vocab_size=numbers.vocab_size)

    tokenizer = own_tokenizer(run, make)
    build = _encoder if command.encoder else _decoder
    trainer = build(command, tokenizer, texts, heldout)
    train_stage(trainer, run, updates=trainer.config.steps, evaluations=10, quiet=command.quiet)
    heads = {name: part for name, part in trainer.parts.items() if name != "model"}
    export_model(
        run.path / "model",
        trainer.model,
        tokenizer,
        heads={"mlm": heads["head"]} if heads else {},
    )
    mark_finished(run, quiet=command.quiet)
    return 0


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
