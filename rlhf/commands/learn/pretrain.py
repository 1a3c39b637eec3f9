"""Pretrain a Transformer on raw text: a decoder by next tokens, or an encoder by masked ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from playout.agents.runs.options import run_options_last
from playout.rlhf.commands.curation_options import (
    CurationOptions,
    Texts,
    check_curation,
    curated,
    mixed_texts,
    say_passes,
)
from playout.rlhf.commands.encoder_options import EncoderOptions, check_encoder
from playout.rlhf.commands.memory_options import (
    MicrobatchOptions,
    ShardOptions,
    check_shard,
    first_device,
    spread,
)
from playout.rlhf.commands.options import (
    Data,
    OptimizerOptions,
    RouterOptions,
    Size,
    StageOptions,
    check_beside,
    data_file,
    learn_config,
    stage_command,
)
from playout.rlhf.commands.prune_options import PruneOptions, check_pruning, drop, narrow
from playout.rlhf.commands.teacher_options import TeacherOptions, check_teaching, load_teacher
from tyro.conf import arg

if TYPE_CHECKING:
    from collections.abc import Iterable

    from playout.agents.runs.directory import RunDir
    from playout.rlhf.data.rows import Row, Source
    from playout.rlhf.generation.tokenizer import Tokenizer
    from playout.rlhf.model.transformer import TransformerConfig
    from playout.rlhf.supervised.pretrain import MaskedTrainer, PretrainConfig, PretrainTrainer


@dataclass(frozen=True, kw_only=True)
class ShapeOptions:
    """The shape of a new model; 0 leaves a number to the size."""

    hidden_size: int = 0
    """Width of the model; 0 leaves it, like the following, to the size."""
    layers: int = 0
    """Depth."""
    heads: int = 0
    """Attention heads; they divide the width."""
    kv_heads: int = 0
    """Key and value heads; they divide the heads, and fewer of them save memory in decoding."""
    intermediate_size: int = 0
    """Width inside the feed-forward layers; 0 with --hidden-size: 8/3 of that."""
    vocab_size: int = 0
    """Tokens of the vocabulary that is learned."""
    context: int = 0
    """Longest text that the model reads, in tokens; rows are as long unless --length says less."""
    qk_norm: bool = False
    """Normalise every query and key head, as Qwen3 does: heads that look at fixed places, as boards
    and tables ask for, come about sooner."""
    rope_theta: float = 0.0
    """Base of the rotary wavelengths; 0 takes 10000. Short texts are told apart better by less."""
    experts: int = 0
    """Mixture of so many experts in every layer; unless --intermediate-size gives their width, the
    chosen ones together cost a token what one feed-forward layer would."""
    active: int = 0
    """With --experts: how many of them a token goes to; 0 takes 2."""


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(
    CurationOptions,
    ShapeOptions,
    RouterOptions,
    TeacherOptions,
    PruneOptions,
    EncoderOptions,
    MicrobatchOptions,
    OptimizerOptions,
    ShardOptions,
    StageOptions,
):
    """Pretrain on text; the model is left in RUN/model."""

    text: Annotated[tuple[str, ...], arg(metavar="FILE", help_behavior_hint="")] = ()
    """Files (.txt; .jsonl, .csv or .parquet with the field `text`), folders of such, or data sets
    such as shakespeare."""
    size: Size = "small"
    """Sets the model and everything else that is not given."""
    data: Data = "auto"
    """Which texts, if --text names none; or a file of them."""
    base: Annotated[str, arg(metavar="RUN", help_behavior_hint="")] = ""
    """Run or Hugging Face folder of a model to train on, instead of a new one."""
    tokenizer: Annotated[str, arg(metavar="FOLDER", help_behavior_hint="")] = ""
    """Folder of a tokenizer to use instead of learning one."""
    steps: int = 0
    """Gradient steps; 0 leaves it to the size."""
    rows: int = 16
    """Rows a step."""
    length: int = 0
    """Tokens a row; 0 leaves it to the size."""
    learning_rate: float = 2e-3
    """At its highest."""
    weight_decay: float = 0.1
    """As in other stages: of the weights, a step and a unit of learning rate."""
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
    from playout.agents.runs import ranks
    from playout.rlhf.commands.prune_options import say_pruned
    from playout.rlhf.commands.teacher_options import say_taught
    from playout.rlhf.data.datasets import HELD_OUT, Datasets, choose_source, hold_out
    from playout.rlhf.data.records import read_texts
    from playout.rlhf.generation.tokenizer import Tokenizer
    from playout.rlhf.model.folder import export_model, model_folder
    from playout.rlhf.model.sharding import whole_model
    from playout.rlhf.model.transformer import Transformer
    from playout.rlhf.stages.run import (
        check_usual_data,
        discarded_unused,
        mark_finished,
        open_stage,
        own_tokenizer,
        say_all,
        stage_source,
        train_stage,
    )
    from playout.rlhf.stages.sizes import recipe
    from playout.rlhf.stages.threads import set_threads

    _check_shape(command)
    check_shard(command, compile=command.compile)
    numbers = recipe(command.size)
    file = data_file(command.data, " ".join(command.text), "--text")
    own, notes = None, list[str]()
    mixed = mixed_texts(command, tell=notes.append)
    if command.text:
        own = Datasets("files").texts(command.text, tell=notes.append)
    elif (source := stage_source(command, file, rows)) != "":
        own = hold_out(read_texts(source), HELD_OUT, texts=lambda text: [text], tell=notes.append)
    elif command.base and mixed is None:
        check_usual_data(command, command.data, command.base, what="texts", flag="--text")
    run = open_stage(
        command,
        "pretrain",
        lambda: {"material": "files" if own or mixed else choose_source(command.data)},
        rows=rows,
    )
    if mixed is None:
        train_side, heldout = own or Datasets(run.config["material"]).texts()
        mixed = Texts({"": train_side}, {"": heldout}, {})

    def make() -> Tokenizer:
        if model := command.base or command.teacher:
            return Tokenizer.load(command.tokenizer or model_folder(model))
        if command.tokenizer:
            return Tokenizer.load(command.tokenizer)
        return Tokenizer.train(texts.learned, vocab_size=command.vocab_size or numbers.vocab_size)

    with discarded_unused(run, command):
        texts = curated(command, mixed, run, quiet=command.quiet, seed=command.seed)
        tokenizer = own_tokenizer(run, make)
        trainer: PretrainTrainer | MaskedTrainer
        if command.encoder:
            trainer = _encoder(command, tokenizer, texts)
        else:
            trainer = _decoder(command, tokenizer, texts, run)
    trainer.model.recompute = command.checkpoint_activations
    set_threads(run, trainer.model.config.hidden_size, command.threads)
    say_all(notes)
    train_stage(trainer, run, updates=trainer.config.steps, evaluations=10, quiet=command.quiet)
    found = {name: whole_model(part) for name, part in trainer.parts.items()}

    def write() -> None:
        model, head = found["model"], found.get("head")
        assert isinstance(model, Transformer)
        heads = {} if head is None else {"mlm": head}
        export_model(run.path / "model", model, tokenizer, heads=heads)

    ranks.by_first(write)
    if not command.quiet and ranks.is_first():
        say_taught(command, run)
        say_pruned(command, trainer, trainer.model)
    mark_finished(run, quiet=command.quiet)
    return run


def _shape(command: Command, vocab_size: int, **tokens: int) -> TransformerConfig:
    """The shape of a new model, as the size and the options say."""
    from dataclasses import replace

    from playout.rlhf.model.transformer import sized_config
    from playout.rlhf.stages.sizes import recipe

    sized = sized_config(
        recipe(command.size).model, vocab_size, causal=not command.encoder, **tokens
    )
    hidden = command.hidden_size or sized.hidden_size
    heads = command.heads or sized.num_attention_heads
    kv_heads = command.kv_heads or sized.num_key_value_heads
    if not command.kv_heads and heads % kv_heads:
        kv_heads = heads
    inner = command.intermediate_size or sized.intermediate_size
    if command.hidden_size and not command.intermediate_size:
        inner = -(-8 * hidden // 24) * 8  # 8/3 of the width, a multiple of eight
    mixture: dict[str, Any] = {"model_type": "qwen3"} if command.qk_norm else {}
    if command.experts:
        active = command.active or min(2, command.experts)
        if not command.intermediate_size:
            inner = -(-inner // (8 * active)) * 8
        mixture = {
            "model_type": "mixtral",
            "num_experts": command.experts,
            "num_experts_per_tok": active,
            "router_aux_loss_coef": command.router_balance,
            "router_z_loss_coef": command.router_z,
        }
    return replace(
        sized,
        **mixture,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=command.layers or sized.num_hidden_layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=0,
        rope_theta=command.rope_theta or sized.rope_theta,
        qk_norm=command.qk_norm,
        max_position_embeddings=command.context or sized.max_position_embeddings,
    )


def _check_shape(command: Command) -> None:
    """Refuse, before anything is made, options that no model or vocabulary can have."""
    from dataclasses import fields

    from playout.errors import ConfigError
    from playout.rlhf.generation.tokenizer import MIN_VOCAB_SIZE

    given = [
        f"--{field.name.replace('_', '-')}"
        for field in fields(ShapeOptions)
        if getattr(command, field.name)
    ]
    if command.base and (given or command.tokenizer or command.encoder):
        also = (given or ["--tokenizer" if command.tokenizer else "--encoder"])[0]
        raise ConfigError(f"{also} shapes a new model; leave it out with --base")
    if command.qk_norm and (command.encoder or command.experts):
        raise ConfigError("--qk-norm is for decoders without experts")
    resumed = command.resume is not None  # runs of earlier versions go on
    check_encoder(command, earlier=resumed)
    if not resumed:
        check_pruning(command, base=bool(command.base))
        check_curation(command)
        check_teaching(command)
        if not command.experts:
            check_beside(command, "--experts", "router_balance", "router_z")
    if command.compile and command.encoder and not resumed:
        raise ConfigError("--compile is for decoders; leave it out with --encoder")
    if command.corpus and command.encoder:
        raise ConfigError("an encoder learns from one corpus; give --text")
    if command.teacher and command.encoder:
        raise ConfigError("a teacher predicts next tokens, an encoder masked ones")
    if command.active and not command.experts:
        raise ConfigError("--active chooses among experts; say how many there are: --experts 8")
    if command.corpus and (command.text or command.data != "auto"):
        raise ConfigError("--corpus names all texts; leave out --text and --data")
    if command.teacher and command.vocab_size:
        raise ConfigError("the vocabulary is the teacher's; leave out --vocab-size")
    if command.tokenizer and command.vocab_size:
        raise ConfigError("--vocab-size is that of a new vocabulary; leave it out with --tokenizer")
    if command.vocab_size and command.vocab_size < MIN_VOCAB_SIZE:
        raise ConfigError(f"--vocab-size must be at least {MIN_VOCAB_SIZE}")
    shape = _shape(command, MIN_VOCAB_SIZE)
    if command.context == 1 or command.length > shape.max_position_embeddings:
        raise ConfigError(
            f"rows of {command.length or 1} tokens do not fit a context of "
            f"{shape.max_position_embeddings}; give --context"
        )


def _size(command: Command, context: int) -> PretrainConfig:
    """The size of the run, with rows that fit a context."""
    from playout.rlhf.stages.sizes import recipe
    from playout.rlhf.supervised.pretrain import PretrainConfig

    numbers = recipe(command.size)
    return PretrainConfig(
        steps=command.steps or numbers.pretrain_steps,
        rows=command.rows,
        length=min(command.length or command.context or numbers.length, context),
        compile=command.compile,
        mask=command.mask,
        learn=learn_config(command),
    )


def _new_shape(command: Command, tokenizer: Tokenizer) -> TransformerConfig:
    return _shape(
        command,
        tokenizer.vocab_size,
        pad_token_id=tokenizer.pad_id,
        bos_token_id=tokenizer.end_id,
        eos_token_id=tokenizer.end_id,
    )


def _decoder(command: Command, tokenizer: Tokenizer, texts: Texts, run: RunDir) -> PretrainTrainer:
    from playout.agents.runs.devices import resolve_device
    from playout.errors import ConfigError
    from playout.rlhf.model.adapters.held import is_quantised
    from playout.rlhf.model.folder import load_model
    from playout.rlhf.model.transformer import Transformer
    from playout.rlhf.supervised.pretrain import PretrainTrainer

    device = resolve_device(command.device)
    home = first_device(command, device)
    if command.base:
        model, _ = load_model(command.base, device=home)
        if is_quantised(model):
            raise ConfigError(f"{command.base} is quantised and cannot learn; train what it was")
        model = narrow(command, model)
    else:
        model = Transformer(_new_shape(command, tokenizer), seed=command.seed).to(home)
    size = _size(command, model.config.max_position_embeddings)
    train, heldout, each = texts.corpora(tokenizer)
    if not command.quiet:
        say_passes(texts, train, size.steps * size.rows * size.length)
    spread(model, command, device)
    trainer = PretrainTrainer(
        model,
        train,
        heldout,
        size,
        seed=command.seed,
        teacher=load_teacher(
            command, run, model.config, tokenizer, device=device, length=size.length
        ),
        each=each,
    )
    drop(command, trainer)
    return trainer


def _encoder(command: Command, tokenizer: Tokenizer, texts: Texts) -> MaskedTrainer:
    from playout.agents.runs.devices import resolve_device
    from playout.rlhf.model.heads import MaskedTokenHead
    from playout.rlhf.model.transformer import Transformer
    from playout.rlhf.supervised.pretrain import MaskedTrainer

    shape = _new_shape(command, tokenizer)
    device = resolve_device(command.device)
    home = first_device(command, device)
    model = Transformer(shape, seed=command.seed).to(home)
    head = MaskedTokenHead(shape, seed=command.seed + 1).to(home)
    for part in (model, head):
        spread(part, command, device)
    return MaskedTrainer(
        model,
        head,
        tokenizer,
        (texts.learned, texts.examined),
        _size(command, shape.max_position_embeddings),
        pairs=command.pairs,
        seed=command.seed,
    )
