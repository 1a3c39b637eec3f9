"""The learning curve on Connect Four: shares of good moves against minutes, games and evaluations.

Reads runs of `playout alphazero connect_four` (or makes them first), and sets baselines beside
them: the same network taught solver-labelled positions within the same minutes, alpha-beta alone,
and search with random rollouts. Positions are the 2,000 fixed ones where it matters. Writes a JSON
file and a plot. What is measured takes the place of its like in that file; the rest of it stays.

    python -m playout.benchmarks.studies.games.connect_four --runs runs/c4-15-0 runs/c4-60-0 ...
    python -m playout.benchmarks.studies.games.connect_four --train 15 --seeds 0 1 2 --into runs
    python -m playout.benchmarks.studies.games.connect_four --supervised 15
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import playout
from playout.agents.commands.alphazero import DEMO_MINUTES
from playout.agents.rating.evaluation import judge_positions, shares
from playout.agents.rating.positions import load_scored_positions
from playout.benchmarks.tools.measuring import STUDIES, machine, write_result
from playout.mcts.exact.prover import GIVEN_UP, prover_for
from playout.mcts.exact.solver import END_NODES

if TYPE_CHECKING:
    from playout.agents.alphazero.replay import Examples
    from playout.agents.networks.boards.network import BoardNetwork
    from playout.envs.core.game import NativeGame

COMMAND = "python -m playout.benchmarks.studies.games.connect_four"
GAME = "connect_four"
ROLLOUTS = (100, 1_000, 10_000)
LABELLED_PLIES = (8, 26)  # random ones that lead to positions for the supervised baseline
# Nodes of a leaf near the end, and about what all leaves of a search of 128 take together.
ALPHA_BETA = (END_NODES, 16 * END_NODES)
# Per cent: points that the demo's agent should make, and shares wanted after an hour.
DEMO = {"points against random": 98.0, "points against uct:500": 75.0}
HOUR = {"policy": 97.0, "search of 128": 99.5}
AXES = {
    "minutes": "minutes on two cores",
    "games": "games of self-play",
    "evaluations": "evaluations",
}


def train_runs(minutes: float, seeds: list[int], into: Path) -> list[Path]:
    """Makes runs one after another, each as a person would, and returns their folders."""
    found = []
    for seed in seeds:
        path = into / f"{GAME}-{minutes:g}min-{seed}"
        command = [sys.executable, "-m", "playout", "alphazero", GAME, "--minutes", f"{minutes:g}"]
        command += ["--seed", str(seed), "--run", str(path)]
        if not (path / "strength.json").is_file():
            resume = (path / "run.json").is_file()
            options = ["--resume", str(path)] if resume else []
            subprocess.run(command[:4] + options if resume else command, check=True)
        found.append(path)
    return found


def curve(path: Path) -> dict[str, Any]:
    """One run: settings, a point for every evaluation, and the strength at its end."""
    record = json.loads((path / "run.json").read_text(encoding="utf-8"))
    points: list[dict[str, float]] = []
    with open(path / "metrics.jsonl", encoding="utf-8") as rows:
        for text in rows:
            row = json.loads(text)
            if "eval/optimal_move_share" in row:
                points.append(
                    {
                        "minutes": row["time/elapsed"] / 60,
                        "games": row["selfplay/games"],
                        "evaluations": row["search/evaluations"],
                        "policy": row["eval/policy_optimal_share"],
                        "search": row["eval/optimal_move_share"],
                        **ratings_of(row),
                    }
                )
    if not points:
        raise SystemExit(f"error: {path} was never evaluated; let it run longer")
    strength = path / "strength.json"
    final = json.loads(strength.read_text(encoding="utf-8")) if strength.is_file() else {}
    if not final.get("positions"):
        final["positions"] = judge_positions(playout.load(path))
    config = record["config"]
    where = {key: value for key, value in machine().items() if key in ("processor", "cores")}
    where["settings"] = settings_of(config["alphazero"])
    return {
        "minutes": config.get("minutes") or (DEMO_MINUTES if config.get("demo") else None),
        "demo": bool(config.get("demo")),
        "seed": record["seed"],
        "measured": {"date": record["created"][:10], **where},
        "size": config["alphazero"]["size"],
        "simulations": config["alphazero"]["selfplay"]["num_simulations"],
        "points": points,
        "final": final,
    }


def ratings_of(row: dict[str, float]) -> dict[str, float]:
    """The rating of an evaluation; runs of earlier versions were rated above another player."""
    names = {"eval/rating": "elo above random", "eval/elo": "elo above uct:500"}
    return {name: row[key] for key, name in names.items() if key in row}


def settings_of(config: dict[str, Any]) -> str:
    """What tells runs of the same length apart, from the run's own record."""
    share = config["selfplay"]["opening_share"]
    return f"{100 * share:.0f} % of games from random positions"


