"""Write a run's network in a format that other programs read (see agents/players/load.py)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from playout.agents.players.load import verb
from playout.agents.runs.directory import RunDir
from tyro.conf import Positional, arg


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Write a run's network for other programs."""

    run: Positional[Path]
    """A run directory."""

    out: Annotated[Path | None, arg(metavar="PATH")] = None
    """File or folder to write; by default one named after the format inside the run."""

    which: str = "best"
    """Checkpoint: best, latest or its number."""

    format: Annotated[
        Literal["onnx", "safetensors", "hf"] | None, arg(metavar="{onnx,safetensors,hf}")
    ] = None
    """ONNX, bare safetensors, or a Hugging Face folder; by default what suits the kind."""

    check: bool = True
    """Compare the exported network's answers with the original's."""


def main(command: Command) -> int:
    """Hand over to the run's kind."""
    run = RunDir.open(command.run)
    return int(verb(run, "export")(run, command) or 0)
