"""Real trainings through the command line: stopped, killed, resumed, they end in the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import read_rows

RUNS = {
    "ppo": ["CartPole-v1", "--total-timesteps", "24000", "--no-stop"],
    "alphazero": ["tic_tac_toe", "--updates", "12", "--size", "8x1", "--simulations", "4"],
}


def rows(path):
    metrics = path / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def stop_after(process, path, number, kind):
    """Send a signal once the metrics have grown by `number` rows; False if it ended before."""
    begun, before = time.monotonic(), None
    while process.poll() is None and time.monotonic() - begun < 300:
        found = rows(path)
        if before is None or found < before:  # resuming cuts rows off first
            before = found
        if found >= before + number:
            process.send_signal(kind)
            process.communicate(timeout=300)
            return True
        time.sleep(0.002)
    return False


def outcome(path):
    run = RunDir.open(path)
    found = [
        {key: value for key, value in row.items() if not key.startswith("time/")}
        for row in read_rows(run.path)
    ]
    return found, {name: digest for name, (_, digest) in run.find().files.items()}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", RUNS)
def test_a_real_training_stopped_and_killed_equals_one_that_was_not(name, tmp_path):
    rng = random.Random(name)
    started = []

    def start(*words):
        command = [sys.executable, "-m", "playout", name, *words, "--quiet"]
        process = subprocess.Popen(
            command,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    try:
        check(start, RUNS[name], tmp_path, rng)
    finally:
        for process in started:
            process.kill()
            process.communicate()


def check(start, words, tmp_path, rng):
    """One training left alone beside one that is stopped, killed and resumed."""
    whole = start(*words, "--run", str(tmp_path / "whole"))
    path = tmp_path / "stopped"
    first = start(*words, "--run", str(path))
    stopped = stop_after(first, path, rng.randint(1, 2), signal.SIGTERM)
    assert stopped and first.returncode == 143, first.returncode
    killed = stop_after(start("--resume", str(path)), path, rng.randint(1, 2), signal.SIGKILL)
    last = start("--resume", str(path))
    _, errors = last.communicate(timeout=300)
    assert last.returncode == 0, errors
    _, errors = whole.communicate(timeout=300)
    assert whole.returncode == 0, errors
    assert killed
    assert outcome(path) == outcome(tmp_path / "whole")
