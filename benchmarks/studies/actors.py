"""A learner and its actors while somebody kills one of them again and again, and without that.

The learner learns Connect Four from the games that three actors publish; every so many seconds one
of the four is killed by SIGKILL and started again at once. Every file that appears is linked to a
second place, so that in the end it can be counted what became of it: no published game may be
lost, and none learned from more often than allowed. The same is done without kills, and both are
rated on the solved positions.

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playout.agents.runs.directory import RunDir
from playout.benchmarks.tools.measuring import write_result

COMMAND = "python -m playout.benchmarks.studies.actors"
LOOK_SECONDS = 0.02  # between two looks for new files
REUSE = 4
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
    """Keeps a second link to every file that is published, whatever becomes of the first."""

    def __init__(self, games: Path, seen: Path) -> None:
        super().__init__(daemon=True)
        self.games, self.seen = games, seen
        self.over = threading.Event()

    def run(self) -> None:
        """Looks again and again, and once more when it is over."""
        known: set[str] = set()
        last = False
        while not last:
            last = self.over.is_set()
            for name in os.listdir(self.games):
                stem, _, suffix = name.rpartition(".")
                if suffix not in ("games", "read") or stem in known:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    os.link(self.games / name, self.seen / stem)
                    known.add(stem)
            time.sleep(LOOK_SECONDS)


def header(path: Path) -> dict[str, Any]:
    """What a file of games says of itself."""
    with open(path, "rb") as file:
        return dict(json.loads(file.readline()))


def account(run: RunDir, games: Path, seen: Path) -> dict[str, Any]:
    """What became of everything that was published."""
    _, state = run.load()
    known = state["actors"]
    unread = {one.stem for one in games.glob("*.games")}
    # What was read after the last checkpoint would be read again: it is unread as well.
    unread |= {
        one.stem for one in games.glob("*.read") if f"{one.stem}.games" not in known["consumed"]
    }
    files = {one.name: header(one) for one in seen.iterdir()}
    gone = {name: about for name, about in files.items() if name not in unread}
    published = sum(about["counts"]["games"] for about in files.values())
    consumed = sum(about["counts"]["games"] for about in gone.values())
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
        "lost": consumed - learned - stale,
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
    witness = Witness(games, seen)
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
    found = account(RunDir.open(run), games, seen)
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
    claims = []
    for name, one in found.items():
        kills = sum(one["kills"].values())
        row = f"a learner and three actors, {minutes:g} minutes, {kills} kills"
        columns: list[tuple[str, Any, str, dict[str, Any]]] = [
            ("games published", float(one["published games"]), "games", {}),
            ("lost", float(one["lost"]), "games", {"target": 0, "better": "lower"}),
            (
                "learned from more often than allowed",
                float(one["more often than allowed"]),
                "times",
                {"target": 0, "better": "lower"},
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
    bad = [name for name, one in found.items() if one["lost"] or one["more often than allowed"]]
    if bad:
        print(f"games were lost or repeated: {', '.join(bad)}")
    if not quick:
        result = {"runs": found, "claims": claims_of(found, minutes)}
        settings = {"minutes": minutes, "kill every (s)": kill_every, "actors": 3, "game": game}
        print(f"wrote {write_result('actors', result, settings=settings)}")
    return 1 if bad else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--kill-every", type=float, default=20.0)
    given = parser.parse_args()
    raise SystemExit(main(given.quick, given.minutes, given.kill_every))