def rollout_baseline(simulations: int) -> dict[str, Any]:
    """Search with random rollouts on the same positions."""
    from playout.agents.players.analysis import analyse, rollout_judge

    positions = load_scored_positions(GAME)
    game = positions.states.game
    start = time.perf_counter()
    actions = analyse(positions.states, rollout_judge(game, simulations, threads=2)).action
    seconds = time.perf_counter() - start
    result = shares(actions, positions.scores)
    print(f"rollouts, {simulations} simulations: {result['value_preserving']:.1%}", flush=True)
    return {"simulations": simulations, "seconds": seconds, **result}


def alpha_beta_baseline(nodes: int) -> dict[str, Any]:
    """Alpha-beta alone: its move where it proves the position, elsewhere a random one."""
    positions = load_scored_positions(GAME)
    states = positions.states
    prover = prover_for(states.game, nodes)
    assert prover is not None
    outcomes = prover.outcomes(states.data)
    proven = outcomes[:, 0] != GIVEN_UP
    rng = np.random.default_rng(0)
    keeps = np.where(proven[:, None], outcomes == outcomes.max(axis=1, keepdims=True), 0)
    chance = rng.random(keeps.shape) * np.where(proven[:, None], keeps, states.legal_mask())
    found = shares(chance.argmax(axis=1).astype(np.int32), positions.scores)
    result = {"nodes": nodes, "proven": float(proven.mean()), **found}
    print(f"alpha-beta, {nodes:,} nodes: {result['value_preserving']:.1%}", flush=True)
    return result


def taught(
    game: NativeGame, examples: Examples, *, size: str, steps: int, seed: int
) -> BoardNetwork:
    """A fresh network taught solved positions with the means of self-play; the averaged one."""
    from playout.agents.alphazero.config import LearnerConfig
    from playout.agents.alphazero.learner import Learner
    from playout.agents.alphazero.replay import Replay
    from playout.agents.networks.boards.registry import new_network

    learner = Learner(new_network(game, size, seed=seed), LearnerConfig())
    replay = Replay(game, len(examples), seed=seed)
    replay.add(examples)
    for step in range(steps):
        batch = replay.batch(step, learner.config.batch_size)
        learner.step(batch, done=step / steps)
    return learner.average


def supervised_baseline(minutes: float, size: str, *, seed: int = 0) -> dict[str, Any]:
    """Half of the minutes for labels, half for learning them; the network's shares at the end."""
    import torch
    from playout.agents.alphazero.evaluator import NetworkEvaluator
    from playout.agents.alphazero.proofs import player_evaluator
    from playout.agents.players.analysis import analyse, policy_judge, search_judge
    from playout.agents.players.search import playing_search
    from playout.agents.pretraining.supervised import examples_of, solve

    torch.set_num_threads(1)
    positions = load_scored_positions(GAME)
    game = positions.states.game
    solved = solve(
        game, count=10**7, plies=LABELLED_PLIES, seconds=minutes * 30, threads=2, seed=seed
    )
    examples = examples_of(*solved)
    start = time.perf_counter()
    taught(game, examples, size=size, steps=30, seed=seed)
    steps = max(100, int(30 * minutes * 30 / (time.perf_counter() - start)))
    net = taught(game, examples, size=size, steps=steps, seed=seed)
    network = NetworkEvaluator(net)
    seeing = player_evaluator(network, game)
    by_policy = analyse(positions.states, policy_judge(seeing)).action
    judge = search_judge(game, playing_search(128), seeing)
    result = {
        "minutes": minutes,
        "size": size,
        "positions labelled": len(examples),
        "steps": steps,
        "policy": shares(by_policy, positions.scores),
        "search": shares(analyse(positions.states, judge).action, positions.scores),
    }
    print(
        f"supervised, {len(examples):,} positions: policy "
        f"{result['policy']['value_preserving']:.1%}, search "
        f"{result['search']['value_preserving']:.1%}",
        flush=True,
    )
    return result


