"""Write a run's network for other programs; its kind knows how (see runs/kinds.py)."""

from dataclasses import dataclass
from pathlib import Path

from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import ExportOptions, find_kind
from tyro.conf import Positional


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(ExportOptions):
    """Write a run's network for other programs."""

    run: Positional[Path]
    """A run directory."""


def main(command: Command) -> int:
    """Hand over to the run's kind."""
    run = RunDir.open(command.run)
    find_kind(run, wanted="export").export(run, command)
    return 0
