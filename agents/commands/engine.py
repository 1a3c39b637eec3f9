"""Speak GTP or UCI on standard input and output, for a run or any other player.

Moves are written as the game writes them; what the protocols cover stands in
agents/players/protocols/gtp.py and agents/players/protocols/uci.py.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from playout.agents.runs.options import MachineOptions, check_device, check_seed, run_options_last
from playout.errors import ConfigError, PlayoutError
from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from playout.agents.players.player import Player
    from playout.envs.core.game import NativeGame


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(MachineOptions):
    """Speak GTP (version 2) or UCI on standard input and output.

    Moves are written as the game writes them. In GTP, colours are b (who moves first) and w.

    For example:
      playout engine runs/demo
      playout engine runs/chess --protocol uci
      echo "genmove b" | playout engine uct:500 --game tic_tac_toe
    """

    player: Annotated[Positional[str], arg(metavar="PLAYER")]
    """A run (DIR, DIR:SIMULATIONS, DIR:SIMULATIONS:CHECKPOINT), or random, greedy, uct:500,
    alphabeta:4, perfect.
    """

    protocol: Literal["gtp", "uci"] = "gtp"
    """What is spoken: the Go Text Protocol, or the Universal Chess Interface."""

    game: Annotated[str | None, arg(metavar="GAME", help_behavior_hint="")] = None
    """The game; by default what the run has learned, else connect_four."""

    files: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """GTP's loadsgf reads files right in this folder; without it nothing is read."""

    resign_below: Annotated[float, arg(metavar="VALUE")] = -1.0
    """GTP: resign where less than this is expected, from -1 (lost) to 1, at three moves in a row;
    -0.95 is a chance of one in forty. By default never."""

    seed: int = 0
    """Seed of the player."""


def main(command: Command) -> int:
    """Answers until `quit` or the end of input."""
    from playout.agents.players.load import game_of_players, make_player, one_torch_thread
    from playout.agents.players.player import RunPlayer, close
    from playout.agents.players.protocols import gtp, uci
    from playout.envs.core.registry import given_game

    check_seed(command.seed)
    check_device(command)
    if not -1 <= command.resign_below <= 1:
        raise ConfigError(f"--resign-below must be from -1 to 1, not {command.resign_below:g}")
    if command.resign_below > -1 and command.protocol == "uci":
        raise ConfigError("UCI has no word for resigning; leave --resign-below out")
    if command.files is not None and command.protocol == "uci":
        raise ConfigError("UCI loads no files; leave --files out")
    if command.player == "human":
        raise ConfigError("a person is no engine; people play with `playout play RUN`")
    game = given_game(command.game) if command.game else game_of_players([command.player])
    gtp.must_be_spoken(game)
    if command.files is not None and not command.files.is_dir():
        raise ConfigError(f"--files needs a folder, and {command.files} is none")
    player = make_player(command.player, game, seed=command.seed, machine=command)
    if command.resign_below > -1 and not isinstance(player, RunPlayer):
        close(player)
        raise ConfigError(
            f"{command.player} does not say what it expects of a game; leave --resign-below out"
        )
    one_torch_thread()

    def remake(other: NativeGame) -> Player:
        """The player for another size or komi; a network only where it fits."""
        known = getattr(player, "for_game", None)
        if known is None:
            return make_player(command.player, other, seed=command.seed, machine=command)
        try:
            found: Player = known(other)
        except ConfigError as refused:
            try:  # its run may have learned that board besides
                found = make_player(command.player, other, seed=command.seed, machine=command)
            except PlayoutError:
                raise refused from None
        return found

    def with_threads(threads: int) -> Player:
        machine = replace(command, threads=threads)
        return make_player(command.player, game, seed=command.seed, machine=machine)

    # A byte that is no text spoils its line alone, and no answer fails for a letter.
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    try:
        if command.protocol == "gtp":
            engine = gtp.GtpEngine(
                player, game, remake=remake, files=command.files, resign_below=command.resign_below
            )
            gtp.serve(engine, sys.stdin, sys.stdout)
        else:
            uci.serve(uci.UciEngine(player, game, with_threads=with_threads), sys.stdin, sys.stdout)
    finally:
        close(player)
    return 0
