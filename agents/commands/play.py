"""Play against a run in the terminal, or watch it act; its kind does the work (runs/kinds.py)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import PlayOptions, find_kind
from playout.agents.runs.options import check_device, run_options_last
from playout.errors import ConfigError
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
      playout play uct:500 --game othello          you against a player without a run
    """

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """A run directory; with --game also a player: random, greedy, uct:500, alphabeta:4, perfect,
    gtp:COMMAND, uci:COMMAND.
    """

    game: Annotated[str | None, arg(metavar="GAME", help_behavior_hint="")] = None
    """The game of a player that is no run; of a run that cannot name its game, module:Name of what
    makes it, else the game that it has learned by other rules, such as another komi.
    """


def main(command: Command) -> int:
    """Hands over to the run's kind, or plays games with a player."""
    from playout.agents.players.load import FORMS

    check_device(command)
    if command.run.partition(":")[0] in FORMS and not Path(command.run).exists():
        _play_without_run(command)
        return 0
    if command.game is not None:
        trust_modules(command.game)
    run = RunDir.open(Path(command.run))
    find_kind(run, wanted="play").play(run, command, game=command.game)
    return 0


def _play_without_run(command: Command) -> None:
    from playout.agents.players.load import make_player
    from playout.agents.players.player import close
    from playout.agents.players.terminal import play_games
    from playout.envs.core.registry import given_game

    if command.run == "human":
        raise ConfigError("name who plays against you, such as uct:500")
    if command.game is None:
        raise ConfigError(f"{command.run} needs a game: add --game, such as --game othello")
    if command.simulations is not None or command.which != "best":
        raise ConfigError(f"--simulations and --which are for runs; {command.run} is none")
    game = given_game(command.game)
    player = make_player(command.run, game, seed=command.seed, machine=command)
    try:
        play_games(player, command, game)
    finally:
        close(player)
