"""Players from text: "greedy", "uct:500", "gtp:gnugo --mode gtp", a run with its search.

`make_player` reads what commands and tables call players; `load_player` makes one of a run, whose
kind says how (`GameKind`). Leaves out the players themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Protocol, runtime_checkable

from playout.agents.players.external.player import ExternalPlayer
from playout.agents.players.external.spec import DEFAULT_ENGINES, EngineOptions
from playout.agents.players.external.spec import FORMS as ENGINE_FORMS
from playout.agents.players.hidden import CfrPlayer, refuse_hidden
from playout.agents.players.human import HumanPlayer
from playout.agents.players.player import Player, RunPlayer
from playout.agents.players.search import uct_player
from playout.agents.players.simple import AlphaBetaPlayer, GreedyPlayer, PerfectPlayer, RandomPlayer
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import find_kind, folder_kind
from playout.agents.runs.options import DEFAULT_MACHINE, MachineOptions
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as find_game
from playout.errors import ConfigError, likely_names

# What a player's text begins with -> how the whole of it is written.
FORMS = {
    "random": "random",
    "greedy": "greedy",
    "uct": "uct:SIMULATIONS",
    "alphabeta": "alphabeta:DEPTH",
    "perfect": "perfect",
    "cfr": "cfr",
    "human": "human",
    **ENGINE_FORMS,
}


def make_player(
    spec: str,
    game: NativeGame | str,
    *,
    seed: int = 0,
    machine: MachineOptions = DEFAULT_MACHINE,
    engines: EngineOptions = DEFAULT_ENGINES,
) -> Player:
    """A player from text.

    Args:
        spec: "random", "greedy", "uct:500", "alphabeta:4", "perfect", "cfr" (a policy by CFR+, for
            small games with hidden information), "human", or a run directory
            as DIR, DIR:SIMULATIONS or DIR:SIMULATIONS:STEP (0 simulations are the bare policy), or
            another program as gtp:COMMAND or uci:COMMAND, which is started: give it no text that
            comes out of a file.
        game: The game to be played.
        seed: Of the player.
        machine: Where networks compute.
        engines: How other programs are treated.

    Raises:
        ConfigError: Not a player, or not one for this game.
        RunError: The run cannot be loaded.
    """
    game = find_game(game)
    kind, _, argument = spec.partition(":")
    if kind not in FORMS:
        return _from_run(spec, game, seed, machine)
    if (":" in FORMS[kind]) != bool(argument):
        raise ConfigError(f"player {spec!r}: write it as {FORMS[kind]}")
    if kind in ("greedy", "alphabeta", "perfect"):
        refuse_hidden(game, spec)
    if kind == "random":
        return RandomPlayer(seed=seed)
    if kind == "cfr":
        return CfrPlayer(game, seed=seed)
    if kind == "greedy":
        return GreedyPlayer(seed=seed)
    if kind == "alphabeta":
        return AlphaBetaPlayer(game, _number(spec, argument, 1), seed=seed)
    if kind == "perfect":
        return PerfectPlayer(game, seed=seed)
    if kind == "uct":
        threads = machine.threads or 1
        return uct_player(game, _number(spec, argument, 1), seed=seed, threads=threads)
    if kind in ENGINE_FORMS:
        return ExternalPlayer(spec, game, engines)
    return HumanPlayer()


def _number(spec: str, text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= least):
        raise ConfigError(f"player {spec!r}: {text!r} is not a whole number from {least} up")
    return int(text)


def _from_run(spec: str, game: NativeGame, seed: int, machine: MachineOptions) -> Player:
    """DIR, DIR:SIMULATIONS or DIR:SIMULATIONS:STEP; a folder's own name may hold colons."""
    spec, words = split_settings(spec)
    path, numbers = spec, list[str]()
    while not Path(path).is_dir() and ":" in path and len(numbers) < 2:
        path, _, last = path.rpartition(":")
        numbers.insert(0, last)
    if not path or not Path(path).is_dir():
        close = likely_names(spec.partition(":")[0], FORMS)
        hint = (
            f"did you mean {FORMS[close[0]]}?"
            if close
            else f"there are {', '.join(FORMS.values())}, DIR"
        )
        raise ConfigError(f"{spec!r} is no player and no run directory; {hint}")
    simulations = _number(spec, numbers[0], 0) if numbers else None
    step = _number(spec, numbers[1], 0) if len(numbers) > 1 else None
    which = "best" if step is None else step
    player = load_player(path, which=which, simulations=simulations, game=game, machine=machine)
    if words:
        if not isinstance(player, SettledPlayer):
            raise ConfigError(f"player {spec!r} has no settings such as {next(iter(words))}")
        player = player.with_words(words)
    player.reset(seed)
    return player


