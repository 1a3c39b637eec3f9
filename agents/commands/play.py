"""Play against a run in the terminal, or watch it act (see agents/players/load.py)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from playout.agents.players.load import verb
from playout.agents.runs.directory import RunDir
from tyro.conf import Positional, arg


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Play against a run, or watch it."""

    run: Positional[Path]
    """A run directory."""

    which: str = "best"
    """Checkpoint: best, latest or its number."""

    simulations: Annotated[int | None, arg(metavar="N")] = None
    """Games: search simulations a move."""

    second: bool = False
    """Games: let the run move first."""

    opponent: str = "human"
    """Games: who plays against the run; human is you."""

    episodes: Annotated[int | None, arg(metavar="N")] = None
    """Environments: how many episodes to watch."""

    out: Annotated[Path | None, arg(metavar="PATH")] = None
    """Environments: write pictures or a video here instead of opening a window."""

    seed: int = 0
    """Seed of the environment and of ties."""


def main(command: Command) -> int:
    """Hand over to the run's kind."""
    run = RunDir.open(command.run)
    return int(verb(run, "play")(run, command) or 0)
