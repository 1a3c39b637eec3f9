"""Play against a run in the terminal, or watch it act; its kind does the work (runs/kinds.py)."""

from dataclasses import dataclass
from pathlib import Path

from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import PlayOptions, find_kind
from tyro.conf import Positional


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(PlayOptions):
    """Play against a run, or watch it."""

    run: Positional[Path]
    """A run directory."""


def main(command: Command) -> int:
    """Hand over to the run's kind."""
    run = RunDir.open(command.run)
    find_kind(run, wanted="play").play(run, command)
    return 0
