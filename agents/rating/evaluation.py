"""How strong a player is: good moves on solved positions, and Elo against fixed opponents.

The positions are those where it matters (agents/rating/positions.py): no win at once, and moves
that differ in outcome. The opponents also meet each other, so that all of them hold the scale.
Every number comes with a 95 % interval.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from playout.agents.players.analysis import Judge, analyse
from playout.agents.players.load import make_player
from playout.agents.players.player import Player, RunPlayer, close
from playout.agents.rating.arena import num_games_of, round_robin
from playout.agents.rating.games import (
    MatchResult,
    PlayedGame,
    counts_returns,
    pair_up,
    points_interval,
    returns_of,
)
from playout.agents.rating.intervals import (
    format_mean,
    format_share,
    mean_interval,
    share_interval,
)
from playout.agents.rating.positions import load_scored_positions, preserved
from playout.agents.rating.ratings import rate, weight_at_tables
from playout.agents.runs.console import progress
from playout.agents.runs.kinds import EvalOptions
from playout.agents.runs.reporting import note_found, noted, table
from playout.agents.runs.signals import Interrupted
from playout.envs.core.game import NativeGame
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError, GameError
from playout.mcts.exact.solver import ILLEGAL, ILLEGAL_OUTCOME

OPPONENTS = ("random", "greedy", "uct:100", "uct:1000")
SLOW_OPPONENTS = ("random", "uct:20", "uct:100")  # where the rules run at Python's speed
HIDDEN_OPPONENTS = ("random", "uct:100")
GAMES = 100
PROBED = 100  # positions that show how long one takes, and that are looked at in any case


def evaluate_player(player: RunPlayer, options: EvalOptions) -> dict[str, Any]:
    """What `playout eval RUN` says of a game's run.

    Args:
        player: The run's player.
        options: Games, opponents and seed.

    Returns:
        `game`, `player`, `seed`, what `judge_positions` and `meet` return.

    Raises:
        Interrupted: A signal came; what was complete is printed and noted.
    """
    games = GAMES if options.episodes is None else options.episodes
    game = player.game
    usual: tuple[str, ...] = SLOW_OPPONENTS if game.calls_python else OPPONENTS
    if game.hidden:
        usual = HIDDEN_OPPONENTS
    specs = options.opponents or usual
    if twice := [spec for spec in specs if specs.count(spec) > 1]:
        raise ConfigError(f"opponent {twice[0]!r} is listed twice")
    if "human" in specs:
        raise ConfigError("people play with `playout play RUN`")
    opponents = [make_player(spec, game, seed=options.seed, machine=options) for spec in specs]
    for opponent, spec in zip(opponents, specs, strict=True):  # two runs may have the same name
        opponent.name = spec if spec != player.name else f"./{spec}"
    if options.stochastic:
        player.temperature = 1.0
    report: dict[str, Any] = {"game": str(game), "player": player.name, "seed": options.seed}
    over: list[PlayedGame] = []
    try:
        report["positions"] = judge_positions(player)
        _print_positions(report["positions"])
        if report["positions"]:
            note_found(report)
        report |= meet(player, opponents, game, games, options.seed, on_games=over.extend)
    except Interrupted:
        if "positions" not in report and (judged := noted().get("positions")):
            note_found(report)
            _print_positions(judged)
        met = _rated_so_far(over, player, opponents)
        if met:
            note_found(report | met)
            print(f"these {len(over)} games were over, short ones first", file=sys.stderr)
            _print_matches(report | met)
        raise
    finally:
        for opponent in opponents:
            close(opponent)
    _print_matches(report)
    return report


def judge_positions(player: RunPlayer, *, seconds: float | None = None) -> list[dict[str, Any]]:
    """Shares of good moves, bare and with search; empty if the game has no solved positions.

    Args:
        player: Who is asked.
        seconds: That it may take: where a first few positions show that all would take longer,
            so many are asked about as fit, evenly chosen. None for all, however long it takes.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    try:
        positions = load_scored_positions(player.game)
    except GameError:
        return []
    found: list[dict[str, Any]] = []
    for name, judge in player.judges().items():
        rows = np.arange(len(positions))
        if deadline is not None:
            rows = rows[:: _stride(positions.states, judge, deadline)]
        with progress(name, len(rows), unit="positions") as tell:
            answers = analyse(positions.states[rows], judge, on_done=tell)
        found.append({"by": name, **shares(answers.action, positions.scores[rows])})
        note_found({"positions": [*found]})
    return found


