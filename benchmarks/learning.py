"""Learning curves and final returns of the PPO presets, with intervals, beside published numbers.

Every preset is trained with several seeds for its whole budget; the result is the interquartile
mean over seeds with a stratified bootstrap interval (Agarwal et al. 2021), as rliable computes it.
The peer is stable-baselines3 with the tuned settings of rl-zoo3, trained here on the same steps
with the same seeds (--peer), or where that has not been done the table that rl-zoo3 publishes.
Writes a JSON file and a picture of the curves. Each run is written as soon as it ends: the next
call goes on with the seeds that are missing, and repeats those whose preset has changed since.
Run it: python -m playout.benchmarks.learning [--quick] [--peer] [--only ENV ...]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from playout.agents.ppo.config import preset
from playout.benchmarks.ppo import trainer
from playout.benchmarks.tools.measuring import RESULTS, write_result
from playout.benchmarks.tools.peers import sb3_learning
from playout.cores import usable_cores
from playout.errors import PlayoutError

COMMAND = "python -m playout.benchmarks.learning"
# Mean return of the tuned agents in rl-zoo3's table of benchmarks, and the steps they took.
ZOO = {
    "CartPole-v1": (500.0, 100_000),
    "MountainCar-v0": (-110.4, 1_000_000),
    "MountainCarContinuous-v0": (88.3, 20_000),
    "Acrobot-v1": (-73.5, 1_000_000),
    "Pendulum-v1": (-172.2, 100_000),
    "LunarLander-v3": (242.1, 1_000_000),
    "Hopper-v5": (2410.4, 1_000_000),
    "HalfCheetah-v5": (5819.1, 1_000_000),
}
SOURCE = "rl-zoo3's table, older versions of the environments, one best run"
CLASSIC = tuple(ZOO)[:5]
Runs = dict[str, list[dict[str, Any]]]
POINTS = 25
CURVE_EPISODES, FINAL_EPISODES = 10, 100


def interquartile_mean(scores: NDArray[np.float64]) -> float:
    """Mean of the middle half of all numbers."""
    ordered = np.sort(scores.reshape(-1))
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def bootstrap(
    scores: NDArray[np.float64], *, repeats: int = 5000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the interquartile mean of `[seeds, tasks]`, seeds drawn within each task."""
    rng = np.random.default_rng(seed)
    seeds, tasks = scores.shape
    rows = rng.integers(seeds, size=(repeats, seeds, tasks))
    drawn = scores[rows, np.arange(tasks)].reshape(repeats, -1)
    ordered = np.sort(drawn, axis=1)
    cut = ordered.shape[1] // 4
    means = ordered[:, cut : ordered.shape[1] - cut].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def learn(env: str, seed: int, quick: bool) -> dict[str, Any]:
    """One run of a preset over its whole budget: evaluations along the way, and 100 at the end."""
    torch.set_num_threads(1)
    options = dict(preset(env))
    total = int(options.pop("total_timesteps"))
    options["eval_episodes"] = CURVE_EPISODES
    if quick:
        total //= 5
    # Evaluations are made here, at fixed steps.
    own = trainer(env, total=total, seed=seed, **options)
    steps, returns, due = [], [], total // POINTS
    while not own.finished:
        own.update()
        if own.steps >= due * (len(steps) + 1):
            steps.append(own.steps)
            returns.append(own._evaluate("curve").mean)
    final = own._evaluate("final", FINAL_EPISODES // CURVE_EPISODES)
    own.close()
    return {
        "seed": seed,
        "steps": steps,
        "returns": returns,
        "final": final.mean,
        "std": final.std,
    }


def train_peer(env: str, seed: int, quick: bool) -> dict[str, Any] | None:
    """One run of stable-baselines3 over the steps of our preset; None where it is missing."""
    total = int(preset(env)["total_timesteps"])
    return sb3_learning.learn(env, seed, total // 5 if quick else total)


def draw(found: dict[str, list[dict[str, Any]]], path: Any) -> None:
    """Median and spread of the curves, one panel an environment."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = min(3, len(found))
    lines = -(-len(found) // columns)
    figure, panels = pyplot.subplots(
        lines, columns, figsize=(4.2 * columns, 3.0 * lines), squeeze=False
    )
    for panel in panels.reshape(-1)[len(found) :]:
        panel.axis("off")
    for panel, (env, runs) in zip(panels.reshape(-1), found.items(), strict=False):
        count = min(len(run["steps"]) for run in runs)
        steps = np.mean([run["steps"][:count] for run in runs], axis=0)
        returns = np.array([run["returns"][:count] for run in runs])
        low, middle, high = np.percentile(returns, [10, 50, 90], axis=0)
        panel.fill_between(steps, low, high, alpha=0.25, linewidth=0)
        panel.plot(steps, middle, linewidth=1.8, label="playout: median, 10 to 90 %")
        panel.axhline(
            ZOO[env][0], color="black", linestyle=":", linewidth=1, label="rl-zoo3, tuned"
        )
        panel.set_title(env, fontsize=10)
        panel.set_xlabel("environment steps", fontsize=8)
        panel.tick_params(labelsize=7)
        panel.xaxis.get_major_formatter().set_powerlimits((-3, 4))
    panels[0, 0].set_ylabel("mean return", fontsize=8)
    panels[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def middle_of(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Interquartile mean of the seeds' final returns with its interval."""
    scores = np.array([[run["final"]] for run in runs])
    low, high = bootstrap(scores)
    return {"median": interquartile_mean(scores), "min": low, "max": high}


def claims_of(found: Runs, theirs: Runs) -> list[dict[str, Any]]:
    """The final return of every environment beside the peer's, the same seeds on both sides."""
    claims = []
    for env, runs in found.items():
        claim: dict[str, Any] = {
            "claim": f"{env}, final return after {ZOO[env][1]:,} steps",
            "target": ZOO[env][0],
            "command": COMMAND,
        }
        seeds = {run["seed"] for run in runs} & {run["seed"] for run in theirs.get(env, [])}
        if len(seeds) >= 3:
            runs = [run for run in runs if run["seed"] in seeds]
            other = [run for run in theirs[env] if run["seed"] in seeds]
            claim |= {"peer": middle_of(other), "peer_name": "stable-baselines3, rl-zoo3's tuning"}
        else:
            claim |= {"peer": ZOO[env][0], "peer_name": "rl-zoo3, tuned", "source": SOURCE}
        claim["ours"] = middle_of(runs)
        claim["note"] = f"interquartile mean of {len(runs)} seeds with 95 % interval"
        claims.append(claim)
    return claims


def kept_runs() -> tuple[Runs, Runs]:
    """Runs of the last file: ours whose preset is still the same, and the peer's."""
    path = RESULTS / "learning.json"
    if not path.is_file():
        return {}, {}
    last = json.loads(path.read_text("utf-8"))
    presets = last["settings"]["presets"]
    runs: Runs = last["results"]["runs"]
    theirs: Runs = last["results"].get("peer_runs", {})
    return {e: runs[e] for e in ZOO if e in runs and presets[e] == preset(e)}, theirs


def write(found: Runs, theirs: Runs) -> None:
    """Write what is there, seeds in order."""
    ordered, others = (
        {env: sorted(runs[env], key=lambda run: run["seed"]) for env in ZOO if env in runs}
        for runs in (found, theirs)
    )
    if ordered:  # none of ours is kept where the peer's are trained first
        draw(ordered, RESULTS / "learning.png")
    write_result(
        "learning",
        {"claims": claims_of(ordered, others), "runs": ordered, "peer_runs": others},
        settings={
            "threads": 1,
            "presets": {e: preset(e) for e in ordered},
            "peer": {e: sb3_learning.TUNED[e] for e in others},
        },
    )


def main() -> None:
    """Trains every preset that can run here and writes results/learning.json and .png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 seeds, a fifth of the steps")
    parser.add_argument("--only", nargs="+", choices=list(ZOO), default=list(CLASSIC))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="runs side by side")
    parser.add_argument("--again", action="store_true", help="repeat runs that are there already")
    parser.add_argument("--peer", action="store_true", help="train stable-baselines3 instead")
    given = parser.parse_args()
    ours, theirs = ({}, {}) if given.quick else kept_runs()
    found = theirs if given.peer else ours
    if given.again:
        for env in given.only:
            found.pop(env, None)
    there = {(env, run["seed"]) for env, runs in found.items() for run in runs}
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.jobs, mp_context=fresh) as pool:
        waiting = {
            pool.submit(train_peer if given.peer else learn, env, seed, given.quick): env
            for seed in range(3 if given.quick else given.seeds)
            for env in given.only
            if (env, seed) not in there
        }
        for done in as_completed(waiting):
            env = waiting[done]
            try:
                run = done.result()
            except PlayoutError as error:
                print(f"{env}: left out: {error}", flush=True)
                continue
            if run is None:
                return
            found.setdefault(env, []).append(run)
            text = f"{env}, seed {run['seed']}: {run['final']:.1f}; wanted {ZOO[env][0]}"
            print(text, flush=True)
            if not given.quick:
                write(ours, theirs)


if __name__ == "__main__":
    main()
