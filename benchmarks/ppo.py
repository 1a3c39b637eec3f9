"""PPO beside stable-baselines3 and CleanRL's recipe: training throughput, time to solve CartPole.

Throughput is collection and updates together, same network, environments, batch and epochs, so the
same gradient steps. Time to 475 is the whole process for us (imports included) and training alone
for both. One torch thread unless said. Peers are optional: run it with a Python that has them.
Run it: python -m playout.benchmarks.ppo [--quick]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from playout.agents.commands.ppo import Command
from playout.agents.ppo.config import fill, preset
from playout.agents.ppo.trainer import PPOTrainer
from playout.agents.vector.factory import make_environments
from playout.benchmarks.tools.measuring import Rate, measure, peer, write_result
from playout.benchmarks.tools.peers import sb3_ppo

COMMAND = "python -m playout.benchmarks.ppo"
# CleanRL's ppo.py, as published: settings, not code.
CLEANRL = {
    "num_envs": 4,
    "num_steps": 128,
    "learning_rate": 2.5e-4,
    "num_epochs": 4,
    "minibatch_size": 128,
    "ent_coef": 0.01,
    "clip_vloss": True,
    "total_timesteps": 500_000,
}
# stable-baselines3's defaults, which its three algorithms are compared at.
DEFAULTS = {
    "num_envs": 8,
    "num_steps": 2048,
    "learning_rate": 3e-4,
    "anneal_lr": False,
    "num_epochs": 10,
    "minibatch_size": 64,
    "vf_coef": 1.0,
}
RECURRENT = {
    **DEFAULTS,
    "num_steps": 128,
    "minibatch_size": 128,
    "recurrent": "lstm",
    "recurrent_size": 256,
    "sequence_length": 32,
}
OWN = {
    "num_envs": 256,
    "num_steps": 64,
    "learning_rate": 3e-3,
    "num_epochs": 4,
    "minibatch_size": 2048,
    "hidden": (32, 32),
}


def trainer(
    env: str | Callable[[], Any] = "CartPole-v1",
    *,
    total: int,
    seed: int = 0,
    native: bool = True,
    stop: bool = False,
    **options: Any,
) -> PPOTrainer:
    """A trainer from options by their plain names."""
    settings = fill(Command, options)
    collect = settings.collect

    def make(count: int) -> Any:
        return make_environments(env, count, native=native)

    return PPOTrainer(
        make(collect.num_envs),
        lambda: make(collect.eval_episodes if native else 8),
        total_timesteps=total,
        seed=seed,
        ppo=settings.ppo,
        network=settings.network,
        collect=collect,
        stop=stop,
    )


def updates(own: PPOTrainer, count: int) -> Callable[[], float]:
    """`count` updates of a trainer; the work is counted in environment steps."""

    def run() -> float:
        before = own.steps
        for _ in range(count):
            own.update()
        return own.steps - before

    return run


def throughput(quick: bool) -> dict[str, Any]:
    """Steps per second trained, turn about with each peer."""
    repeats = 2 if quick else 5
    found: dict[str, Any] = {}
    claims = []
    cases = [
        ("PPO", DEFAULTS, True, 3.0, 2 if quick else 4),
        ("MaskablePPO", DEFAULTS, False, 1.0, 1),
        ("RecurrentPPO", RECURRENT, True, 10.0, 2),
        ("PPO", DEFAULTS, False, 1.0, 1),
    ]
    for algorithm, options, native, target, count in cases:
        masked = algorithm == "MaskablePPO"
        source = sb3_ppo.masked_cartpole if masked else "CartPole-v1"
        own = trainer(source, total=10**9, native=native, **options)
        functions = {"playout": updates(own, count)}
        theirs = sb3_ppo.learner(algorithm, options)
        if theirs is not None:
            functions["sb3"] = theirs
        rates = measure(functions, repeats=repeats)
        where = "" if native else " of Gymnasium in Python"
        name = f"{algorithm}, CartPole-v1{where}{', masks on both sides' if masked else ''}"
        found[name] = {"rates": rates, "environments": own.envs.description}
        claim: dict[str, Any] = {
            "claim": f"training throughput, {name}",
            "ours": rates["playout"],
            "unit": "steps/s",
            "target": target,
            "command": COMMAND,
        }
        if "sb3" in rates:
            claim |= {
                "peer": rates["sb3"],
                "peer_name": f"stable-baselines3 {algorithm}",
                "ratio": rates["playout"].over(rates["sb3"]),
            }
        claims.append(claim)
        print(name, {key: str(rate) for key, rate in rates.items()}, flush=True)
        own.close()
    own = trainer(total=10**9, **OWN)
    rates = measure({"playout": updates(own, 2 if quick else 8)}, repeats=repeats)
    print("own settings", rates["playout"], flush=True)
    found["own settings"] = {"rates": rates, "settings": OWN}
    claims.append(
        {
            "claim": "training throughput, CartPole-v1, settings of our own choosing",
            "ours": rates["playout"],
            "unit": "steps/s",
            "target": 100_000,
            "command": COMMAND,
        }
    )
    return {"throughput": found, "claims": claims}


def whole_process(seed: int) -> dict[str, float]:
    """`playout ppo CartPole-v1` from the shell until it ends, and what its run then scores."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        call = [sys.executable, "-m", "playout.cli", "ppo", "CartPole-v1"]
        call += ["--seed", str(seed), "--run", str(run), "--quiet"]
        begun = time.perf_counter()
        subprocess.run(call, check=True, env=os.environ, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "reward": sb3_ppo.score_run(run, seed)}


