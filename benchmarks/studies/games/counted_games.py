"""Games in which more counts than who wins: backgammon, 2048, poker, by the shipped presets.

Reads runs of `playout alphazero GAME` (or makes them first). Backgammon without the cube meets
random play, pubeval and GNU Backgammon's network (the package gnubg-nn): points a game. 2048 is
played beside random play and tree search without a network, with the same tiles to come: mean
score, and how many games reach a tile. Of runs of `playout ppo` in games that hide cards, it is
what whoever knows the last policy takes from it a game, exactly. A run takes the place of one of
the same game, length, cores and seed in the JSON file, the others stay.

    python -m playout.benchmarks.studies.games.counted_games --train 20 backgammon game_2048
    python -m playout.benchmarks.studies.games.counted_games --runs runs/leduc-0 runs/leduc-1
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from playout.agents.players.load import load_player, make_player
from playout.agents.players.player import Player
from playout.agents.rating.arena import play_match
from playout.agents.rating.games import PlayedGame, returns_of
from playout.agents.rating.intervals import mean_interval, share_interval
from playout.agents.rating.tables import play_tables
from playout.agents.runs.console import progress
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import read_rows
from playout.benchmarks.studies.games.learned_games import (
    kept_runs,
    make_parser,
    runs_to_read,
    short_count,
    told_cores,
    train,
)
from playout.benchmarks.tools.measuring import machine, write_result
from playout.benchmarks.tools.peers.backgammon_players import backgammon_players
from playout.envs.core.game import NativeGame
from playout.mcts.exact import cfr
from playout.mcts.exact.cfr.policy import AnyPolicy

COMMAND = "python -m playout.benchmarks.studies.games.counted_games"
GAMES = ("backgammon", "game_2048")
SEARCH, LEDUC = "uct:100", "leduc_poker(players=2)"
TILES = (512, 1024, 2048)
SCORE, EXPLOITED = "mean score", "exploitability"
WANTED = {(LEDUC, "run"): 0.3, (LEDUC, "cfr"): 0.001}  # at most
# M. Szubert and W. Jaskowski, "Temporal Difference Learning of N-Tuple Networks for the Game 2048",
# CIG 2014: their best network after a million games, which looks one move ahead.
PUBLISHED = {
    "row": "game_2048, published: n-tuple networks, 1,000,000 games",
    SCORE: 100_178.0,
    "2,048 tile": 97.81,
}
Found = dict[str, tuple[float, float, float]]
"""A number and its 95 % interval, by column; of what is exact, three times the number."""


def points(player: Player, game: NativeGame, games: int) -> Found:
    """Points a game of backgammon against everybody there is."""
    found: Found = {}
    for other in [make_player("random", game), *backgammon_players()]:
        with progress(f"against {other.name}", games, unit="games") as tell:
            match = play_match(player, other, game, games, on_ply=lambda done: tell(int(done)))
        results = returns_of([match], player.name, game)
        found[f"points a game against {other.name}"] = mean_interval(results)
    return found


def highest_tile(game: NativeGame, played: PlayedGame) -> int:
    """The largest tile on the board at the end of a game of 2048."""
    rows = game.from_moves(list(played.moves)).text.split(" ")[0].replace("/", ",").split(",")
    return max(int(tile) for tile in rows if tile.isdecimal())


def scores(players: Sequence[Player], game: NativeGame, games: int) -> dict[str, Found]:
    """By player: its mean score, and the share of games that reach each tile, per cent."""
    with progress("games", games * len(players), unit="games") as tell:
        tables = play_tables(players, game, games, on_ply=lambda done, name: tell(int(done), name))
    found: dict[str, Found] = {}
    for player in players:
        mine = [one for one in tables if one.players == (player.name,)]
        tiles = np.array([highest_tile(game, one) for one in mine])
        found[player.name] = {SCORE: mean_interval([one.returns[0] for one in mine])}
        for tile in TILES:
            reached = int((tiles >= tile).sum())
            low, high = share_interval(reached, len(mine))
            share = (100 * reached / len(mine), 100 * low, 100 * high)
            found[player.name][f"{tile:,} tile"] = share
    return found


def exploited(policies: Mapping[str, AnyPolicy], game: NativeGame) -> dict[str, Found]:
    """What a best response takes from each policy a game, in the game's own units."""
    lost = {name: cfr.exploitability(game, one) for name, one in policies.items()}
    return {name: {EXPLOITED: (found, found, found)} for name, found in lost.items()}


