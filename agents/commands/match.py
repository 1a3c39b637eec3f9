"""Let players meet: a round robin with ratings and intervals, or a sequential test of two.

Every pairing plays the same number of games, each opening twice with colours swapped. Players are
made by players/load.py, games played by rating/arena.py, rated by rating/ratings.py.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from playout.agents.runs.options import (
    MachineOptions,
    check_device,
    check_seed,
    make_command,
    run_options_last,
)
from playout.errors import ConfigError, EngineError
from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from playout.agents.players.player import Player
    from playout.agents.rating.games import MatchResult, PlayedGame
    from playout.agents.rating.ratings import Ratings
    from playout.agents.rating.sprt import SprtConfig
    from playout.envs.core.game import NativeGame

_QUICK_PLY = 8  # from here on the Connect Four solver takes a second or less


@run_options_last
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(MachineOptions):
    """Let players meet, every one every other, and rate them.

    For example:
      playout match greedy uct:100 uct:1000
      playout match runs/demo uct:1000 perfect --games 20
      playout match runs/new runs/old --sprt 0,20        stop when it is clear
      playout match runs/go "gtp:gnugo --mode gtp --level 10" --games 20 --simulations 800
      playout match runs/chess "uci:stockfish?UCI_Elo=1320&nodes=5000"
    """

    players: Annotated[
        Positional[tuple[str, ...]], arg(metavar="PLAYER PLAYER ...", help_behavior_hint="")
    ]
    """Two or more of random, greedy, uct:SIMULATIONS, alphabeta:DEPTH, perfect, cfr,
    runs: DIR, DIR:SIMULATIONS, DIR:SIMULATIONS:CHECKPOINT, DIR?symmetry=random (one look at a
    position, not one a symmetry: quicker under a clock), language policies: DIR,
    DIR?temperature=1&illegal=loss&constrain=true, or other programs: gtp:COMMAND, uci:COMMAND,
    uci:COMMAND?OPTION=VALUE&OPTION=VALUE.
    """

    game: Annotated[str | None, arg(metavar="GAME", help_behavior_hint="")] = None
    """The game; by default what the first run has learned, else connect_four."""

    games: int = 100
    """Games of each pairing (with --sprt: at most)."""

    openings: Annotated[int | None, arg(metavar="PLIES", help_behavior_hint="")] = None
    """Random plies at the start; each opening is played twice with colours swapped. By default 4,
    fewer in short games, 8 with `perfect`, which thinks for minutes earlier on.
    """

    anchor: Annotated[str | None, arg(metavar="PLAYER", help_behavior_hint="")] = None
    """The player whose rating is given; by default the first one."""

    anchor_elo: float = 0.0
    """The rating of that player, such as 1320 for uci:stockfish?UCI_Elo=1320."""

    simulations: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Search simulations a move of the runs that search and name none (DIR), 0 for the bare policy;
    by default what each run plays with.
    """

    move_seconds: Annotated[float | None, arg(metavar="S", help_behavior_hint="")] = None
    """Seconds a move that other programs are told they have; by default UCI programs get 0.1 s, and
    GTP programs play as their command says.
    """

    engine_timeout: float = 60.0
    """Seconds after which another program that has not answered loses the game."""

    on_failure: Literal["lose", "stop"] = "lose"
    """When another program breaks down (no answer, an illegal move, its end): lose counts the game
    as lost and goes on, stop ends the match with the games that were over.
    """

    sprt: Annotated[str | None, arg(metavar="ELO0,ELO1", help_behavior_hint="")] = None
    """Two players: stop as soon as it is clear whether the first is stronger by ELO0 or by ELO1,
    such as 0,20.
    """

    records: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """Append all games to this file: SGF (.sgf), PGN (.pgn), backgammon's .mat, or
    one JSON object a line."""

    json: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """Write the results to this file; - is standard output."""

    seed: int = 0
    """Seed of openings and players."""

    quiet: bool = False
    """Show no progress."""


@dataclass(frozen=True, slots=True)
class Match:
    """What came of a round robin.

    Attributes:
        game: What was played.
        matches: The games of each pairing.
        ratings: Elo with intervals, best first.
        report: All of it as plain data, as --json writes it.
        stopped: The signal that ended it early; then the games are those that were over.
        failure: The breakdown that did, under `on_failure` stop.
    """

    game: NativeGame
    matches: list[MatchResult]
    ratings: Ratings
    report: dict[str, Any]
    stopped: int | None = None
    failure: EngineError | None = None

    def score(self, player: str) -> float:
        """The share of the points that a player made, a draw being half a point."""
        return float(next(r.score for r in self.ratings.players if r.name == player))

    def __str__(self) -> str:
        """A line for each player, best first."""
        rows = (
            f"{one['player']}: {one['elo']:z.0f} Elo ({one['low']:z.0f} .. {one['high']:z.0f}), "
            f"{100 * one['score']:.1f} % of {one['games']} games"
            for one in self.report["players"]
        )
        return "\n".join(rows)