def to_475(seed: int, options: dict[str, Any]) -> dict[str, float]:
    """Training alone, evaluations included, until a confirmed mean of 475."""
    total = int(options.get("total_timesteps", 300_000))
    own = trainer(total=total, seed=seed, stop=True, **options)
    begun = time.perf_counter()
    while not own.finished:
        own.update()
        own.evaluate()
    return {
        "seconds": time.perf_counter() - begun,
        "steps": float(own.steps),
        "solved": float(own.solved),
    }


def solving(quick: bool) -> dict[str, Any]:
    """Seconds to a mean of 475 over 100 evaluation episodes."""
    seeds = range(3) if quick else range(10)
    tuned = preset("CartPole-v1")
    processes, ours, theirs, recipe = [], [], [], []
    for seed in seeds:
        processes.append(whole_process(seed))
        ours.append(to_475(seed, tuned))
        recipe.append(to_475(seed, CLEANRL))
        done = sb3_ppo.tuned_to_475(seed)
        if done is not None:
            theirs.append(done)
        print("seed", seed, processes[-1], ours[-1], theirs[-1:], flush=True)
    wall = Rate.of([one["seconds"] for one in processes])
    alone = Rate.of([one["seconds"] for one in ours])
    claims: list[dict[str, Any]] = [
        {
            "claim": "CartPole-v1 from scratch to 475, whole process",
            "ours": wall,
            "unit": "s",
            "target": 4.5,
            "better": "lower",
            "note": f"{len(processes)} seeds; worst score "
            f"{min(one['reward'] for one in processes):.1f} in Gymnasium's own CartPole",
            "command": COMMAND,
        },
        {
            "claim": "CartPole-v1 to 475, CleanRL's recipe in our trainer",
            "ours": Rate.of([one["seconds"] for one in recipe]),
            "unit": "s",
            "command": COMMAND,
        },
    ]
    if theirs:
        other = Rate.of([one["seconds"] for one in theirs])
        claims.append(
            {
                "claim": "CartPole-v1 to 475, training alone",
                "ours": alone,
                "unit": "s",
                "peer": other,
                "peer_name": "stable-baselines3, tuned",
                "ratio": other.median / alone.median,
                "note": f"{len(theirs)} seeds on both sides",
                "target": 5.0,
                "command": COMMAND,
            }
        )
    return {
        "time_to_475": {
            "process": processes,
            "playout": ours,
            "cleanrl_recipe": recipe,
            "sb3_tuned": theirs,
            "median_process_seconds": statistics.median(wall.runs),
        },
        "claims": claims,
    }


def main() -> None:
    """Measures everything and writes results/ppo.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repeats and seeds")
    parser.add_argument("--only", choices=("throughput", "solving"), help="one part")
    given = parser.parse_args()
    torch.set_num_threads(1)
    payload: dict[str, Any] = {"claims": []}
    for name, part in (("throughput", throughput), ("solving", solving)):
        if given.only in (None, name):
            found = part(given.quick)
            payload["claims"] += found.pop("claims")
            payload |= found
    if given.only is None and not given.quick:
        write_result("ppo", payload, settings={"threads": 1})


if __name__ == "__main__":
    peer("stable_baselines3", "stable-baselines3")
    main()
