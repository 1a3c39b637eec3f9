"""The tree search beside OpenSpiel (rollouts), mctx with pgx, and LightZero, on one core.

Rollout search: from the first position, a fresh tree each time; Connect Four by number of
simulations, larger games at 1,000. Batched search: Connect Four with a constant evaluator, so that
what is measured is the tree: descents, moves, legal moves, leaves copied out, backups, and
everything at the Python border. Observations are written or not, both are reported; mctx's
evaluator does not look at any, LightZero's tree knows no game at all.

    python -m playout.benchmarks.search [--quick] [--lightzero PYTHON]

Peers are optional. LightZero needs a Python of its own: name its interpreter.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import playout
from playout.benchmarks.tools.measuring import Rate, measure, peer, write_result
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
    kind: str, trees: int, simulations: int, searches: int, observe: bool, **settings: Any
) -> Candidate:
    """Batched search through ask and tell; the evaluator returns the same arrays each time."""
    config = SearchConfig(algorithm=kind, num_simulations=simulations, **settings)
    search, states = Search("connect_four", config, num_trees=trees), None
    states = playout.game("connect_four").batch(trees)
    logits, values = np.zeros((trees, 7), np.float32), np.zeros(trees, np.float32)

    def run() -> float:
        done = 0
        for _ in range(searches):
            search.begin(states)
            while (leaves := search.ask(observe=observe)) is not None:
                search.tell(logits[: leaves.size], values[: leaves.size])
            done += int(search.result().visits.sum())
        return done

    return run


def mctx_trees(kind: str, trees: int, simulations: int, searches: int) -> Candidate | None:
    """The same by mctx and pgx."""
    if not all(peer(name, name) for name in ("jax", "mctx", "pgx")):
        return None
    from playout.benchmarks.tools.peers.mctx_search import constant_search

    return constant_search(kind, trees, simulations, searches)


def lightzero_trees(
    python: str | None, kind: str, trees: int, simulations: int, searches: int
) -> Candidate | None:
    """LightZero's C++ tree in its own process, asked over a pipe."""
    if python is None:
        return None
    script = Path(__file__).parent / "peers" / "lightzero_search.py"
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
            few = max(1, int(60_000 * scale / (trees * simulations)))
            rates = measure(
                present(
                    playout=our_trees(*size, few * 8, False),
                    playout_with_obs=our_trees(*size, few * 8, True),
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


def main() -> int:
    """Measures, prints and writes benchmarks/results/search.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, nothing is written")
    parser.add_argument("--lightzero", metavar="PYTHON", help="an interpreter that has LightZero")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    repeats, scale = (3, 0.3) if arguments.quick else (9, 1.0)
    rollouts, claims = rollout_part(repeats, scale)
    larger, claims_of_games = games_part(repeats, scale)
    claims += claims_of_games
    trees, more = tree_part(arguments.lightzero, repeats, scale)
    for subject, rates in (rollouts | larger | trees).items():
        for name, rate in rates.items():
            print(f"{subject:>16} {name:<18} {rate}")
    for line in claims + more:
        if "ratio" in line:
            print(f"{line['claim']}: {line['ratio']} x {line['peer_name']}")
    if not arguments.quick:
        settings = {"repeats": repeats, "uct_c": 2, "cores": 1, "evaluator": "constant zeros"}
        path = write_result(
            "search",
            {"rollouts": rollouts, "games": larger, "trees": trees, "claims": claims + more},
            settings=settings,
        )
        print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
