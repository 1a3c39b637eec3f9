"""Play for a run that learns elsewhere: `playout selfplay --from RUN --into FOLDER`.

The learner is `playout alphazero GAME --games-from FOLDER`, on this machine or another one that
sees both folders. Any number of these programs may come and go. What one does stands in
agents/alphazero/selfplay/actors/actor.py.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from playout.agents.alphazero.settings import stored_config
from playout.agents.runs.options import MachineOptions, check_device, run_options_last
from playout.errors import ConfigError
from tyro.conf import arg


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(MachineOptions):
    """Play with the newest network of RUN, as it learns, and publish the games in FOLDER.

    For example:
      playout alphazero connect_four --games-from games --run runs/four     the learner
      playout selfplay --from runs/four --into games                        an actor, and another

    A hundred of them need to know nothing of one another, and any may be killed at any time.
    """

    source: Annotated[Path, arg(name="from", metavar="RUN")]
    """The run that learns; of its checkpoints the newest one plays."""

    into: Annotated[Path, arg(metavar="FOLDER")]
    """Where games go; it belongs to one run, and is made if it is not there."""

    minutes: Annotated[float | None, arg(metavar="MINUTES", help_behavior_hint="")] = None
    """Ends after so long; by default when the run is complete."""

    games: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Ends when so many games are finished."""

    games_per_file: int = 64
    """Publishes as soon as so many games are finished, or a newer network comes."""

    ahead: int = 64
    """Pauses while so many files lie unread."""

    simulations: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Simulations a move, if others than the run's."""

    num_groups: int = 0
    """Groups of games, each on a thread of its own; 0: as suits this machine."""

    num_trees: int = 0
    """Games at once in a group; 0: about as many in all as in the run, or as fill a card."""

    game: Annotated[str | None, arg(metavar="GAME", help_behavior_hint="")] = None
    """The game, where the run cannot name what makes it: module:Name."""

    wait: float = 60.0
    """Seconds to wait for RUN, where the learner is only about to begin."""

    quiet: bool = False
    """Say nothing of what is done."""


def main(command: Command) -> int:
    """Plays until it has done enough."""
    from playout.agents.alphazero.selfplay.actors.actor import ActorSettings

    settings = ActorSettings(
        games_per_file=command.games_per_file,
        ahead=command.ahead,
        minutes=command.minutes,
        games=command.games,
        simulations=command.simulations,
        num_groups=command.num_groups,
        num_trees=command.num_trees,
        threads=command.threads,
    )
    if not command.wait >= 0:
        raise ConfigError(f"--wait must not be negative, not {command.wait}")
    check_device(command)
    import torch
    from playout.agents.alphazero.player import game_of
    from playout.agents.alphazero.selfplay.actors.actor import Actor
    from playout.agents.alphazero.selfplay.actors.folder import GamesFolder
    from playout.agents.alphazero.selfplay.actors.networks import wait_for_run
    from playout.agents.runs.devices import device_errors, keep_freed_memory, resolve_device
    from playout.agents.runs.signals import stop_at_once

    torch.set_num_threads(1)  # groups bring their own threads
    keep_freed_memory()
    device = resolve_device(command.device)

    def say(line: str) -> None:
        if not command.quiet:
            print(line, file=sys.stderr, flush=True)

    run = wait_for_run(command.source, command.wait, say)
    game = game_of(run, command.game)
    config = stored_config(run.config["alphazero"], where=str(run.path / "run.json"))
    folder = GamesFolder(command.into, run=run.id, where=run.path)
    actor = Actor(run, folder, game, config, settings, device=device, dtype=command.dtype, say=say)
    with stop_at_once("the games that were finished are published"), device_errors(device):
        actor.work()
    return 0
