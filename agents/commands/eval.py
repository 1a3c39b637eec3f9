"""Measure how good a run is; what that means depends on its kind (see agents/players/load.py)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from playout.agents.players.load import verb
from playout.agents.runs.directory import RunDir
from tyro.conf import Positional, arg


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Measure how good a run is."""

    run: Positional[Path]
    """A run directory."""

    which: str = "best"
    """Checkpoint: best, latest or its number."""

    episodes: Annotated[int | None, arg(metavar="N")] = None
    """Episodes or games to play; by default enough for a narrow interval."""

    simulations: Annotated[int | None, arg(metavar="N")] = None
    """Games: search simulations a move; 0 for the bare policy."""

    opponents: tuple[str, ...] = ()
    """Games: whom to meet, such as random, uct:500 or another run."""

    stochastic: bool = False
    """Sample actions instead of taking the likeliest."""

    seed: int = 0
    """Seed of environments and openings."""

    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write the result to this file."""


def main(command: Command) -> int:
    """Hand over to the run's kind."""
    run = RunDir.open(command.run)
    return int(verb(run, "eval")(run, command) or 0)
