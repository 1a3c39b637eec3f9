"""Runs a toy training in forked children that die at chosen instants. Not a test itself.

    crash_driver.py clock FOLDER N SEED     kill -9 after N random times
    crash_driver.py call FOLDER N SEED      die before, inside or after N chosen operations on files
    crash_driver.py power FOLDER N SEED     the same, and what was not fsynced is lost

Every run must end with the files of a run that was never stopped.
"""

import importlib.util
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from playout.agents.runs.directory import RunDir
from playout.agents.runs.loop import train
from playout.agents.runs.metrics import read_rows

spec = importlib.util.spec_from_file_location(
    "toy_trainer", Path(__file__).with_name("toy_trainer.py")
)
toy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toy)

UPDATES = 9
CALLS = ["open", "write", "fsync", "rename", "replace", "unlink", "mkdir", "rmdir", "ftruncate"]


class Disk:
    """Wraps the file calls of os: counts them, dies at one, knows what a power cut loses."""

    def __init__(self, folder, die_at, how, power, rng):
        self.folder, self.die_at, self.how, self.power, self.rng = (
            str(folder),
            die_at,
            how,
            power,
            rng,
        )
        self.count = 0
        self.synced = {}  # path -> bytes that are safe
        self.renames = []  # (source, target, content of target before) not yet safe
        self.real = {name: getattr(os, name) for name in CALLS}
        for name in CALLS:
            setattr(os, name, lambda *a, _name=name, **k: self.call(_name, a, k))

    def path_of(self, descriptor):
        return os.readlink(f"/proc/self/fd/{descriptor}")

    def call(self, name, args, kwargs):
        real = self.real[name]
        if name == "open" and not (len(args) > 1 and args[1] & os.O_CREAT):
            return real(*args, **kwargs)
        if name == "write" and args[0] <= 2:
            return real(*args, **kwargs)
        self.count += 1
        here = self.count == self.die_at
        if here and self.how == "before":
            self.die()
        if here and self.how == "inside" and name == "write":
            real(args[0], memoryview(args[1]).cast("B")[: max(1, len(args[1]) // 2)])
            self.die()
        if self.power:
            self.note(name, args)
        result = real(*args, **kwargs)
        if here:
            self.die()
        return result

    def note(self, name, args):
        if name == "fsync":
            path = self.path_of(args[0])
            if os.path.isdir(path):
                self.renames = [r for r in self.renames if os.path.dirname(r[1]) != path]
            else:
                self.synced[path] = os.fstat(args[0]).st_size
        elif name == "write":
            path = self.path_of(args[0])
            self.synced.setdefault(path, 0)
        elif name in ("rename", "replace"):
            source, target = (os.path.abspath(a) for a in args[:2])
            before = None
            if os.path.isfile(target):
                before = Path(target).read_bytes()
            self.renames.append((source, target, before))
            for path in list(self.synced):
                if path == source or path.startswith(source + "/"):
                    self.synced[target + path[len(source) :]] = self.synced.pop(path)

    def die(self):
        if self.power:
            for path, size in self.synced.items():
                if os.path.isfile(path) and os.path.getsize(path) > size:
                    os.truncate(path, self.rng.randint(size, os.path.getsize(path)))
            keep = self.rng.randint(0, len(self.renames))
            for source, target, before in reversed(self.renames[keep:]):
                if os.path.exists(target) and not os.path.exists(source):
                    self.real["rename"](target, source)
                    if before is not None:
                        Path(target).write_bytes(before)
        os.kill(os.getpid(), signal.SIGKILL)


def attempt(folder, save_every, prepare=None):
    """Start or continue the run, as the command line would."""
    if prepare:
        prepare()
    run = RunDir.open_or_create(folder, kind="toy", config={"total": UPDATES}, seed=1)
    train(
        toy.ToyTrainer(UPDATES, 1), run, save_every=save_every, eval_every=3, keep=2, console=False
    )


def in_child(work, kill_after=None):
    """Run `work` in a forked child; returns its wait status (0: finished)."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            print(f"child: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def outcome(folder):
    """What must not depend on interruptions: rows without clocks, final files, the best."""
    run = RunDir.open(folder)
    rows = [
        {key: value for key, value in row.items() if not key.startswith("time/")}
        for row in read_rows(run.path)
    ]
    files = {name: digest for name, (_, digest) in run.find().files.items()}
    best = run.find("best")
    leftovers = [str(path) for path in run.path.rglob("*.tmp")]
    run.load(), run.load("best")
    return {"rows": rows, "files": files, "best": [best.step, best.metric], "leftovers": leftovers}


def main():
    mode, base, number, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    rng = random.Random(seed)
    reference = base / "reference"
    begun = time.monotonic()
    assert in_child(lambda: attempt(reference, 2)) == 0
    length = time.monotonic() - begun
    wanted = outcome(reference)
    total = 0
    if mode != "clock":
        counted = base / "counted"

        def count():
            disk = Disk(counted, -1, "after", False, rng)
            attempt(counted, 2)
            Path(base / "count").write_text(str(disk.count))

        assert in_child(count) == 0
        total = int((base / "count").read_text())
    report = {"trials": 0, "killed": 0, "operations": total, "different": []}
    for trial in range(number):
        folder = base / f"trial{trial}"
        save_every = rng.choice([1, 2, 5, 0.001, 100])
        if mode == "clock":
            attempts = 0
            while attempts < 50:
                attempts += 1
                status = in_child(
                    lambda every=save_every, path=folder: attempt(path, every),
                    kill_after=rng.uniform(0, length * 1.2) if attempts < 40 else None,
                )
                report["killed"] += status == signal.SIGKILL
                if status == 0:
                    break
        else:
            die_at = 1 + trial * total // number if number < total else trial % total + 1
            how = rng.choice(["before", "inside", "after"])
            child_rng = random.Random(rng.random())

            def run(path=folder, at=die_at, how=how, child_rng=child_rng):
                attempt(path, 2, lambda: Disk(path, at, how, mode == "power", child_rng))

            report["killed"] += in_child(run) == signal.SIGKILL
            status = in_child(lambda every=save_every, path=folder: attempt(path, every))
        report["trials"] += 1
        found = outcome(folder) if status == 0 else f"status {status}"
        if found != wanted:
            report["different"].append({"trial": trial, "found": str(found)[:400]})
        else:
            shutil.rmtree(folder)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
