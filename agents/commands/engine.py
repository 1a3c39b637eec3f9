"""Speak the Go Text Protocol on standard input and output, for a run or any other player.

Moves are written as the game writes them; what the protocol covers stands in agents/players/gtp.py.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from playout.errors import ConfigError
from tyro.conf import Positional


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Answer the commands of another program."""

    player: Positional[str]
    """A run (DIR, DIR:simulations, DIR:simulations:step), or random, greedy, uct:500, perfect."""

    game: str | None = None
    """The game; by default what the run has learned, else connect_four."""

    seed: int = 0
    """Seed of the player."""


def main(command: Command) -> int:
    """Answers until `quit` or the end of input."""
    from playout.agents.players.gtp import GtpEngine, serve
    from playout.agents.players.load import game_of_specs, make_player, one_torch_thread
    from playout.envs.core.registry import game as find_game

    if command.player == "human":
        raise ConfigError("a person is no engine; people play with `playout play RUN`")
    game = find_game(command.game) if command.game else game_of_specs([command.player])
    if game.num_players != 2:
        raise ConfigError(f"the protocol is for two players, {game} has {game.num_players}")
    player = make_player(command.player, game, seed=command.seed)
    one_torch_thread()
    serve(GtpEngine(player, game), sys.stdin, sys.stdout)
    return 0
