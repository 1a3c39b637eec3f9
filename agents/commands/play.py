"""Play against a run in the terminal, or watch it act; its kind does the work (runs/kinds.py)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import PlayOptions, find_kind
from playout.agents.runs.options import check_device, run_options_last
from playout.own_code import trust_modules
from tyro.conf import Positional, arg


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(PlayOptions):
    """Play against a run, watch it act, or talk to it.

    For example:
      playout play runs/demo                       you against a run that learned a game
      playout play runs/demo --opponent uct:500    watch it against another player
      playout play runs/cartpole                   pictures of an episode
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
    find_kind(run, wanted="play").play(run, command, game=command.game)
    return 0