def main(command: Command) -> int:
    """Plays, rates and reports."""
    from playout.agents.players.load import one_torch_thread
    from playout.agents.rating.report import print_summary

    _check(command, command.players)
    game, players = _seated(command, command.players, command.game)
    one_torch_thread()
    found = _play(command, game, players)
    print_summary(found.report, game.num_players)
    _write(command, found)
    return 0 if found.stopped is None else 128 + found.stopped


def match(
    players: Sequence[str | os.PathLike[str] | Player],
    *,
    game: object | None = None,
    **options: Any,
) -> Match:
    """`playout match` in Python: `playout.match(["runs/demo", "uct:500"], games=20)`.

    Args:
        players: What the command takes, runs as training returned them, or Player objects.
        game: A name, or the game itself; by default what the first run has learned.
        **options: The command's options; nothing is shown unless quiet=False.
    """
    from playout.agents.players.load import as_named

    given, names = as_named(players)
    command = make_command(Command, players=names, **{"quiet": True, **options})
    _check(command, names)
    found = _play(command, *_seated(command, given, game))
    _write(command, found)
    return found


def _write(command: Command, found: Match) -> None:
    """The results to --json; then the breakdown that ended the match, if one did, is raised."""
    from playout.agents.runs.reporting import write_json

    if command.json is not None:
        write_json(command.json, found.report)
    if found.failure is not None:
        raise found.failure


def _seated(
    command: Command, given: Sequence[str | Player], game: object | None
) -> tuple[NativeGame, list[Player]]:
    """The game and its players; finds out first whether results can be written."""
    from playout.agents.players.external.spec import EngineOptions
    from playout.agents.players.load import game_of_players, make_player
    from playout.agents.runs.reporting import must_be_writable
    from playout.envs.core.registry import given_game

    engines = EngineOptions(
        move_seconds=command.move_seconds,
        timeout=command.engine_timeout,
        on_failure=command.on_failure,
    )
    for path in (command.records, command.json):
        if path is not None:
            must_be_writable(path)
    played = given_game(game) if game is not None else game_of_players(given)
    players: list[Player] = []
    for one in given:
        if isinstance(one, str):
            player = make_player(one, played, seed=command.seed, machine=command, engines=engines)
            player = _with_simulations(command, one, player)
            player.name = one  # two runs may have the same name, but nobody is listed twice
        else:
            player = one
        players.append(player)
    return played, players


def _with_simulations(command: Command, spec: str, player: Player) -> Player:
    """A run that names no budget of its own with that of --simulations, if there is one."""
    from playout.agents.players.load import split_settings
    from playout.agents.players.player import NoSearchError, RunPlayer

    path, _ = split_settings(spec)
    if command.simulations is None or not isinstance(player, RunPlayer) or not Path(path).is_dir():
        return player
    try:
        return player.with_simulations(command.simulations)
    except NoSearchError:
        print(f"note: {spec} does not search, --simulations is for the others", file=sys.stderr)
        return player


def _play(command: Command, game: NativeGame, players: Sequence[Player]) -> Match:
    """The whole match, or the games that were over when a signal or a breakdown ended it."""
    from playout.agents.players.player import RemarkingPlayer, close
    from playout.agents.rating.games import pair_up
    from playout.agents.rating.openings import check_plies
    from playout.agents.rating.report import summary
    from playout.agents.rating.sprt import SprtConfig
    from playout.agents.runs.signals import Interrupted
    from playout.envs.records import files as records

    test = SprtConfig.parse(command.sprt) if command.sprt is not None else None
    openings = command.openings
    if openings is None:
        openings = _default_openings(game, players)
    check_plies(game, openings)
    if command.records is not None:
        records.must_hold(command.records, game)
        records.append(command.records, [])
    over: list[PlayedGame] = []
    stopped, failure = None, None
    try:
        if not command.quiet:
            _tell_length(command, game, players, openings, test)
        before = {one.name: one.remarks() for one in players if isinstance(one, RemarkingPlayer)}
        matches = _play_all(command, game, players, openings, test, over)
    except (Interrupted, EngineError) as cause:
        matches = pair_up(over)
        if not any(one.results() for one in matches):
            raise
        failure = cause if isinstance(cause, EngineError) else None
        stopped = cause.signal if isinstance(cause, Interrupted) else None
        print(f"these {len(over)} games were over, short ones first", file=sys.stderr)
    finally:
        for player in players:
            close(player)
    ratings = _rate(command, game, players, matches)
    report = summary(
        matches, ratings, game=game, seed=command.seed, openings=openings, sprt=command.sprt
    )
    for entry in report["players"]:
        player = next(one for one in players if one.name == entry["player"])
        if isinstance(player, RemarkingPlayer):  # of this match alone
            said = before[player.name]
            entry |= {key: value - said.get(key, 0) for key, value in player.remarks().items()}
    return Match(game, matches, ratings, report, stopped, failure)


