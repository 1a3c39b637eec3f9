"""Pretrain a Transformer on raw text: a decoder by next tokens, or an encoder by masked ones."""

from dataclasses import dataclass
from typing import Any

from playout.agents.runs.options import TrainingOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TrainingOptions):
    """Pretrain on text; the model is left in RUN/model."""

    size: str = "small"
    """tiny, small, base or large: sets everything that is not given."""
    data: str = "auto"
    """auto, real or synthetic: which texts, if --text names none."""
    text: tuple[str, ...] = ()
    """Data sets or files (.txt, .jsonl, .csv) to learn from."""
    tokenizer: str = ""
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
    dtype: str = "auto"
    """float32, bfloat16 or auto."""
    compile: bool = False
    """Compile the model first."""


def main(command: Command) -> int:
    """Run the stage."""
    from playout.agents.runs.loop import train
    from playout.rlhf.data.splits import Material, resolve
    from playout.rlhf.generation.tokenizer import Tokenizer
    from playout.rlhf.sizes import recipe
    from playout.rlhf.stage import export_model, finish, interval, own_tokenizer, start

    numbers = recipe(command.size)
    run = start(
        command,
        "pretrain",
        lambda: {"material": "files" if command.text else resolve(command.data)},
    )
    texts, heldout = Material(run.config["material"]).texts(command.text)
    _check(texts, heldout)

    def make() -> Tokenizer:
        if command.tokenizer:
            return Tokenizer.load(command.tokenizer)
        return Tokenizer.train(texts, vocab_size=numbers.vocab_size)

    tokenizer = own_tokenizer(run, make)
    build = _encoder if command.encoder else _decoder
    trainer = build(command, tokenizer, texts, heldout)
    heads = {"mlm": trainer.head} if command.encoder else {}
    every = interval(trainer.config.steps, 10)
    train(trainer, run, eval_every=every, save_every=30.0, console=not command.quiet)
    export_model(run.path / "model", trainer.model, tokenizer, heads=heads)
    finish(run)
    return 0


def _check(texts: list[str], heldout: list[str]) -> None:
    from playout.errors import DataError

    if not texts or not heldout:
        raise DataError("there are too few texts to hold some out; give at least a few dozen")


def _config(command: Command, tokenizer: Any) -> tuple[Any, Any]:
    """Shape of the model and size of the run."""
    from playout.rlhf.model.transformer import sized_config
    from playout.rlhf.sizes import recipe
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


def _decoder(command: Command, tokenizer: Any, texts: list[str], heldout: list[str]) -> Any:
    from playout.rlhf.data.batches import Corpus
    from playout.rlhf.model.transformer import Transformer
    from playout.rlhf.supervised.pretrain import PretrainTrainer

    shape, config = _config(command, tokenizer)
    return PretrainTrainer(
        Transformer(shape, seed=command.seed),
        Corpus.of(tokenizer, texts),
        Corpus.of(tokenizer, heldout[:400]),
        config,
        seed=command.seed,
    )


def _encoder(command: Command, tokenizer: Any, texts: list[str], heldout: list[str]) -> Any:
    from playout.rlhf.model.heads import MaskedTokenHead
    from playout.rlhf.model.transformer import Transformer
    from playout.rlhf.supervised.pretrain import MaskedTrainer

    shape, config = _config(command, tokenizer)
    return MaskedTrainer(
        Transformer(shape, seed=command.seed),
        MaskedTokenHead(shape, seed=command.seed + 1),
        tokenizer,
        (texts, heldout),
        config,
        pairs=command.pairs,
        seed=command.seed,
    )
