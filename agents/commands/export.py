"""Write a run's network for other programs; its kind knows how (see runs/kinds.py)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import ExportOptions, find_kind
from playout.agents.runs.options import check_device, run_options_last
from playout.errors import ConfigError
from playout.own_code import trust_modules
from tyro.conf import Positional, arg


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(ExportOptions):
    """Write a run's network for other programs.

    For example:
      playout export runs/demo                                  inside the run, ONNX if it can be
      playout export runs/demo --format safetensors --out net.safetensors
      playout export runs/demo --quantise nf4 --out runs/demo-nf4       a run of 4 bits a weight
      playout export runs/demo --format onnx --quantise int8            products of bytes
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """A run directory."""

    game: Annotated[str | None, arg(metavar="GAME", help_behavior_hint="")] = None
    """The game, where the run cannot name it: module:Name of what makes it."""


def main(command: Command) -> int:
    """Hands over to the run's kind."""
    if command.game is not None:
        trust_modules(command.game)
    check_device(command)
    run = RunDir.open(command.run)
    if command.quantise is not None and run.kind == "ppo":
        raise ConfigError("--quantise is for language models, alphazero and pretrain-trunk")
    if command.quantise == "dynamic" and run.kind.startswith("rlhf."):
        raise ConfigError("--quantise dynamic is for board networks; of a language model int8, nf4")
    if command.format == "run" and command.quantise is None:
        raise ConfigError("--format run holds weights in few bits: say --quantise int8 or nf4")
    find_kind(run, wanted="export").export(run, command, game=command.game)
    return 0
