"""A learner and its actors while somebody kills one of them again and again, and without that.

The learner learns Connect Four from the games that three actors publish; every so many seconds one
of the four is killed by SIGKILL and started again at once. Every file that appears is linked to a
second place, and what each checkpoint knows of files is noted, so that in the end it can be told of
every file what became of it: no published game may be lost, and none learned from more often than
allowed. The same is done without kills, and both are rated on the solved positions.

    python -m playout.benchmarks.studies.actors [--quick] [--minutes 10] [--kill-every 20]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playout.agents.runs.checkpoint.folder import newest_first
from playout.agents.runs.directory import RunDir
from playout.benchmarks.tools.measuring import write_result
from playout.errors import PlayoutError

COMMAND = "python -m playout.benchmarks.studies.actors"
LOOK_SECONDS = 0.02  # between two looks for new files
REUSE = 4
WRONG = ("lost", "learned from again", "unexplained", "more often than allowed")
GRACE_SECONDS = 300.0  # for what follows the last minute: saving, actors that end


@dataclass(slots=True)
class Programs:
    """The learner and its actors, each started again as often as it is killed."""

    run: Path
    games: Path
    game: str
    minutes: float
    actors: int
    logs: Path
    words: list[str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    kills: dict[str, int] = field(default_factory=dict)

    def command(self, name: str) -> list[str]:
        """What starts a program, or goes on with it."""
        playout = [sys.executable, "-m", "playout"]
        if name != "learner":
            into = ["--from", str(self.run), "--into", str(self.games), "--threads", "1"]
            return [*playout, "selfplay", *into, "--games-per-file", "16"]
        if (self.run / "run.json").exists():
            return [*playout, "alphazero", "--resume", str(self.run), "--quiet"]
        options = ["--minutes", str(self.minutes), "--no-rating", "--reuse", str(REUSE)]
        places = ["--run", str(self.run), "--games-from", str(self.games)]
        return [*playout, "alphazero", self.game, *places, *options, *self.words, "--quiet"]

    def start(self, name: str) -> None:
        """Starts a program; what it says goes into a file of its own."""
        with open(self.logs / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                self.command(name),
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def kill(self, name: str) -> None:
        """SIGKILL, and a new start."""
        process = self.processes[name]
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.kills[name] = self.kills.get(name, 0) + 1
        self.start(name)

    def end(self) -> None:
        """Kills what still runs, for good."""
        for process in self.processes.values():
            process.kill()
            process.wait()


class Witness(threading.Thread):
    """Keeps a second link to every file that is published, whatever becomes of the first.

    Args:
        run: the learner's run, of which each checkpoint is looked at ...
        games: ... the folder of games ...
        seen: ... and where links go.

    Attributes:
        taken: for each file that a checkpoint knows, the updates that have read it: more than one
            for a file that was learned from again.
    """

    def __init__(self, run: Path, games: Path, seen: Path) -> None:
        super().__init__(daemon=True)
        self.path, self.games, self.seen = run, games, seen
        self.taken: dict[str, set[int]] = {}
        self.over = threading.Event()
        self._linked: set[str] = set()
        self._steps: set[int] = set()  # of checkpoints that were looked at

    def run(self) -> None:
        """Looks again and again, and once more when it is over."""
        last = False
        while not last:
            last = self.over.is_set()
            self._link_files()
            self._look_at_checkpoints()
            time.sleep(LOOK_SECONDS)

    def _link_files(self) -> None:
        for name in os.listdir(self.games):
            stem, _, suffix = name.rpartition(".")
            if suffix not in ("games", "read") or stem in self._linked:
                continue
            with contextlib.suppress(FileNotFoundError):
                os.link(self.games / name, self.seen / stem)
                self._linked.add(stem)

    def _look_at_checkpoints(self) -> None:
        """Every file that was read stands in the first checkpoint after that; they stay a while."""
        new = [one for one, _ in newest_first(self.path / "checkpoints") if one not in self._steps]
        for step in new:
            with contextlib.suppress(PlayoutError, OSError):  # it has just been swept
                _, state = RunDir.open(self.path).load(step, only=["actors"])
                for name, since in state["actors"]["consumed"].items():
                    self.taken.setdefault(Path(name).stem, set()).add(since)
                self._steps.add(step)


def header(path: Path) -> dict[str, Any]:
    """What a file of games says of itself."""
    with open(path, "rb") as file:
        return dict(json.loads(file.readline()))


def account(
    run: RunDir, games: Path, seen: Path, taken: Mapping[str, Collection[int]]
) -> dict[str, Any]:
    """What became of everything that was published, file by file.

    Args:
        run: the learner's.
        games: the folder of games.
        seen: a link to every file that was published.
        taken: for each file that a checkpoint knew, the updates that have read it.
    """
    _, state = run.load()
    known = state["actors"]
    unread = {one.stem for one in games.glob("*.games")}
    # What was read after the last checkpoint would be read again: it is unread as well.
    unread |= {
        one.stem for one in games.glob("*.read") if f"{one.stem}.games" not in known["consumed"]
    }
    files = {one.name: int(header(one)["counts"]["games"]) for one in seen.iterdir()}
    published = sum(files.values())
    consumed = sum(number for name, number in files.items() if name not in unread)
    lost = [name for name in files if name not in unread and not taken.get(name)]
    # What was read and lies there to be read once more would be learned from again.
    again = [name for name in files if len(taken.get(name, ())) + (name in unread) > 1]
    learned, stale = int(state["totals"]["games"]), int(known["stale"]["games"])
    positions = int(state["replay"]["num_added"])
    batch = int(run.config["alphazero"]["learner"]["batch_size"])
    samples = batch * sum(int(part["steps"]) for part in state["learners"])
    turns = len(state["replay"]["turns"]["keys"])
    return {
        "published games": published,
        "learned from": learned,
        "too old": stale,
        "unread at the end": published - consumed,
        "lost": sum(files[name] for name in lost),
        "learned from again": sum(files[name] for name in again),
        "unexplained": consumed - learned - stale,
        "gradient samples": samples,
        "turns left": turns,
        "samples a position": (samples + turns) / max(1, positions),
        "more often than allowed": max(0, samples + turns - REUSE * positions),
        "set aside": int(known["files"]["aside"]),
    }


def live(
    folder: Path, *, game: str, minutes: float, kill_every: float, seed: int, words: list[str]
) -> dict[str, Any]:
    """One learner and three actors for so many minutes; `kill_every` 0 kills nobody."""
    run, games, seen = folder / "run", folder / "games", folder / "seen"
    for one in (games, seen):
        one.mkdir(parents=True)
    programs = Programs(run, games, game, minutes, 3, folder, words)
    names = ["learner", *(f"actor{number}" for number in range(programs.actors))]
    witness = Witness(run, games, seen)
    witness.start()
    try:
        for name in names:
            programs.start(name)
        begun, draw = time.monotonic(), random.Random(seed)
        due = begun + kill_every
        learner_over = False
        while not learner_over:
            time.sleep(0.2)
            code = programs.processes["learner"].poll()
            if code is not None:
                if code:
                    raise SystemExit(f"the learner ended with {code}: see {folder / 'learner.log'}")
                learner_over = True
            elif kill_every and time.monotonic() >= due and (run / "LATEST").exists():
                programs.kill(draw.choice(names))
                due = time.monotonic() + kill_every
            if time.monotonic() - begun > 60 * minutes + GRACE_SECONDS:
                raise SystemExit(f"the learner does not end: see {folder / 'learner.log'}")
        for name in names[1:]:
            try:
                programs.processes[name].wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                raise SystemExit(f"{name} does not end with the run: see {folder}") from None
        time.sleep(10 * LOOK_SECONDS)
    finally:  # where it failed, nobody is left to write into a folder that goes away
        programs.end()
        witness.over.set()
        witness.join()
    found = account(RunDir.open(run), games, seen, witness.taken)
    return {**found, "kills": dict(sorted(programs.kills.items()))}


def strength(run: Path) -> list[dict[str, Any]]:
    """How often its moves keep the outcome of solved positions, with intervals."""
    command = [sys.executable, "-m", "playout", "eval", str(run), "--json", "-"]
    command += ["--opponents", "random", "--episodes", "2"]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    shares = json.loads(done.stdout).get("positions", [])
    return list(shares) if isinstance(shares, list) else [shares]


def claims_of(found: dict[str, Any], minutes: float) -> list[dict[str, Any]]:
    """For the measured tables: a row with kills and one without."""
    claims, none = [], {"target": 0, "better": "lower"}
    for name, one in found.items():
        kills = sum(one["kills"].values())
        row = f"a learner and three actors, {minutes:g} minutes, {kills} kills"
        columns: list[tuple[str, Any, str, dict[str, Any]]] = [
            ("games published", float(one["published games"]), "games", {}),
            ("lost", float(one["lost"]), "games", none),
            ("of files read again", float(one["learned from again"]), "games", none),
            (
                "learned from more often than allowed",
                float(one["more often than allowed"]),
                "times",
                none,
            ),
        ]
        for share in one["solved positions"]:
            low, high = share["value_preserving_interval"]
            kept = {"median": 100 * share["value_preserving"], "min": 100 * low, "max": 100 * high}
            columns.append((f"outcomes kept by {share['by']}", kept, "%", {}))
        claims += [
            {
                "claim": f"{name}: {column}",
                "row": row,
                "column": column,
                "ours": ours,
                "unit": unit,
                "command": COMMAND,
                **wanted,
            }
            for column, ours, unit, wanted in columns
        ]
    return claims


def main(quick: bool = False, minutes: float = 10.0, kill_every: float = 20.0) -> int:
    """Runs both, checks the accounts and writes a result."""
    game, words = "connect_four", ["--size", "small"]
    if quick:
        game, minutes, kill_every = "tic_tac_toe", 1.0, 6.0
        words = ["--size", "8x1", "--simulations", "8", "--warmup-positions", "500"]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        for name, every in (("with kills", kill_every), ("without", 0.0)):
            folder = Path(place) / name.replace(" ", "-")
            folder.mkdir()
            found[name] = live(
                folder, game=game, minutes=minutes, kill_every=every, seed=1, words=words
            )
            found[name]["solved positions"] = strength(folder / "run")
            print(f"{name}: {json.dumps(found[name], indent=1)}", flush=True)
    bad = [name for name, one in found.items() if any(one[what] for what in WRONG)]
    if bad:
        print(f"games were lost or repeated: {', '.join(bad)}")
    if not quick:
        result = {"runs": found, "claims": claims_of(found, minutes)}
        settings = {"minutes": minutes, "kill every (s)": kill_every, "actors": 3, "game": game}
        print(f"wrote {write_result('studies/jobs/actors', result, settings=settings)}")
    return 1 if bad else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--kill-every", type=float, default=20.0)
    given = parser.parse_args()
    raise SystemExit(main(given.quick, given.minutes, given.kill_every))