def split_settings(spec: str) -> tuple[str, dict[str, str]]:
    """DIR?NAME=VALUE&NAME=VALUE as DIR and its settings; a folder's own name may hold "?"."""
    path, mark, text = spec.rpartition("?")
    if not mark or Path(spec).exists():
        return spec, {}
    pairs = [part.partition("=") for part in text.split("&")]
    if not all(name and value for name, _, value in pairs):
        raise ConfigError(f"player {spec!r}: write settings as DIR?NAME=VALUE&NAME=VALUE")
    return path, {name: value for name, _, value in pairs}


@runtime_checkable
class SettledPlayer(RunPlayer, Protocol):
    """A run's player with settings of its own, given as DIR?NAME=VALUE&NAME=VALUE."""

    def with_words(self, words: Mapping[str, str], /) -> RunPlayer:
        """The same player with other settings, as they are typed.

        Raises:
            ConfigError: There is no such setting, or it cannot have this value.
        """
        ...


@runtime_checkable
class GameKind(Protocol):
    """What a kind of runs (runs/kinds.py) offers besides, if its runs have learned games."""

    def game_of(self, run: RunDir, /) -> NativeGame | None:
        """The game that the run has learned; None if it is none of playout's games."""

    def game_player(
        self,
        run: RunDir,
        which: str | int = "best",
        game: NativeGame | None = None,
        *,
        machine: MachineOptions = DEFAULT_MACHINE,
    ) -> RunPlayer:
        """The player of a checkpoint.

        Args:
            run: The run.
            which: "best", "latest" or the number of a checkpoint.
            game: What it must be able to play, by default the game that it has learned.
            machine: Where its network computes.

        Raises:
            ConfigError: It cannot play that game.
        """
        ...


def _game_kind(run: RunDir) -> GameKind:
    kind = find_kind(run, wanted="player")
    if not isinstance(kind, GameKind):
        raise ConfigError(f"{run.path} is a run of kind {run.kind}, which plays no games")
    return kind


def load_player(
    path: str | PathLike[str],
    *,
    which: str | int = "best",
    simulations: int | None = None,
    game: NativeGame | None = None,
    machine: MachineOptions = DEFAULT_MACHINE,
) -> RunPlayer:
    """The player of a run directory.

    Args:
        path: The run.
        which: "best", "latest" or the number of a checkpoint.
        simulations: Of its search; 0 for the bare policy, None for what the run suggests.
        game: What it must be able to play.
        machine: Where its network computes.

    Raises:
        ConfigError: The run plays something else, or no games.
    """
    if (kind := folder_kind(path)) is not None:
        if game is None:
            raise ConfigError(f"{path} is the folder of a model; name the game that it plays")
        player: RunPlayer = kind.folder_player(path, game, machine=machine)
    else:
        run = RunDir.open(path)
        player = _game_kind(run).game_player(run, which, game, machine=machine)
    return player if simulations is None else player.with_simulations(simulations)


def as_named(
    players: Sequence[str | PathLike[str] | Player],
) -> tuple[list[str | Player], list[str]]:
    """Players as Python names them, paths as text, and what each is called.

    Raises:
        ConfigError: One text in place of a list, or something that is no player.
    """
    if isinstance(players, str | PathLike):
        raise ConfigError(f'players are a list, such as ["random", "uct:500"], not {players!r}')
    given = [fspath(one) if isinstance(one, PathLike) else one for one in players]
    for one in given:
        if not isinstance(one, str) and not (hasattr(one, "act") and hasattr(one, "name")):
            raise ConfigError(f"a player is a name, a run or an object with `act`, not {one!r}")
    return given, [one if isinstance(one, str) else one.name for one in given]


def game_of_run(path: str | PathLike[str]) -> NativeGame:
    """The game that a run has learned; ConfigError if it has learned none of playout's."""
    if folder_kind(path) is not None:
        raise ConfigError(f"{path} is the folder of a model; name the game with --game")
    run = RunDir.open(path)
    game = _game_kind(run).game_of(run)
    if game is None:
        raise ConfigError(f"{run.path} has learned none of playout's games; name one with --game")
    return game


def game_of_players(players: Sequence[str | Player]) -> NativeGame:
    """The game that the first run among these players has learned, else Connect Four."""
    for one in players:
        if not isinstance(one, str):
            if isinstance(one, RunPlayer):
                return one.game
            continue
        if one.partition(":")[0] in FORMS:
            continue
        path, _ = split_settings(one)
        while not Path(path).is_dir() and ":" in path:
            path = path.rpartition(":")[0]
        if path and Path(path).is_dir():
            return game_of_run(path)
    return find_game("connect_four")


def one_torch_thread() -> None:
    """Lets networks compute on the calling thread alone, if torch is in use.

    Small networks gain nothing from more, and on a busy machine lose most of their speed to
    waiting for each other. Commands call this; a library must not.
    """
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
