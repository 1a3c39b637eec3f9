"""The rules of every game proven at length: deep counts, other implementations, random games.

Counts: all lines of tests/perft, those too long for the tests ("deep") as far as --nodes allows,
against the published numbers. Games beside others: --games random games, every legal move and
every result compared with the implementations of tools/peers/rules.py that are installed. Speed:
random games a second beside OpenSpiel's C++ rollouts. A difference ends the run with exit code 1.

    python -m playout.benchmarks.rules [GAME ...] [--nodes 1e8] [--games 1000] [--quick]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import playout
from playout.benchmarks.games import mean_length, openspiel_playouts, our_playouts
from playout.benchmarks.tools.measuring import measure, short, write_result
from playout.benchmarks.tools.peers.rules import RULES, play_beside
from playout.envs.core.game import State
from playout.testing import perft

COUNTS = Path(__file__).parents[1] / "tests" / "perft"

# The games whose random play is measured, and their names in OpenSpiel.
PLAYOUTS = {
    "breakthrough": "breakthrough",
    "chess": "chess",
    "connect_four": "connect_four",
    "go(size=9)": "go(board_size=9)",
    "hex": "hex",
    "othello": "othello",
    "tic_tac_toe": "tic_tac_toe",
}


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


def check_games(name: str, package: str, num_games: int) -> dict[str, Any]:
    """Random games beside another implementation."""
    start = time.perf_counter()
    result: dict[str, Any] = {"games": num_games, "wrong": []}
    try:
        result["positions"] = play_beside(name, package, num_games, seed=17)
    except AssertionError as difference:
        result["wrong"].append(str(difference))
    return result | {"seconds": time.perf_counter() - start}


def speed(name: str, repeats: int, scale: float) -> dict[str, Any]:
    """Random games and moves a second, and the ratio to OpenSpiel where that is installed."""
    length = mean_length(name, 2000)
    count = max(100, int(3e6 * scale / length))
    candidates = {
        "playout": our_playouts(name, 10 * count),
        "openspiel": openspiel_playouts(PLAYOUTS[name], max(2, count // 10)),
    }
    rates = measure({key: run for key, run in candidates.items() if run}, repeats=repeats)
    result: dict[str, Any] = {"mean_length": length, "random_games_per_s": rates}
    if "openspiel" in rates:
        result["ratio_to_openspiel"] = rates["playout"].over(rates["openspiel"])
    return result


def main() -> int:
    """Checks, measures, prints, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="GAME", help="such as othello; all if none")
    parser.add_argument("--nodes", type=float, default=1e8, help="the longest count, in leaves")
    parser.add_argument("--games", type=int, default=1000, help="random games beside each other")
    parser.add_argument("--quick", action="store_true", help="little of each, nothing is written")
    arguments = parser.parse_args()
    nodes, num_games = (1e6, 3) if arguments.quick else (arguments.nodes, arguments.games)
    repeats, scale = (2, 0.05) if arguments.quick else (7, 1.0)

    def wanted(name: str) -> bool:
        return not arguments.names or name.partition("(")[0] in arguments.names

    results: dict[str, Any] = {"counts": {}, "games": {}, "speed": {}}
    wrong: list[str] = []
    for path in sorted(COUNTS.glob("*.perft")):
        if wanted(path.stem):
            found = results["counts"][path.stem] = check_counts(path, nodes)
            wrong += found["wrong"]
            rate = short(found["leaves"] / max(found["seconds"], 1e-9))
            print(f"{path.stem}: {found['counted']} counts, {found['leaves']:,} leaves, {rate}/s")
    for name, package in RULES:
        if not wanted(name) or num_games < 1:
            continue
        if find_spec(package) is None:
            print(f"{name}: {package} is not installed here")
            continue
        found = results["games"][f"{name}, {package}"] = check_games(name, package, num_games)
        wrong += found["wrong"]
        print(
            f"{name}: {num_games} games beside {package}, {found.get('positions', 0):,} positions"
        )
    for name in filter(wanted, PLAYOUTS):
        found = results["speed"][name] = speed(name, repeats, scale)
        ratio = found.get("ratio_to_openspiel")
        beside = f", {ratio} x OpenSpiel" if ratio else ""
        print(f"{name}: {found['random_games_per_s']['playout']} random games/s{beside}")
    for line in wrong:
        print(f"DIFFERS: {line}")
    if not arguments.quick:
        settings = {"nodes": nodes, "games": num_games, "repeats": repeats, "threads": 1}
        print(write_result("rules", results, settings=settings))
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
