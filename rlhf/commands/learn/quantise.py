"""Hold a model's weights in few bits: a run like any other, measured beside the original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from playout.agents.runs.options import TrainingOptions, run_options_last
from playout.rlhf.commands.options import OptionalFile, RequiredRun
from playout.rlhf.stages.paths import located, whole
from tyro.conf import arg

if TYPE_CHECKING:
    from playout.agents.runs.directory import RunDir


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TrainingOptions):
    """Quantise a model; RUN/model holds the codes, and everything that takes a run takes it."""

    base: RequiredRun = ""
    """Run or Hugging Face folder of the model."""
    weights: Annotated[Literal["int8", "nf4"], arg(metavar="int8|nf4")] = "int8"
    """8 bits and a scale a row, or 4 bits and a scale for every 64 weights; of embeddings and gains
    16 bits."""
    texts: OptionalFile = ""
    """Texts on which both are measured in bits a byte, as `playout rlhf perplexity` counts them."""

    kept, found = staticmethod(whole), staticmethod(located)


def main(command: Command) -> int:
    """Run the stage."""
    train(command)
    return 0


def train(command: Command) -> RunDir:
    """Quantise as the command says."""
    import json

    from playout.agents.runs.checkpoint.durable_io import replace_file
    from playout.agents.runs.devices import resolve_device
    from playout.errors import ConfigError
    from playout.rlhf.commands.answer_options import answer_dtype
    from playout.rlhf.data.records import read_texts
    from playout.rlhf.model.adapters.held import (
        held_type,
        hold_weights,
        is_quantised,
        weight_bytes,
    )
    from playout.rlhf.model.folder import export_model, load_model
    from playout.rlhf.model.transformer import Transformer
    from playout.rlhf.stages.run import check_base, discarded_unused, mark_finished, open_stage
    from playout.rlhf.supervised.perplexity import of_texts, summed

    if not command.base:
        raise ConfigError("name the model: --base RUN")
    device = resolve_device(command.device)
    model, tokenizer = load_model(command.base, device=device)
    if is_quantised(model):
        raise ConfigError(f"{command.base} is quantised already")
    texts = read_texts(command.texts) if command.texts else []
    run = open_stage(command, "quantise", lambda: _game_of(command.base))
    check_base(run, command.base)
    dtype = answer_dtype(command.dtype, device)

    def row(name: str, measured: Transformer) -> dict[str, Any]:
        found = {"weights": name, "bytes": weight_bytes(measured)}
        if texts:
            each = of_texts(measured, tokenizer, texts, name=command.texts, dtype=dtype)
            found["bits_per_byte"] = summed(each).measures()["bits_per_byte"]
        return found

    with discarded_unused(run, command):
        table = [row("float32", model)]
        hold_weights(model.requires_grad_(False), held_type(command.weights))
        table.append(row(command.weights, model))
    export_model(run.path / "model", model, tokenizer)
    replace_file(run.path / "table.json", json.dumps(table, indent=2).encode())
    if not command.quiet:
        for one in table:
            bits = f", {one['bits_per_byte']:.4f} bits a byte" if texts else ""
            print(f"{one['weights']}: {one['bytes'] / 1e6:.2f} MB of weights{bits}", flush=True)
    mark_finished(run, quiet=command.quiet)
    return run


def _game_of(base: str) -> dict[str, Any]:
    """In which game the base learned, if in one: its codes play it as well."""
    from pathlib import Path

    from playout.agents.runs.directory import RunDir
    from playout.rlhf.environments.load import GOAL_TOLD, stored_options
    from playout.rlhf.stages.sizes import response_length

    if not RunDir.is_run(Path(base)):
        return {}
    run = RunDir.open(Path(base))
    config = run.config if run.config.get("env") else run.whole.config
    if not config.get("env"):
        return {}
    shown = {"env": config["env"], "env_options": stored_options(config), GOAL_TOLD: True}
    if "max_new_tokens" not in config:
        return shown
    for name in ("plain_text", "stop", "constrained"):
        if name in config:
            shown[name] = config[name]
    return {**shown, "max_new_tokens": response_length(config)}