def _default_openings(game: NativeGame, players: Sequence[Player]) -> int:
    """As suits the game's length; longer where perfect play would have to think for minutes."""
    from playout.agents.players.simple import PerfectPlayer
    from playout.agents.rating.openings import opening_plies

    solves = any(isinstance(one, PerfectPlayer) and one.solver.counts_plies for one in players)
    return min(_QUICK_PLY, game.max_plies // 5) if solves else opening_plies(game)


def _check(command: Command, specs: Sequence[str]) -> None:
    if len(specs) < 2:
        raise ConfigError(
            "a match needs at least two players, such as: playout match greedy uct:500"
        )
    for spec in specs:
        if list(specs).count(spec) > 1:
            raise ConfigError(f"player {spec!r} is listed twice; a player cannot meet itself")
        if spec == "human":
            raise ConfigError("people play with `playout play RUN`, not in matches")
    if command.anchor is not None and command.anchor not in specs:
        raise ConfigError(
            f"the anchor {command.anchor!r} is none of the players {', '.join(specs)}"
        )
    if command.sprt is not None and len(specs) != 2:
        raise ConfigError(f"--sprt compares two players, not {len(specs)}")
    if command.simulations is not None and command.simulations < 0:
        raise ConfigError(f"--simulations must be at least 0, not {command.simulations}")
    if not math.isfinite(command.anchor_elo):
        raise ConfigError(f"--anchor-elo must be a number, not {command.anchor_elo}")
    if command.games < 1:
        raise ConfigError(f"--games must be at least 1, not {command.games}")
    check_seed(command.seed)
    check_device(command)


def _tell_length(
    command: Command,
    game: NativeGame,
    players: Sequence[Player],
    openings: int,
    test: SprtConfig | None,
) -> None:
    """Says what is going to be played, and how long that takes at most: every player is asked."""
    from playout.agents.rating.arena import num_games_of
    from playout.agents.rating.estimate import most_seconds
    from playout.agents.runs.console import about

    total = num_games_of(game, len(players), command.games)
    seconds = most_seconds(players, game, command.games, openings=openings, seed=command.seed)
    opened = f"each opening of {openings} random {'ply' if openings == 1 else 'plies'}"
    if game.num_players == 2:
        pairings = len(players) * (len(players) - 1) // 2
        most = "at most " if test is not None else ""
        many = f"{pairings} pairings of " if pairings > 1 else ""
        games = f"{many}{most}{total // pairings} games"
        what = f"{games}, {opened} twice with colours swapped"
    else:
        what = f"{total} games, {opened} with everybody in every seat"
    print(
        f"{what}; by a first look {about(seconds)} at most, the time left shows after the "
        "first moves",
        file=sys.stderr,
    )


def _play_all(
    command: Command,
    game: NativeGame,
    players: Sequence[Player],
    openings: int,
    test: SprtConfig | None,
    over: list[PlayedGame],
) -> list[MatchResult]:
    """Every pairing in turn; games go to `over` and to the records as they end."""
    from playout.agents.rating.arena import num_games_of, round_robin
    from playout.agents.rating.games import to_record
    from playout.agents.runs.console import no_progress, progress
    from playout.envs.records import files as records

    total = num_games_of(game, len(players), command.games)

    def keep(games: list[PlayedGame]) -> None:
        over.extend(games)
        if command.records is not None:
            records.append(command.records, [to_record(game, one) for one in games])

    with no_progress(command.quiet), progress("match", total, unit="games") as tell:
        return round_robin(
            players,
            game,
            command.games,
            openings=openings,
            seed=command.seed,
            stop=test,
            on_games=keep,
            on_ply=lambda done, pairing: tell(int(done), pairing),
        )


def _rate(
    command: Command, game: NativeGame, players: Sequence[Player], matches: list[MatchResult]
) -> Ratings:
    """Elo by all games; an anchor that a stopped match had not come to is none."""
    from playout.agents.rating.ratings import rate, weight_at_tables

    results = [result for match in matches for result in match.results()]
    weight = weight_at_tables(game.num_players)
    anchor, anchor_elo = command.anchor or players[0].name, command.anchor_elo
    met = {name for result in results for name in result[:2]}
    if anchor not in met:
        other = next(one.name for one in players if one.name in met)
        print(f"note: {anchor} has not played yet, so {other} is set to 0 Elo", file=sys.stderr)
        anchor, anchor_elo = other, 0.0
    return rate(results, anchor=anchor, anchor_elo=anchor_elo, weight=weight)
