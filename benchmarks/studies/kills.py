"""Kills ranks of a job at random instants and compares its run with one that was left alone.

Trainings of PPO, self-play and language, or any training command; torchrun begins it again after
each kill, and it goes on from its last checkpoint, of which there is one every few seconds. The
state at the end has to have the same bytes, and the rows of metrics the same numbers, times
excepted.

    python -m playout.benchmarks.studies.kills [--quick] [--kills 50] [--only alphazero]
    python -m playout.benchmarks.studies.kills --kills 50 -- ppo CartPole-v1 --no-stop
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import read_rows
from playout.benchmarks.tools.measuring import earlier_result, write_result

COMMAND = "python -m playout.benchmarks.studies.kills"
SAVE_SECONDS = 2.0  # between checkpoints: a kill shall find one, and lose what came after it
JOBS = {
    "ppo": ("ppo", "CartPole-v1", "--no-stop", "--total-timesteps", "50000"),
    "alphazero": (
        *("alphazero", "connect_four", "--size", "small", "--simulations", "16", "--no-rating"),
        *("--evaluations", "8192", "--steps", "16", "--warmup-positions", "500"),
        *("--updates", "20"),
    ),
    "pretrain": (
        *("rlhf", "pretrain", "--data", "synthetic", "--size", "tiny", "--rows", "32"),
        *("--length", "128", "--steps", "120"),
    ),
}
QUICK = {
    "ppo": (*JOBS["ppo"][:-1], "20000"),
    "alphazero": (
        *("alphazero", "tic_tac_toe", "--size", "8x1", "--simulations", "8", "--updates", "6"),
        "--no-rating",
    ),
    "pretrain": (*JOBS["pretrain"][:-1], "20"),
}

Outcome = tuple[dict[str, str], list[dict[str, Any]]]


def ranks_of(torchrun: int) -> list[int]:
    """The process ids of the ranks that this torchrun runs now, in order of rank (Linux)."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            variables = (entry / "environ").read_bytes() if parent == torchrun else b""
        except (OSError, ValueError, IndexError):  # it has just ended
            continue
        for variable in variables.split(b"\0"):
            if variable.startswith(b"RANK="):
                found[int(variable[5:])] = int(entry.name)
    return [found[number] for number in sorted(found)]


def outcome(path: Path) -> Outcome:
    """The digests of the last checkpoint's files, and all rows of metrics but their times."""
    run = RunDir.open(path)
    entry = run.find()
    rows = [
        {key: value for key, value in row.items() if not key.startswith("time/")}
        for row in read_rows(path)
    ]
    return {name: sha for name, (_, sha) in (entry.files if entry else {}).items()}, rows


def work(words: list[str]) -> int:
    """A rank: the command of `words`, with a checkpoint every few seconds."""
    from playout.agents.runs import loop

    whole = loop.train

    def train(*given: Any, **named: Any) -> None:
        whole(*given, **{**named, "save_every": SAVE_SECONDS})

    loop.train = train  # type: ignore[assignment]  # before a command imports it
    from playout import cli

    return cli.main(words)


