"""The tree search beside OpenSpiel (rollouts), mctx with pgx, and LightZero, on one core.

Rollout search: from the first position, a fresh tree each time; Connect Four by number of
simulations, larger games at 1,000. Batched search: a constant evaluator, so that what is measured
is the tree: descents, moves, legal moves, leaves copied out, backups, and everything at the Python
border. Observations are written or not, both are reported; mctx's evaluator does not look at any,
LightZero's tree knows no game at all. Then, ours alone: two threads beside one, and the memory of
256 trees of Go 19x19.

    python -m playout.benchmarks.search [--quick] [--lightzero PYTHON]
    python -m playout.benchmarks.search --scaling [--quick] | --memory

Peers are optional. LightZero needs a Python of its own: name its interpreter.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import playout
from playout.benchmarks.tools.measuring import Rate, earlier_record, measure, peer, write_result
from playout.cores import usable_cores
from playout.mcts.search import Search, SearchConfig

ROLLOUT_SIMULATIONS = (100, 1_000, 10_000)
GAME_SIMULATIONS = 1_000
# Searched with rollouts: a title, the game here and in OpenSpiel.
GAMES = (
    ("Othello", "othello", "othello"),
    ("Breakthrough", "breakthrough", "breakthrough"),
    ("Go 9x9", "go(size=9)", "go(board_size=9)"),
    ("Hex 11x11", "hex(size=11)", "hex(board_size=11)"),
    ("Chess", "chess", "chess"),
)
SHAPES = ((256, 32), (256, 200), (16, 32), (1, 32))
COMMAND = "python -m playout.benchmarks.search"
TREE_GAMES = {"Othello": ("othello", "othello"), "Go 9x9": ("go(size=9)", "go_9x9")}  # ours, pgx's
SCALING = {  # the settings of a search, its game and trees, whether observations are written
    "uct 1,000, Go 9x9": ({"algorithm": "uct", "num_simulations": 1000}, "go(size=9)", False),
    "gumbel 32, Go 9x9": ({"num_simulations": 32}, "go(size=9)", True),
    "gumbel 32, Connect Four": ({"num_simulations": 32}, "connect_four", False),
    "puct 400 by 16 leaves, Go 19x19": (
        {"algorithm": "puct", "num_simulations": 400, "leaves_per_step": 16},
        "go(size=19)",
        True,
    ),
}
Candidate = Callable[[], float]


def our_rollouts(simulations: int, searches: int, name: str = "connect_four") -> Candidate:
    """UCT with one rollout a leaf, uct_c 2, no proofs."""
    config = SearchConfig(algorithm="uct", num_simulations=simulations, uct_c=2.0, prove=False)
    search, states = Search(name, config), playout.game(name).batch(1)

    def run() -> float:
        for _ in range(searches):
            search.run(states)
        return simulations * searches

    return run


def openspiel_rollouts(
    simulations: int, searches: int, name: str = "connect_four"
) -> Candidate | None:
    """The same by OpenSpiel's C++ MCTSBot."""
    pyspiel = peer("pyspiel", "open-spiel")
    if pyspiel is None:
        return None
    game = pyspiel.load_game(name)
    evaluator = pyspiel.RandomRolloutEvaluator(1, 1)
    select = pyspiel.ChildSelectionPolicy.UCT
    bot = pyspiel.MCTSBot(game, evaluator, 2.0, simulations, 1000, False, 1, False, select)
    state = game.new_initial_state()

    def run() -> float:
        for _ in range(searches):
            bot.step(state)
        return simulations * searches

    return run


