"""Real trainings through the command line: stopped, killed, resumed, they end in the same bytes."""

import random
import signal
import time
from pathlib import Path

import forked
import pytest
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import read_rows

HELD = Path(__file__).with_name("held.py")
RUNS = {
    "ppo": ["CartPole-v1", "--total-timesteps", "24000", "--no-stop"],
    "alphazero": ["tic_tac_toe", "--updates", "12", "--size", "8x1", "--simulations", "4"],
}
UPDATES = 12


def rows(path):
    metrics = path / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def stop_at(process, path, number, kind):
    """Send a signal once the run has that many rows; it was at work until then."""
    until = time.monotonic() + 300
    while rows(path) < number:
        assert process.poll() is None and time.monotonic() < until, process.err
        time.sleep(0.002)
    process.send_signal(kind)
    return process.wait()


def outcome(path):
    run = RunDir.open(path)
    found = [
        {key: value for key, value in row.items() if not key.startswith("time/")}
        for row in read_rows(run.path)
    ]
    return found, {name: digest for name, (_, digest) in run.find().files.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_real_training_stopped_and_killed_equals_one_that_was_not(name, tmp_path):
    rng = random.Random(name)
    started = []

    def start(*words, rows=0):
        command = [HELD, rows] if rows else ["-m", "playout"]
        started.append(forked.start(*command, name, *words, "--quiet"))
        return started[-1]

    try:
        check(start, RUNS[name], tmp_path, rng)
    finally:
        for process in started:
            process.kill()


def check(start, words, tmp_path, rng):
    """One training left alone beside one that is stopped, killed and resumed."""
    whole = start(*words, "--run", tmp_path / "whole")
    path = tmp_path / "stopped"
    first = start(*words, "--run", path, rows=4)
    assert stop_at(first, path, rng.randint(1, 3), signal.SIGTERM) == 143, first.err
    done = RunDir.open(path).find().step
    second = start("--resume", path, rows=done + 4)
    assert stop_at(second, path, done + rng.randint(1, 3), signal.SIGKILL) == -signal.SIGKILL
    for process in (start("--resume", path), whole):
        assert process.wait() == 0, process.err
    assert len(outcome(path)[0]) == UPDATES > done + 4
    assert outcome(path) == outcome(tmp_path / "whole")