def _stride(states: StateBatch, judge: Judge, deadline: float) -> int:
    """Every which position can be asked about until `deadline`, by time.monotonic()."""
    if len(states) <= PROBED:
        return 1
    begun = time.monotonic()
    judge(states[:: len(states) // PROBED])
    now = time.monotonic()
    most = PROBED * (deadline - now) / max(now - begun, 1e-6)
    return min(math.ceil(len(states) / max(most, 1)), len(states) // PROBED)


def shares(actions: npt.NDArray[np.int32], scores: npt.NDArray[np.int32]) -> dict[str, Any]:
    """How many actions keep the outcome, and how many are exactly best; with intervals."""
    signs = np.where(scores == ILLEGAL, ILLEGAL_OUTCOME, np.sign(scores)).astype(np.int8)
    kept, best = (
        int(preserved(actions, signs).sum()),
        int((scores[np.arange(len(actions)), actions] == scores.max(1)).sum()),
    )
    total = len(actions)
    return {
        "positions": total,
        "value_preserving": kept / total,
        "value_preserving_interval": list(share_interval(kept, total)),
        "optimal": best / total,
        "optimal_interval": list(share_interval(best, total)),
    }


def meet(
    player: Player,
    opponents: list[Player],
    game: NativeGame,
    games: int,
    seed: int,
    *,
    on_games: Callable[[list[PlayedGame]], None] | None = None,
) -> dict[str, Any]:
    """A round robin of the player and its opponents; the last opponent's rating is set to 0.

    Args:
        player: Who is measured.
        opponents: Whom it meets; they meet each other as well.
        game: The game.
        games: Of each pairing.
        seed: Of openings and players.
        on_games: Told games as they end.
    """
    everybody = [player, *opponents]
    total = num_games_of(game, len(everybody), games)
    with progress("games", total, unit="games") as tell:
        matches = round_robin(
            everybody,
            game,
            games,
            part="rating",
            seed=seed,
            on_games=on_games,
            on_ply=lambda done, text: tell(int(done), text),
        )
    return _rated(matches, player.name, game, anchor=opponents[-1].name)


def _rated_so_far(
    over: Sequence[PlayedGame], player: RunPlayer, opponents: Sequence[Player]
) -> dict[str, Any]:
    """As `meet`, of the games that were over; nothing where they compare nobody.

    Where the last opponent has not played yet, the rating of another one is set to 0.
    """
    matches = [match for match in pair_up(over) if match.results()]
    names = {name for match in matches for name in (match.a, match.b)}
    if player.name not in names:
        return {}
    anchor = next(one.name for one in (*reversed(opponents), player) if one.name in names)
    return _rated(matches, player.name, player.game, anchor=anchor)


def _rated(
    matches: Sequence[MatchResult], player: str, game: NativeGame, *, anchor: str
) -> dict[str, Any]:
    """The player's results, and ratings of all who have played."""
    ratings = rate(
        [result for match in matches for result in match.results()],
        anchor=anchor,
        weight=weight_at_tables(game.num_players),
    )
    results = [score_of(match, player) for match in matches if player in (match.a, match.b)]
    players: list[dict[str, Any]] = [
        {
            "player": one.name,
            "elo": round(one.elo, 1),
            "low": round(one.low, 1),
            "high": round(one.high, 1),
        }
        for one in ratings.players
    ]
    if counts_returns(game):
        for one in players:
            mean, low, high = mean_interval(returns_of(matches, one["player"], game))
            one |= {"mean_return": mean, "mean_return_interval": [low, high]}
    return {"matches": results, "anchor": ratings.anchor, "ratings": players}


def score_of(match: MatchResult, name: str) -> dict[str, Any]:
    """What one of two players made of its games: a draw is half a point.

    Where they met once a game, as two of three do at a table, every meeting tells as much as a
    game; see `points_interval`.
    """
    wins, draws, losses = match.score(name)
    points, total = wins + draws / 2, wins + draws + losses
    games = len(match.games)
    seats = len(match.games[0].players) if total > games else 2
    return {
        "opponent": match.b if name == match.a else match.a,
        "games": games,
        "wins": wins,
        "draws": draws,
        "losses": losses,
        "score": points / total,
        "score_interval": list(points_interval(wins, draws, losses, seats)),
        "distinct_games": match.distinct_games(),
        "mean_return": match.mean_return(name)[0],
        "mean_return_ci95": match.mean_return(name)[1],
    }


def _print_positions(found: list[dict[str, Any]]) -> None:
    if not found:
        print("This game has no solved positions to be judged on.")
        return
    rows = [
        [
            one["by"],
            str(one["positions"]),
            format_share(one["value_preserving"], one["value_preserving_interval"]),
            format_share(one["optimal"], one["optimal_interval"]),
        ]
        for one in found
    ]
    table(
        "Solved positions where it matters",
        ("move by", "positions", "keeps the outcome", "exactly best"),
        rows,
    )


def _print_matches(report: dict[str, Any]) -> None:
    rows = [
        [
            one["opponent"],
            f"{one['wins']} / {one['draws']} / {one['losses']}",
            format_share(one["score"], one["score_interval"]),
            f"{one['mean_return']:+.3f} ± {one['mean_return_ci95']:.3f}",
        ]
        for one in report["matches"]
    ]
    columns = ("against", "won / drawn / lost", "points", "mean result")
    table(f"Games of {report['player']}", columns, rows)
    rated = ["player", "Elo", "95 % interval"]
    rows = [
        [one["player"], f"{one['elo']:z.0f}", f"{one['low']:z.0f} .. {one['high']:z.0f}"]
        for one in report["ratings"]
    ]
    if all("mean_return" in one for one in report["ratings"]):
        rated.append("mean result (95 %)")
        for row, one in zip(rows, report["ratings"], strict=True):
            row.append(format_mean(one["mean_return"], one["mean_return_interval"]))
    table(f"Ratings, {report['anchor']} = 0 Elo", rated, rows)