def our_trees(
    config: SearchConfig, trees: int, searches: int, observe: bool, name: str = "connect_four"
) -> Candidate:
    """Batched search through ask and tell; the evaluator returns the same arrays each time."""
    game, uct = playout.game(name), config.algorithm == "uct"
    search, states = Search(game, config, num_trees=trees), game.batch(trees)
    rows = trees * config.leaves_per_step
    logits, values = np.zeros((rows, game.num_actions), np.float32), np.zeros(rows, np.float32)

    def run() -> float:
        done = 0
        if uct:
            return sum(int(search.run(states).visits.sum()) for _ in range(searches))
        for _ in range(searches):
            search.begin(states)
            while (leaves := search.ask(observe=observe)) is not None:
                search.tell(logits[: leaves.size], values[: leaves.size])
            done += int(search.result().visits.sum())
        return done

    return run


def mctx_trees(
    kind: str, trees: int, simulations: int, searches: int, name: str = "connect_four"
) -> Candidate | None:
    """The same by mctx and pgx."""
    if not all(peer(name, name) for name in ("jax", "mctx", "pgx")):
        return None
    from playout.benchmarks.tools.peers.mctx_search import constant_search

    return constant_search(kind, trees, simulations, searches, name)


def lightzero_trees(
    python: str | None, kind: str, trees: int, simulations: int, searches: int
) -> Candidate | None:
    """LightZero's C++ tree in its own process, asked over a pipe."""
    if python is None:
        return None
    script = Path(__file__).parent / "tools" / "peers" / "lightzero_search.py"
    sizes = [str(n) for n in (trees, simulations, searches)]
    process = subprocess.Popen(
        [python, str(script), kind, *sizes],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def run() -> float:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise SystemExit(f"{python} ended without an answer: does it have LightZero?")
        return float(answer)

    return run


def lightzero_version(python: str) -> str:
    """Of the distribution that another interpreter has; "unknown" where it has none."""
    code = "from importlib.metadata import version; print(version('LightZero'))"
    done = subprocess.run([python, "-c", code], capture_output=True, check=False, text=True)
    return done.stdout.strip() or "unknown"


def present(**candidates: Candidate | None) -> dict[str, Candidate]:
    """Those whose package is there."""
    return {name: run for name, run in candidates.items() if run is not None}


def claim(
    what: str, rates: dict[str, Rate], ours: str, name: str, shown: str, target: float | None
) -> list[dict[str, Any]]:
    """A line of the README's table; none if the peer is missing."""
    if name not in rates:
        return []
    line = {
        "claim": what,
        "ours": rates[ours],
        "peer": rates[name],
        "peer_name": shown,
        "ratio": rates[ours].over(rates[name]),
        "unit": "simulations/s",
        "command": COMMAND,
    }
    return [line if target is None else line | {"target": target}]


def rollout_part(repeats: int, scale: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Rollout search by number of simulations."""
    found: dict[str, Any] = {}
    claims: list[dict[str, Any]] = []
    for simulations in ROLLOUT_SIMULATIONS:
        searches = max(1, int(20_000 * scale / simulations))
        rates = measure(
            present(
                playout=our_rollouts(simulations, searches * 10),
                openspiel=openspiel_rollouts(simulations, searches),
            ),
            repeats=repeats,
        )
        found[str(simulations)] = rates
        what = f"Connect Four, UCT with random rollouts, {simulations:,} simulations, one core"
        target = 10 if simulations == 10_000 else None
        claims += claim(what, rates, "playout", "openspiel", "OpenSpiel C++ MCTSBot", target)
    return found, claims


def games_part(repeats: int, scale: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Rollout search in larger games."""
    found: dict[str, Any] = {}
    claims: list[dict[str, Any]] = []
    for title, ours, theirs in GAMES:
        searches = max(1, int(10 * scale))
        rates = measure(
            present(
                playout=our_rollouts(GAME_SIMULATIONS, searches, ours),
                openspiel=openspiel_rollouts(GAME_SIMULATIONS, 1, theirs),
            ),
            repeats=repeats,
        )
        found[f"{title} {GAME_SIMULATIONS}"] = rates
        what = f"{title}, UCT with random rollouts, {GAME_SIMULATIONS:,} simulations, one core"
        claims += claim(what, rates, "playout", "openspiel", "OpenSpiel C++ MCTSBot", 10)
    return found, claims


def tree_part(
    python: str | None, repeats: int, scale: float
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Batched search by kind and shape."""
    found: dict[str, Any] = {}
    claims: list[dict[str, Any]] = []
    for kind in ("gumbel", "puct"):
        for trees, simulations in SHAPES:
            size = kind, trees, simulations
            config = SearchConfig(algorithm=kind, num_simulations=simulations)
            few = max(1, int(60_000 * scale / (trees * simulations)))
            rates = measure(
                present(
                    playout=our_trees(config, trees, few * 8, False),
                    playout_with_obs=our_trees(config, trees, few * 8, True),
                    mctx=mctx_trees(*size, few),
                    lightzero=lightzero_trees(python, *size, few),
                ),
                repeats=repeats,
            )
            found[f"{kind} {trees}x{simulations}"] = rates
            if (trees, simulations) != (256, 32):
                continue
            what = f"Connect Four, {kind}, constant evaluator, 256 trees x 32 simulations, one core"
            alone = {"claim": what, "ours": rates["playout"], "target": 2e6}
            claims.append(alone | {"unit": "simulations/s", "command": COMMAND})
            for ours, note in (("playout_with_obs", ", observations written"), ("playout", "")):
                claims += claim(what + note, rates, ours, "mctx", "mctx with pgx", 3)
            claims += claim(what, rates, "playout", "lightzero", "LightZero C++ tree, no game", 3)
    return found, claims


def larger_trees_part(repeats: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Batched search in larger games."""
    found: dict[str, Any] = {}
    claims: list[dict[str, Any]] = []
    config = SearchConfig(num_simulations=32)
    for title, (name, other) in TREE_GAMES.items():
        candidates = present(
            playout=our_trees(config, 256, 8, False, name),
            playout_with_obs=our_trees(config, 256, 8, True, name),
            mctx=mctx_trees("gumbel", 256, 32, 1, other),
        )
        found[f"{title} gumbel 256x32"] = rates = measure(candidates, repeats=repeats)
        what = f"{title}, gumbel, constant evaluator, 256 trees x 32 simulations, one core"
        for ours, note in (("playout_with_obs", ", observations written"), ("playout", "")):
            claims += claim(what + note, rates, ours, "mctx", "mctx with pgx", 3)
    return found, claims


def scaling_part(repeats: int, scale: float) -> dict[str, Any]:
    """Two threads beside one: 64 trees and 2."""
    found: dict[str, Any] = {}
    for what, (settings, name, observe) in SCALING.items():
        for trees in (64, 2):
            budget = int(settings["num_simulations"])
            searches = max(1, int(60_000 * scale / (trees * budget)))
            one, two = (SearchConfig(threads=n, **settings) for n in (1, 2))
            candidates = {
                "one": our_trees(one, trees, searches, observe, name),
                "two": our_trees(two, trees, searches, observe, name),
            }
            rates = measure(candidates, repeats=repeats)
            ratio = rates["two"].over(rates["one"])
            print(f"{what}, {trees} trees: {rates['one']} simulations/s, two threads {ratio} x")
            found[f"{what}, {trees} trees"] = rates | {"ratio": ratio}
    return found


def scaling_claims(scaling: dict[str, Any]) -> list[dict[str, Any]]:
    """Two threads beside one, as tools/report.py reads it."""
    return [
        {
            "claim": f"{what}: two threads beside one",
            "ours": found["two"],
            "peer": found["one"],
            "peer_name": "one thread of playout",
            "ratio": found["ratio"],
            "target": 1.6 if what.endswith(" 2 trees") else 1.8,
            "unit": "simulations/s",
            "command": COMMAND,
        }
        for what, found in scaling.items()
    ]


def with_scaling(earlier: dict[str, Any], scaling: dict[str, Any]) -> dict[str, Any]:
    """An earlier result with two threads beside one measured again."""
    new = scaling_claims(scaling)
    names = {claim["claim"] for claim in new}
    kept = [claim for claim in earlier.get("claims", ()) if claim["claim"] not in names]
    return {**earlier, "scaling": scaling, "claims": [*kept, *new]}


def memory() -> dict[str, int]:
    """Peak memory of this process after 256 trees x 800 simulations of Go 19x19."""
    game, trees = playout.game("go(size=19)"), 256
    search = Search(game, SearchConfig(num_simulations=800), num_trees=trees)
    states, rng = game.batch(trees), np.random.default_rng(0)
    states.random_plies(np.arange(trees, dtype=np.int32) % 40, 3)
    search.begin(states)
    while (leaves := search.ask()) is not None:
        logits = 2 * rng.standard_normal(leaves.mask.shape, np.float32)
        search.tell(logits, 0.3 * np.tanh(rng.standard_normal(leaves.size, np.float32)))
    nodes = int(search.result().nodes.sum())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"nodes": nodes, "tree_bytes": search.stats["tree_bytes"], "peak_bytes": peak}


def main() -> int:
    """Measures, prints and writes benchmarks/results/search.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, nothing is written")
    parser.add_argument("--lightzero", metavar="PYTHON", help="an interpreter that has LightZero")
    parser.add_argument(
        "--scaling", action="store_true", help="only two threads beside one, in the last result"
    )
    parser.add_argument("--memory", action="store_true", help="only the memory of Go 19x19")
    arguments = parser.parse_args()
    repeats, scale = (3, 0.3) if arguments.quick else (9, 1.0)
    if arguments.memory:
        print(json.dumps(memory()))
        return 0
    scaling = scaling_part(repeats, scale) if usable_cores() > 1 else {}
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if arguments.scaling:
        if scaling and not arguments.quick:
            earlier = earlier_record("search")
            if not earlier:
                raise SystemExit("no other result of this machine to add to: leave --scaling out")
            found = with_scaling(earlier["results"], scaling)
            settings = {**earlier["settings"], "scaling": "measured after all else"}
            print(write_result("search", found, settings=settings))
        return 0
    alone = [sys.executable, "-m", "playout.benchmarks.search", "--memory"]
    held = json.loads(subprocess.run(alone, stdout=subprocess.PIPE, text=True, check=True).stdout)
    print(f"Go 19x19, 256 trees x 800 simulations: {held['peak_bytes'] / 2**20:.0f} MiB at most")
    rollouts, claims = rollout_part(repeats, scale)
    games, of_games = games_part(repeats, scale)
    trees, of_trees = tree_part(arguments.lightzero, repeats, scale)
    larger, of_larger = larger_trees_part(repeats)
    claims += of_games + of_trees + of_larger + scaling_claims(scaling)
    claims.append({
        "claim": "peak memory, 256 trees x 800 simulations of Go 19x19", "unit": "GiB",
        "ours": held["peak_bytes"] / 2**30, "target": 2, "better": "lower", "command": COMMAND,
    })  # fmt: skip
    for subject, rates in (rollouts | games | trees | larger).items():
        for name, rate in rates.items():
            print(f"{subject:>16} {name:<18} {rate}")
    for line in claims:
        if "ratio" in line:
            print(f"{line['claim']}: {line['ratio']} x {line['peer_name']}")
    if not arguments.quick:
        settings = {"repeats": repeats, "uct_c": 2, "cores": 1, "evaluator": "constant zeros"}
        if arguments.lightzero:
            settings["lightzero"] = lightzero_version(arguments.lightzero)
        path = write_result(
            "search",
            {"rollouts": rollouts, "games": games, "trees": trees | larger, "scaling": scaling}
            | {"memory": held, "claims": claims},
            settings=settings,
        )
        print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
