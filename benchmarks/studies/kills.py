"""Kills ranks of a job at random instants and compares its run with one that was left alone.

Any training command; torchrun begins it again after each kill, and it goes on from its last
checkpoint. The state at the end has to have the same bytes, and the rows of metrics the same
numbers, times excepted.

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
from pathlib import Path
from typing import Any

from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import read_rows

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


def job(ranks: int, command: list[str], run: Path, restarts: int) -> subprocess.Popen[bytes]:
    """Starts a command of playout under torchrun; what it says goes to a file beside the run."""
    # The two dashes: torchrun takes --run for short of an option of its own.
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words += [
        "--nproc-per-node",
        str(ranks),
        "--max-restarts",
        str(restarts),
        "-m",
        "--",
        "playout",
    ]
    with run.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(
            [*words, *command, "--run", str(run)], stdout=log, stderr=subprocess.STDOUT
        )


def disturbed(
    ranks: int, command: list[str], run: Path, kills: int, seconds: float, rng: random.Random
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


def main() -> None:
    """Kills as often as asked, over as many runs as that takes, and says whether all were equal."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--kills", type=int, default=50, help="how many in all")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    parser.add_argument("--folder", type=Path, default=Path("runs/kills"))
    parser.add_argument("command", nargs="+", help="after --: a training command without --run")
    given = parser.parse_args()
    if RunDir.is_run(given.folder / "alone"):
        parser.error(f"{given.folder} holds an earlier study: move it, or name another --folder")
    given.folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(given.seed)
    begun = time.monotonic()
    alone = job(given.ranks, given.command, given.folder / "alone", restarts=0)
    if alone.wait() != 0:
        raise SystemExit(f"the job failed: see {given.folder / 'alone.log'}")
    seconds = time.monotonic() - begun
    expected, killed, number = outcome(given.folder / "alone"), 0, 0
    print(f"left alone it takes {seconds:.0f} s and ends after {len(expected[1])} updates")
    while killed < given.kills:
        number += 1
        run = given.folder / f"killed-{number}"
        killed += disturbed(given.ranks, given.command, run, given.kills - killed, seconds / 2, rng)
        same = outcome(run) == expected
        print(f"{killed} kills: {run} is {'the same' if same else 'ANOTHER'}", flush=True)
        if not same:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
