"""Speak the Go Text Protocol on standard input and output, for a run or any other player.

Moves are written as the game writes them; what the protocol covers stands in agents/players/gtp.py.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

from playout.agents.runs.options import MachineOptions, check_device, check_seed, run_options_last
from playout.errors import ConfigError
from tyro.conf import Positional, arg


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(MachineOptions):
    """Speak the Go Text Protocol (GTP, version 2) on standard input and output.

    Moves are written as the game writes them, colours are b (who moves first) and w.

    For example:
      playout engine runs/demo
      echo "genmove b" | playout engine uct:500 --game tic_tac_toe
    """

    player: Annotated[Positional[str], arg(metavar="PLAYER")]
    """A run (DIR, DIR:SIMULATIONS, DIR:SIMULATIONS:CHECKPOINT), or random, greedy, uct:500,
    alphabeta:4, perfect.
    """

    game: Annotated[str | None, arg(metavar="GAME", help_behavior_hint="")] = None
    """The game; by default what the run has learned, else connect_four."""

    seed: int = 0
    """Seed of the player."""


def main(command: Command) -> int:
    """Answers until `quit` or the end of input."""
    from playout.agents.players.gtp import GtpEngine, must_be_spoken, serve
    from playout.agents.players.load import game_of_players, make_player, one_torch_thread
    from playout.envs.core.registry import given_game

    check_seed(command.seed)
    check_device(command)
    if command.player == "human":
        raise ConfigError("a person is no engine; people play with `playout play RUN`")
    game = given_game(command.game) if command.game else game_of_players([command.player])
    must_be_spoken(game)
    player = make_player(command.player, game, seed=command.seed, machine=command)
    one_torch_thread()
    serve(GtpEngine(player, game), sys.stdin, sys.stdout)
    return 0