def measured(path: Path, games: int, simulations: int | None) -> dict[str, Any]:
    """A run with its length and results, by player and column."""
    run = RunDir.open(path)
    player = load_player(path, which="latest", simulations=simulations)
    game = player.game
    if game.hidden:
        others = {"cfr": make_player("cfr", game), "random": "uniform"}
        found = exploited({player.name: player, **others}, game)
    elif game.num_players == 1:
        others = [make_player(name, game) for name in ("random", SEARCH)]
        found = scores([player, *others], game, games)
    else:
        found = {player.name: points(player, game, games)}
    cores = told_cores(run.record["machine"]["cores"])
    length, learned = f"{run.config.get('minutes') or 0:g} minutes on {cores}", ""
    if run.kind == "ppo":
        length = f"PPO, {short_count(run.config['total_timesteps'])} moves on {cores}"
    else:
        *_, last = read_rows(path)
        learned = f", {short_count(last['selfplay/games'])} games"
    return {
        "game": run.config["env" if run.kind == "ppo" else "game"],
        "length": length,
        "learned": learned,
        "seed": run.seed,
        "simulations": simulations,
        "played": games,
        "measured": {"date": run.record["created"][:10], "processor": machine()["processor"]},
        "results": {"run" if who == player.name else who: one for who, one in found.items()},
    }


def place(run: Mapping[str, Any]) -> tuple[str, str, int]:
    """What a run stands for: of two that are alike in it the later one is kept."""
    return run["game"], run["length"], run["seed"]


def row_of(run: Mapping[str, Any], who: str) -> str:
    """What a line of the table is called."""
    if who != "run":
        return f"{run['game']}, {who}"
    row = f"{run['game']}, {run['length']}{run['learned']}, seed {run['seed']}"
    return row + (f"; {run['simulations']} simulations a move" if run["simulations"] else "")


def claims_of(runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row a player, a column what is counted, as benchmarks/tools/report.py reads them."""
    claims: dict[tuple[str, str], dict[str, Any]] = {}

    def claim(row: str, column: str, ours: object) -> dict[str, Any]:
        unit = {SCORE: "", EXPLOITED: "a game"}.get(column, "%")
        claims[row, column] = {
            "claim": f"{row}: {column}", "row": row, "column": column, "ours": ours,
            "unit": "points" if column.startswith("points") else unit, "command": COMMAND,
        }  # fmt: skip
        return claims[row, column]

    for run in runs:
        for who, results in run["results"].items():
            for column, (mean, low, high) in results.items():
                exact = low == high
                ours = mean if exact else {"median": mean, "min": low, "max": high}
                made = claim(row_of(run, who), column, ours)
                if (run["game"], who) in WANTED:
                    made |= {"target": WANTED[run["game"], who], "better": "lower"}
    if any(SCORE in results for run in runs for results in run["results"].values()):
        for column in (SCORE, "2,048 tile"):
            claim(str(PUBLISHED["row"]), column, PUBLISHED[column])
    return list(claims.values())


def main() -> None:
    """Makes and reads runs, lets them play, writes the results."""
    told = (__doc__ or "").split("\n", 1)[0]
    parser = make_parser(told, GAMES, games=200)
    parser.add_argument("--quick", action="store_true", help="2048 on 2x2 for half a minute")
    args = parser.parse_args()
    if args.quick:
        path = train("game_2048(size=2)", 0.5, args.seed, args.into)
        print(json.dumps(measured(path, 20, 16)["results"], indent=1))
        return
    rows = {place(run): run for run in kept_runs("counted_games")}
    for path in runs_to_read(parser, args, GAMES):  # written after each, since games take long
        run = measured(path, args.games, args.simulations)
        rows[place(run)] = run
        runs = [rows[key] for key in sorted(rows)]
        print(
            write_result("studies/games/counted_games", {"runs": runs, "claims": claims_of(runs)})
        )


if __name__ == "__main__":
    main()