def job(ranks: int, command: Sequence[str], run: Path, restarts: int) -> subprocess.Popen[bytes]:
    """Starts a command of playout under torchrun; what it says goes to a file beside the run."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words += ["--nproc-per-node", str(ranks), "--max-restarts", str(restarts), "-m"]
    # The two dashes: torchrun takes --run for short of an option of its own.
    words += ["--", "playout.benchmarks.studies.kills", "--work", *command, "--run", str(run)]
    with run.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)


def disturbed(
    ranks: int, command: Sequence[str], run: Path, kills: int, seconds: float, rng: random.Random
) -> int:
    """Runs the command, killing a rank now and then; returns how often."""
    process, killed = job(ranks, command, run, restarts=kills), 0
    while process.poll() is None and killed < kills:
        time.sleep(rng.uniform(0, seconds))
        there = ranks_of(process.pid)
        if len(there) < ranks:
            continue  # it is being begun again
        victim = rng.choice(there)
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue
        killed += 1
    if process.wait() != 0:
        raise SystemExit(f"the job failed: see {run.with_suffix('.log')}")
    return killed


def compare(
    command: Sequence[str], *, kills: int, ranks: int, folder: Path, rng: random.Random
) -> dict[str, Any]:
    """One run that is left alone, and as many others as so many kills take."""
    folder.mkdir(parents=True)
    begun = time.monotonic()
    alone = job(ranks, command, folder / "alone", restarts=0)
    if alone.wait() != 0:
        raise SystemExit(f"the job failed: see {folder / 'alone.log'}")
    seconds = time.monotonic() - begun
    expected, killed, runs, others = outcome(folder / "alone"), 0, 0, 0
    name = " ".join(command)
    print(f"{name}: left alone it takes {seconds:.0f} s for {len(expected[1])} updates", flush=True)
    while killed < kills:
        runs += 1
        run = folder / f"killed-{runs}"
        killed += disturbed(ranks, command, run, kills - killed, seconds / 2, rng)
        same = outcome(run) == expected
        others += not same
        print(f"{killed} kills: {run} is {'the same' if same else 'ANOTHER'}", flush=True)
    return {
        "command": name,
        "ranks": ranks,
        "kills": killed,
        "runs": runs,
        "updates": len(expected[1]),
        "seconds alone": seconds,
        "runs that ended otherwise": others,
        "equal bytes": not others,
    }


def claims_of(jobs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For the measured tables: a row for each command."""
    wanted = {"runs that ended otherwise": {"target": 0, "better": "lower"}}
    return [
        {
            "claim": f"{one['command']}, {one['ranks']} ranks: {column}",
            "row": f"`{one['command']}`, {one['ranks']} ranks",
            "column": column,
            "ours": float(one[column]),
            "unit": "",
            "command": COMMAND,
            **wanted.get(column, {}),
        }
        for one in jobs
        for column in ("kills", "runs", "updates", "runs that ended otherwise")
    ]


def with_earlier(jobs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A result, with what the last one on this machine says of other commands."""
    now = {(one["command"], one["ranks"]) for one in jobs}
    earlier = [
        one
        for one in earlier_result("studies/jobs/kills").get("jobs", [])
        if (one["command"], one["ranks"]) not in now
    ]
    return {"jobs": [*earlier, *jobs], "claims": claims_of([*earlier, *jobs])}


def main() -> int:
    """Kills each command as often as asked, says whether all were equal, and writes a result."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="short runs, of which none is kept")
    parser.add_argument("--kills", type=int, help="how many of each command; 50, or 3 if quick")
    parser.add_argument("--only", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    parser.add_argument("--folder", type=Path, default=Path("runs/kills"))
    parser.add_argument("command", nargs="*", help="after --: a training command without --run")
    given = parser.parse_args()
    if given.folder.exists() and any(given.folder.iterdir()):
        parser.error(f"{given.folder} holds an earlier study: move it, or name another --folder")
    kills = given.kills or (3 if given.quick else 50)
    chosen = {name: (QUICK if given.quick else JOBS)[name] for name in given.only}
    if given.command:
        chosen = {"command": given.command}
    rng = random.Random(given.seed)
    jobs = [
        compare(words, kills=kills, ranks=given.ranks, folder=given.folder / name, rng=rng)
        for name, words in chosen.items()
    ]
    if not given.quick:
        settings = {"save every (s)": SAVE_SECONDS, "kills": kills, "seed": given.seed}
        print(f"wrote {write_result('studies/jobs/kills', with_earlier(jobs), settings=settings)}")
    return 0 if all(one["equal bytes"] for one in jobs) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        raise SystemExit(work(sys.argv[2:]))
    raise SystemExit(main())
