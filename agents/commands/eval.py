"""Measure how good a run is; what that means depends on its kind (runs/kinds.py)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import EvalOptions, find_kind
from playout.agents.runs.reporting import must_be_writable, write_json
from tyro.conf import Positional, arg


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(EvalOptions):
    """Measure how good a run is."""

    run: Positional[Path]
    """A run directory."""

    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write the result to this file."""


def main(command: Command) -> int:
    """Hand over to the run's kind, and write what it found."""
    run = RunDir.open(command.run)
    if command.json is not None:
        must_be_writable(command.json)
    found = find_kind(run, wanted="eval").evaluate(run, command)
    if command.json is not None:
        write_json(command.json, found)
    return 0
