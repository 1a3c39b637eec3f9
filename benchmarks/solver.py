"""The exact solver: time a position by ply, nodes a second, and OpenSpiel's alpha-beta beside it.

Positions are random games of so many plies that are not over, not filtered further. "scores" is the
exact score of every legal move, "outcomes" win, draw or loss of every legal move; each position
begins with an empty table. OpenSpiel's alpha-beta (in Python; it has none in C++) gets the end of
games, since it sees no more.

    python -m playout.benchmarks.solver [--quick] [--root]

--root also solves the first position: its outcome, and the scores of all columns (minutes).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import playout
from playout.benchmarks.tools.measuring import measure, peer, write_result
from playout.envs.core.game import StateBatch
from playout.mcts.exact.solver import Solver

PLIES = (8, 10, 12, 14, 16, 20, 24)
LATE = 30  # plies after which OpenSpiel is asked


def positions(plies: int, count: int) -> StateBatch:
    """Random positions of this ply that are not over."""
    game = playout.game("connect_four")
    states = game.batch(20 * count)
    states.random_plies(np.full(len(states), plies, np.int32), seed=plies)
    return states[np.flatnonzero(~states.is_terminal())[:count]]


def by_ply(plies: int, count: int, table_mb: int) -> dict[str, Any]:
    """Seconds a position: mean, median, greatest; and nodes a second."""
    solver = Solver("connect_four", table_mb=table_mb)
    states = positions(plies, count)
    found: dict[str, Any] = {"positions": len(states)}
    kinds: dict[str, Callable[[StateBatch], Any]] = {
        "scores": solver.scores_of,
        "outcomes": solver.outcomes,
    }
    for name, ask in kinds.items():
        seconds, nodes = [], 0
        for row in range(len(states)):
            solver.clear()
            start = time.perf_counter()
            ask(states[row : row + 1])
            seconds.append(time.perf_counter() - start)
            nodes += solver.nodes
        found[name] = {
            "mean_s": float(np.mean(seconds)),
            "median_s": float(np.median(seconds)),
            "max_s": float(np.max(seconds)),
            "nodes": nodes / len(states),
            "nodes_per_s": nodes / sum(seconds),
        }
    return found


def batched(count: int) -> dict[str, Any]:
    """Positions a second over a batch that shares one table, on one thread."""
    states = positions(12, count)
    solver = Solver("connect_four")
    start = time.perf_counter()
    solver.outcomes(states)
    return {"plies": 12, "positions_per_s": len(states) / (time.perf_counter() - start)}


def root() -> dict[str, Any]:
    """Seconds for the first position; it must come out as the literature has it."""
    game = playout.game("connect_four")
    found: dict[str, Any] = {}
    for name in ("outcomes", "scores"):
        solver = Solver(game, table_mb=1024)
        start = time.perf_counter()
        if name == "outcomes":
            answer = solver.outcomes(game.batch(1))[0].tolist()
            expected = [-1, -1, 0, 1, 0, -1, -1]
        else:
            answer = solver.scores(game.initial_state()).tolist()
            expected = [-2, -1, 0, 1, 0, -1, -2]
        if answer != expected:
            raise SystemExit(f"{name} of the first position are {answer}, not {expected}")
        found[name] = {"seconds": time.perf_counter() - start, "nodes": solver.nodes}
    return found


def beside_openspiel(count: int, repeats: int) -> dict[str, Any] | None:
    """Values of late positions, and of all of tic-tac-toe, by both; answers are compared."""
    minimax = peer("open_spiel.python.algorithms.minimax", "open-spiel")
    pyspiel = peer("pyspiel", "open-spiel")
    if minimax is None or pyspiel is None:
        return None
    found: dict[str, Any] = {}
    for name, plies in (("connect_four", LATE), ("tic_tac_toe", 0)):
        game = playout.game(name)
        states = positions(plies, count) if plies else game.batch(1)
        theirs = pyspiel.load_game(name)
        twins = [_twin(theirs, state) for state in states]
        solver = Solver(game, table_mb=1)
        ours = solver.values(states).tolist()

        def value(twin: Any, theirs: Any = theirs) -> int:
            player = twin.current_player()
            return int(minimax.alpha_beta_search(theirs, twin.clone(), None, 100, player)[0])

        if ours != [value(twin) for twin in twins]:
            raise SystemExit(f"{name}: the answers differ")

        def mine(states: StateBatch = states, solver: Solver = solver) -> float:
            for row in range(len(states)):
                solver.clear()
                solver.values(states[row : row + 1])
            return float(len(states))

        def other(twins: list[Any] = twins, value: Callable[[Any], int] = value) -> float:
            return float(len([value(twin) for twin in twins]))

        rates = measure({"playout": mine, "open_spiel": other}, repeats=repeats)
        ratio = rates["playout"].over(rates["open_spiel"])
        found[name] = {**rates, "ratio": ratio, "plies": plies}
        print(f"{name}: {rates['playout']} positions/s, {ratio} times OpenSpiel's alpha-beta")
    return found


def _twin(game: Any, state: Any) -> Any:
    """The same Connect Four position (or a first one) in OpenSpiel, by some order of moves."""
    twin = game.new_initial_state()
    stones = state.observe(0).astype(bool)
    if not stones.any():
        return twin
    path = _order(stones, [], np.zeros(7, int))
    for column in path:
        twin.apply_action(column)
    return twin


def _order(stones: Any, path: list[int], heights: Any) -> list[int]:
    """Moves in turn that fill the columns as they stand, found by trying."""
    total = int(stones.sum())
    if len(path) == total:
        return path
    player = len(path) % 2
    for column in range(7):
        row = 5 - heights[column]
        if row >= 0 and stones[player, row, column]:
            heights[column] += 1
            found = _order(stones, [*path, column], heights)
            heights[column] -= 1
            if found:
                return found
    return []


def main() -> None:
    """Measures and writes results/solver.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--root", action="store_true")
    parser.add_argument("--table-mb", type=int, default=64)
    args = parser.parse_args()
    count = 20 if args.quick else 200
    plies = {}
    for ply in PLIES[1 if args.quick else 0 :]:
        plies[str(ply)] = found = by_ply(ply, count, args.table_mb)
        text = ", ".join(
            f"{kind} {1000 * found[kind]['mean_s']:.1f} ms (at most {found[kind]['max_s']:.2f} s), "
            f"{found[kind]['nodes_per_s'] / 1e6:.1f} M nodes/s"
            for kind in ("scores", "outcomes")
        )
        print(f"ply {ply}, {found['positions']} positions: {text}", flush=True)
    results: dict[str, Any] = {"plies": plies, "batch": batched(count)}
    results["open_spiel"] = beside_openspiel(5 if args.quick else 20, 2 if args.quick else 5)
    if args.root:
        results["root"] = root()
        print(f"first position: {results['root']}")
    if not args.quick:
        write_result("solver", results, settings={"count": count, "table_mb": args.table_mb})


if __name__ == "__main__":
    main()
