"""The rules of every game proven at length: deep counts, other implementations, perfect play.

Counts: all lines of tests/perft, those too long for the tests ("deep") as far as --nodes allows,
against the published numbers. Games beside others: --games random games, or, where so many would
take longer than --seconds, as many as begin in a thirtieth of that, every legal move and every
result compared with the implementations of tools/peers/rules.py that are installed; a core each,
and a stopped run goes on. Perfect play, only with --perfect (many minutes, gigabytes): boards that
others have worked out whole. A difference ends the run with exit code 1. Of games by name only
their rows are measured again. Speed: games.py.

    python -m playout.benchmarks.rules [GAME ...] [--nodes 1e8] [--games 100000] [--seconds 600]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import playout
from playout.benchmarks.studies.cases import side_by_side
from playout.benchmarks.tools.measuring import RESULTS, add_games, is_named, short, write_result
from playout.benchmarks.tools.peers.rules import PAIRS, play_beside
from playout.envs.core.game import State
from playout.mcts.exact.game_2048 import solve_2048
from playout.mcts.exact.solver import Solver
from playout.testing import count_positions, perft

COUNTS = Path(__file__).parents[1] / "tests" / "perft"

# Distinct Connect Four positions after so many plies, OEIS A212693; the tests go to 9.
POSITIONS = {10: 1_662_623, 11: 4_568_683}


# What best play brings the first player; of Breakthrough 5x5 by the forum of littlegolem.net.
WINNERS = {"breakthrough(size=5)": -1}
# How often best play reaches a tile of 2048 on 3x3: J. Lees-Miller, "The Mathematics of 2048:
# Optimal Play with Markov Decision Processes", 2018, who says about 74 % and about 1 %.
TILES = {512: 0.74, 1024: 0.01}

TABLES = {
    "counts": "published counts of move sequences",
    "games": "random games beside it",
    "perfect": "best play as published",
}
"""What is said of the results of each kind."""


def published(path: Path) -> Iterator[tuple[State, int, int]]:
    """(state, depth, count) of every count of move sequences in a file."""
    state = playout.game(path.stem).initial_state()
    for line in path.read_text(encoding="utf-8").splitlines():
        word, _, rest = line.partition(" ")
        if word == "game":
            state = playout.game(rest).initial_state()
        elif word == "from":
            state = state.game.from_text(rest)
        elif word in ("perft", "deep"):
            depth, count = rest.split()
            yield state, int(depth), int(count)


def check_counts(path: Path, nodes: float) -> dict[str, Any]:
    """Counts again what is published and has at most `nodes` leaves; what differs, and the rest."""
    found: dict[str, Any] = {"counted": 0, "leaves": 0, "left_out": [], "wrong": []}
    start = time.perf_counter()
    for state, depth, count in published(path):
        where = f"{state.game} {state.text} depth {depth}"
        if count > nodes:
            found["left_out"].append(f"{where}: {count}")
            continue
        leaves = perft(state, depth)
        found["counted"] += 1
        found["leaves"] += leaves
        if leaves != count:
            found["wrong"].append(f"{where}: {leaves}, published {count}")
    found["seconds"] = time.perf_counter() - start
    return found


def check_games(name: str, package: str, num_games: int, seconds: float) -> dict[str, Any]:
    """Random games beside another implementation, at most those that begin in some seconds."""
    start = time.perf_counter()
    try:
        found = play_beside(name, package, num_games, seed=17, seconds=seconds)
        result: dict[str, Any] = {**found._asdict(), "wrong": []}
    except AssertionError as difference:
        result = {"games": 0, "positions": 0, "wrong": [str(difference)]}
    return result | {"seconds": time.perf_counter() - start}


def games_beside(
    wanted: Callable[[str], bool], num_games: int, seconds: float, kept: Path
) -> dict[str, dict[str, Any]]:
    """What was found of every game beside every implementation that is installed, by both."""
    pairs = [(name, package) for name, package in PAIRS if wanted(name)]
    missing = {package for _, package in pairs if find_spec(package) is None}
    for package in sorted(missing):
        print(f"{package} is not installed here: nothing is played beside it")
    pairs = [pair for pair in pairs if pair[1] not in missing]
    found = side_by_side(check_games, [(*pair, num_games, seconds) for pair in pairs], kept=kept)
    kept.unlink(missing_ok=True)  # the next time all is played again
    return {", ".join(pair): one for pair, one in zip(pairs, found, strict=True)}


def check_winner(name: str, expected: int, table_mb: int = 4096) -> dict[str, Any]:
    """The first position of a game solved whole."""
    start = time.perf_counter()
    solver = Solver(name, table_mb=table_mb)
    found = solver.solve(solver.game.initial_state())
    wrong = [] if found == expected else [f"{name}: {found} by best play, published {expected}"]
    seconds = time.perf_counter() - start
    return {"outcome": found, "nodes": solver.nodes, "wrong": wrong, "seconds": seconds}


def check_tile(name: str, tile: int, expected: float, within: float = 0.005) -> dict[str, Any]:
    """How often best play of 2048 reaches a tile."""
    start = time.perf_counter()
    values = solve_2048(name, tile=tile)
    chance = values.value(values.game.initial_state())
    message = f"{name}: {tile} is reached with probability {chance:.4f}, published {expected}"
    wrong = [] if abs(chance - expected) <= within else [message]
    seconds = time.perf_counter() - start
    return {"chance": chance, "positions": len(values), "wrong": wrong, "seconds": seconds}


def check_positions() -> dict[str, Any]:
    """Distinct positions of Connect Four, beyond what the tests count."""
    start = time.perf_counter()
    counts = count_positions("connect_four", max(POSITIONS))
    wrong = [
        f"connect_four: {counts[ply]} positions after {ply} plies, published {expected}"
        for ply, expected in POSITIONS.items()
        if counts[ply] != expected
    ]
    seconds = time.perf_counter() - start
    return {"counted": len(POSITIONS), "leaves": sum(counts), "wrong": wrong, "seconds": seconds}


def claims_of(results: dict[str, Any]) -> list[dict[str, Any]]:
    """What was proven, as benchmarks/tools/report.py reads it: a row a count, a peer, a board."""
    claims = []

    def claim(row: str, column: str, ours: float, **more: object) -> None:
        claims.append({
            "claim": f"{row}: {column}", "row": row, "column": column, "ours": ours, "unit": "",
            "command": "python -m playout.benchmarks.rules", **more,
        })  # fmt: skip

    for table, what in TABLES.items():
        for name, found in results.get(table, {}).items():
            row = f"{name}, {what}"
            claim(row, "compared", found.get("counted", found.get("games", 1)))
            seen = (found.get(key) for key in ("leaves", "positions", "nodes"))
            claim(row, "positions", next((one for one in seen if one is not None), 0))
            claim(row, "differences", len(found["wrong"]), target=0, better="lower")
    return claims


def beside_last(results: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    """Results with what the file from before has of games that were not asked for.

    Args:
        results: "counts", "games" and perhaps "perfect", by name.
        whole: All games were asked for: only perfect play, where it was not, stays.
    """
    path = RESULTS / "rules.json"
    last = json.loads(path.read_text(encoding="utf-8"))["results"] if path.is_file() else {}
    stay = () if whole and "perfect" in results else ("perfect",) if whole else tuple(TABLES)
    return {**results, **{name: {**last.get(name, {}), **results.get(name, {})} for name in stay}}


def main() -> int:
    """Checks, measures, prints, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    counts = sorted(COUNTS.glob("*.perft"))
    checked = [*(path.stem for path in counts), *(name for name, _ in PAIRS), *WINNERS]
    add_games(parser, checked)
    parser.add_argument("--nodes", type=float, default=1e8, help="the longest count, in leaves")
    parser.add_argument("--games", type=int, default=100_000, help="random games beside each other")
    parser.add_argument(
        "--seconds",
        type=float,
        default=600,
        help="at most, of each such pair; a thirtieth of it where not all games fit",
    )
    parser.add_argument("--perfect", action="store_true", help="solve small boards as well")
    parser.add_argument("--quick", action="store_true", help="little of each, nothing is written")
    arguments = parser.parse_args()
    nodes, num_games = (1e6, 3) if arguments.quick else (arguments.nodes, arguments.games)

    def wanted(name: str) -> bool:
        return is_named(name, arguments.names)

    results: dict[str, Any] = {"counts": {}, "games": {}}
    wrong: list[str] = []
    for path in counts:
        if wanted(path.stem):
            found = results["counts"][path.stem] = check_counts(path, nodes)
            wrong += found["wrong"]
            rate = short(found["leaves"] / max(found["seconds"], 1e-9))
            print(f"{path.stem}: {found['counted']} counts, {found['leaves']:,} leaves, {rate}/s")
    if wanted("connect_four") and not arguments.quick:
        found = results["counts"]["connect_four, distinct positions"] = check_positions()
        wrong += found["wrong"]
        print(f"connect_four: distinct positions to ply {max(POSITIONS)}, {found['leaves']:,}")
    if num_games:
        kept = Path("runs") / f"rules{'-quick' if arguments.quick else ''}" / "games.jsonl"
        results["games"] = games_beside(wanted, num_games, arguments.seconds, kept)
    for name, found in results["games"].items():
        wrong += found["wrong"]
        print(f"{name}: {found['games']:,} games, {found['positions']:,} positions")
    if arguments.perfect:
        solved = {name: check_winner(name, won) for name, won in WINNERS.items() if wanted(name)}
        for tile, chance in TILES.items() if wanted("game_2048") else ():
            solved[f"game_2048(size=3), {tile}"] = check_tile("game_2048(size=3)", tile, chance)
        for name, found in solved.items():
            wrong += found["wrong"]
            print(f"{name}: {found.get('outcome', found.get('chance'))}, {found['seconds']:.0f} s")
        results["perfect"] = solved
    for line in wrong:
        print(f"DIFFERS: {line}")
    if not arguments.quick:
        settings = {"nodes": nodes, "games": num_games, "seconds": arguments.seconds}
        results = beside_last(results, whole=not arguments.names)
        results["claims"] = claims_of(results)
        print(write_result("rules", results, settings=settings))
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
