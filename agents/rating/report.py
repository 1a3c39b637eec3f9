"""What a match comes to: its summary as plain data, and the tables of the terminal.

Every number comes with its interval or the counts behind it. Leaves out playing (arena.py) and
fitting (ratings.py).
"""

from __future__ import annotations

from typing import Any

from playout.agents.rating.games import (
    MatchResult,
    counts_returns,
    num_games,
    points_interval,
    returns_of,
)
from playout.agents.rating.intervals import format_mean, format_share, mean_interval
from playout.agents.rating.ratings import Ratings
from playout.agents.runs.console import counted
from playout.agents.runs.reporting import table
from playout.envs.core.game import NativeGame


def summary(
    matches: list[MatchResult],
    ratings: Ratings,
    *,
    game: NativeGame,
    seed: int,
    openings: int,
    sprt: str | None,
) -> dict[str, Any]:
    """Everything a reader of the JSON file wants.

    Args:
        matches: The games of each pairing.
        ratings: What they say.
        game: What was played.
        seed: Of the match.
        openings: Random plies at the start of its games.
        sprt: The sequential test as it was asked for, or None.
    """
    players = []
    for rating in ratings.players:
        totals = [
            match.score(rating.name) for match in matches if rating.name in (match.a, match.b)
        ]
        wins, draws, losses = (sum(total[i] for total in totals) for i in range(3))
        players.append(
            {
                "player": rating.name,
                "elo": round(rating.elo, 2),
                "low": round(rating.low, 2),
                "high": round(rating.high, 2),
                "games": num_games(matches, rating.name, game),
                "score": round(float(rating.score), 5),
                "score_interval": [
                    round(end, 5) for end in points_interval(wins, draws, losses, game.num_players)
                ],
                "wins": wins,
                "draws": draws,
                "losses": losses,
            }
        )
        if counts_returns(game):
            mean, low, high = mean_interval(returns_of(matches, rating.name, game))
            players[-1] |= {"mean_return": mean, "mean_return_interval": [low, high]}
    pairings = []
    for match in matches:
        wins, draws, losses = match.score(match.a)
        entry: dict[str, Any] = {
            "a": match.a,
            "b": match.b,
            "games": len(match.games),  # at a table of many seats two players meet more than once
            "wins": wins,
            "draws": draws,
            "losses": losses,
            "pairs": match.pairs(),
            "superiority": round(ratings.superiority(match.a, match.b), 5),
            "distinct_games": match.distinct_games(),
        }
        if match.counts_more():
            entry["mean_return"] = [round(number, 5) for number in match.mean_return(match.a)]
        failures = {name: match.forfeits(name) for name in (match.a, match.b)}
        if any(failures.values()):
            entry["failures"] = {name: one for name, one in failures.items() if one}
        if match.sprt is not None:
            entry["sprt"] = {
                "test": sprt,
                "llr": round(match.sprt.llr, 4),
                "lower": round(match.sprt.lower, 4),
                "upper": round(match.sprt.upper, 4),
                "decision": match.sprt.decision,
            }
        pairings.append(entry)
    return {
        "game": str(game),
        "seed": seed,
        "openings": openings,
        "anchor": ratings.anchor,
        "players": players,
        "pairings": pairings,
        "first_move_elo": [round(value, 2) for value in ratings.advantage],
        "draw_share_of_equals": round(ratings.draw_share, 5),
    }


def print_summary(report: dict[str, Any], num_players: int) -> None:
    """Shows what `summary` has found; `num_players` are the game's."""
    rows = [
        [
            one["player"],
            f"{one['elo']:z.0f}",
            f"{one['low']:z.0f} .. {one['high']:z.0f}",
            str(one["games"]),
            format_share(one["score"], one["score_interval"]),
            f"{one['wins']} / {one['draws']} / {one['losses']}",
        ]
        for one in report["players"]
    ]
    columns = ["player", "Elo", "95 % interval", "games", "points (95 %)", "won / drawn / lost"]
    if all("mean_return" in one for one in report["players"]):
        columns.append("mean result (95 %)")
        for row, one in zip(rows, report["players"], strict=True):
            row.append(format_mean(one["mean_return"], one["mean_return_interval"]))
    anchor = report["anchor"]
    elo = next(one["elo"] for one in report["players"] if one["player"] == anchor)
    table(f"{report['game']}, {anchor} = {elo:z.0f} Elo", columns, rows)
    if len(report["pairings"]) > 1:
        pairs = [
            [
                f"{one['a']} - {one['b']}",
                f"{one['wins']} / {one['draws']} / {one['losses']}",
                f"{100 * one['superiority']:.1f} %",
            ]
            for one in report["pairings"]
        ]
        table("", ("pairing", "won / drawn / lost", "first is stronger"), pairs)
    for one in report["pairings"]:
        if "mean_return" in one and num_players > 1:  # alone, nobody plays against anybody
            mean, half = one["mean_return"]
            print(f"{one['a']} gets {mean:+.3f} ± {half:.3f} a game against {one['b']}.")
    if num_players > 1 and any("mean_return" in one for one in report["pairings"]):
        print("Elo and shares count games won, whatever each brings; what games bring says more.")
    if num_players > 1:
        value, low, high = (round(elo) for elo in report["first_move_elo"])
        print(f"Moving first is worth {value} Elo ({low} .. {high}).")
    for one in report["players"]:
        if one.get("answers"):
            share = 100 * one["illegal"] / one["answers"]
            answers = counted(one["answers"], "answer")
            print(
                f"{one['player']}: {one['illegal']} of {answers} were no legal "
                f"moves ({share:.1f} %)."
            )
    for one in report["pairings"]:
        games = one["games"]
        if one["distinct_games"] < games:
            print(
                f"Only {one['distinct_games']} of {games} games between {one['a']} and {one['b']} "
                "differ: use longer --openings."
            )
        for name, reasons in one.get("failures", {}).items():
            told = "; ".join(f"{count} x {reason}" for reason, count in reasons.items())
            print(f"{name} broke down in {sum(reasons.values())} of {games} games: {told}.")
        if "sprt" in one:
            test = one["sprt"]
            elo0, elo1 = test["test"].split(",")
            meaning = {
                "H1": f"{one['a']} is stronger, by {elo1} Elo rather than {elo0}",
                "H0": f"{one['a']} is stronger by {elo0} Elo at most, rather than {elo1}",
                "open": "not decided yet; allow more --games",
            }
            print(
                f"SPRT after {games} games: {meaning[test['decision']]} "
                f"(log-likelihood ratio {test['llr']:.2f}, "
                f"decided beyond {test['lower']:.2f} and {test['upper']:.2f})."
            )