def claims_of(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Points and shares in per cent: median and range of the seeds; of one, its 95 % interval.

    Runs on different processors, which see different numbers of games, are not mixed; where runs
    of the same length differ in their settings, the row says in which.
    """
    claims = []

    def add(what: str, runs: list[dict[str, Any]], **more: Any) -> None:
        middles = [one.get("score", one.get("value_preserving")) for one in runs]
        ends = middles
        if len(runs) == 1:
            ends = runs[0].get("score_interval") or runs[0]["value_preserving_interval"]
        ours = {"median": float(np.median(middles)), "min": min(ends), "max": max(ends)}
        ours = {name: 100 * value for name, value in ours.items()}
        claims.append({"claim": what, "ours": ours, "unit": "%", "command": COMMAND, **more})

    alike: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in results["runs"]:
        length = f"{'the demo, ' if run['demo'] else ''}{run['minutes'] or 0:g} minutes"
        length += f" of self-play, {run['size']} network"
        measured = run["measured"]
        where = "; ".join(measured[name] for name in ("processor", "settings") if name in measured)
        alike.setdefault((length, where), []).append(run)
    for (length, where), runs in alike.items():
        seeds = f"{len(runs)} seeds" if len(runs) > 1 else f"seed {runs[0]['seed']}"
        found: dict[str, list[dict[str, Any]]] = {}
        for run in runs:
            for one in run["final"]["positions"]:
                found.setdefault(one["by"], []).append(one)
            for one in run["final"].get("matches", []):
                what = f"points against {one['opponent']}"
                if what in DEMO:  # the other rungs of the ladder differ from run to run
                    found.setdefault(what, []).append(one)
        targets = DEMO if runs[0]["demo"] else HOUR if (runs[0]["minutes"] or 0) >= 60 else {}
        for what, ones in found.items():
            column = what if what.startswith("points") else f"keeps the outcome: {what}"
            place = {"row": f"{length}, {seeds} ({where})", "column": column}
            target = {"target": targets[what]} if what in targets else {}
            add(f"{length}, {seeds}: {column}", ones, **place, **target)
    for one in results["supervised"]:
        for kind in ("policy", "search"):
            minutes = f"taught by the solver for {one['minutes']:g} minutes"
            add(f"{minutes}: moves that keep the outcome, {kind}", [one[kind]])
    for one in results["alpha-beta"]:
        add(f"alpha-beta alone, {one['nodes']:,} nodes: moves that keep the outcome", [one])
    for one in results["rollouts"]:
        add(f"{one['simulations']:,} random rollouts: moves that keep the outcome", [one])
    return claims


def plot(results: dict[str, Any], path: Path) -> None:
    """Shares of both kinds against the three axes, baselines as lines."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    figure, panels = plt.subplots(1, 3, figsize=(13, 4.2), sharey=True)
    colours = {"search": "#1b6ca8", "policy": "#d1603d"}
    labels = {"search": "with search, as the run rates itself", "policy": "policy alone"}
    for panel, (axis, title) in zip(panels, AXES.items(), strict=True):
        for run in results["runs"]:
            thick = 2.0 if (run["minutes"] or 0) >= 30 else 1.0
            strong = 0.95
            for kind, colour in colours.items():
                xs = [point[axis] for point in run["points"]]
                ys = [100 * point[kind] for point in run["points"]]
                panel.plot(xs, ys, color=colour, lw=thick, alpha=strong)
        for one in results["rollouts"]:
            share = 100 * one["value_preserving"]
            panel.axhline(share, color="grey", lw=0.8, ls=":")
            text = f"rollouts, {one['simulations']:,}"
            panel.text(0.99, share, text, transform=panel.get_yaxis_transform(), fontsize=7,
                       ha="right", va="bottom", color="grey")  # fmt: skip
        if axis == "minutes":
            for one in results["supervised"]:
                for kind, colour in colours.items():
                    share = 100 * one[kind]["value_preserving"]
                    panel.plot(one["minutes"], share, "x", color=colour)
        if axis != "minutes":
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_major_formatter(EngFormatter(sep=""))
            panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xlabel(title)
        panel.grid(alpha=0.25)
    for kind, colour in colours.items():
        panels[0].plot([], [], color=colour, label=labels[kind])
    panels[0].plot([], [], "x", color="grey", label="taught by the solver")
    panels[0].set_ylabel("moves that keep the outcome, %")
    panels[0].legend(loc="lower left", bbox_to_anchor=(0.02, 0.08), fontsize=8)
    figure.suptitle("Connect Four by self-play: positions where the move matters")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def merged(old: Iterable[dict[str, Any]], new: Iterable[dict[str, Any]], *by: str) -> list[Any]:
    """Rows of both, new ones in place of old ones that agree in all of `by`, in order of it."""
    rows = {tuple(row[name] or 0 for name in by): row for row in (*old, *new)}
    return [rows[key] for key in sorted(rows)]


def main() -> None:
    """Collects runs, measures the baselines, writes connect_four.json and connect_four.png."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="runs to read")
    parser.add_argument("--train", type=float, help="make runs of so many minutes first")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--into", type=Path, default=Path("runs"))
    parser.add_argument("--supervised", type=float, nargs="*", help="minutes; by default 15")
    parser.add_argument("--rollouts", type=int, nargs="*", help="simulations")
    parser.add_argument("--alpha-beta", type=int, nargs="*", help="nodes")
    parser.add_argument("--afresh", action="store_true", help="keep nothing of the last file")
    args = parser.parse_args()

    last = STUDIES / "games" / "connect_four.json"
    kept: dict[str, list[dict[str, Any]]] = {}
    if last.is_file() and not args.afresh:
        kept = json.loads(last.read_text(encoding="utf-8"))["results"]
    paths = args.runs + (train_runs(args.train, args.seeds, args.into) if args.train else [])
    runs = merged(kept.get("runs", ()), map(curve, paths), "minutes", "demo", "size", "seed")
    if not runs:
        parser.error("name runs to read, or --train MINUTES")
    size = runs[-1]["size"]

    def baseline(name: str, given: list[Any] | None, default: list[Any]) -> list[Any]:
        """What to measure: what was asked for; all of it where the last file has nothing."""
        return given if given is not None else [] if kept.get(name) else default

    taught = baseline("supervised", args.supervised, [15.0])
    rollouts = baseline("rollouts", args.rollouts, list(ROLLOUTS))
    nodes = baseline("alpha-beta", args.alpha_beta, list(ALPHA_BETA))
    results: dict[str, Any] = {
        "runs": runs,
        "supervised": merged(
            kept.get("supervised", ()),
            (supervised_baseline(minutes, size) for minutes in taught),
            "minutes",
        ),
        "alpha-beta": merged(kept.get("alpha-beta", ()), map(alpha_beta_baseline, nodes), "nodes"),
        "rollouts": merged(
            kept.get("rollouts", ()), map(rollout_baseline, rollouts), "simulations"
        ),
    }
    results["claims"] = claims_of(results)
    settings = {"command": COMMAND, "positions": len(load_scored_positions(GAME))}
    print(f"wrote {write_result('studies/games/connect_four', results, settings=settings)}")
    plot(results, STUDIES / "games" / "connect_four.png")


if __name__ == "__main__":
    main()
