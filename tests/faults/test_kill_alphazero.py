"""A self-play run that the system kills and that is resumed equals one that was left alone."""

import signal
import time
from pathlib import Path

import forked
import pytest
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import read_rows

HELD = Path(__file__).with_name("held.py")
UPDATES = 6
SETTINGS = [
    "--updates",
    str(UPDATES),
    "--eval-every",
    "1",
    "--size",
    "8x1",
    "--simulations",
    "4",
    "--seed",
    "2",
]


def start(*words, rows=UPDATES + 1):
    """A training; with so many rows it waits to be killed."""
    return forked.start(HELD, rows, "alphazero", *words, "--quiet")


def finish(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-2000:]


def num_rows(path):
    metrics = path / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def kill_between_checkpoints(process, path):
    """SIGKILL once an update has followed the first checkpoint; the checkpoint it leaves."""
    until = time.monotonic() + 300
    while not (path / "LATEST").exists() or num_rows(path) <= RunDir.open(path).find().step:
        assert process.poll() is None and time.monotonic() < until, process.err
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it was at work, and could not tidy up
    checkpoint = RunDir.open(path).find()
    assert 1 <= checkpoint.step < UPDATES
    return checkpoint.step


def outcome(path):
    """All metrics but those of the clock, and the digests of all files of the last checkpoint."""
    rows = [
        {key: value for key, value in row.items() if not key.startswith("time/")}
        for row in read_rows(path)
    ]
    last = RunDir.open(path).find()
    assert last.step == UPDATES
    return rows, {name: digest for name, (_, digest) in last.files.items()}


@pytest.mark.slow
def test_a_killed_self_play_run_ends_in_the_bytes_of_one_left_alone(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    started = [start("tic_tac_toe", *SETTINGS, "--run", str(killed), rows=UPDATES - 1)]
    try:
        step = kill_between_checkpoints(started[0], killed)
        started += [
            start("--resume", str(killed)),
            start("tic_tac_toe", *SETTINGS, "--run", str(whole)),
        ]
        for process in started[1:]:
            finish(process)
    finally:
        for process in started:
            process.kill()
    rows, files = outcome(killed)
    assert len(rows) == UPDATES > step
    assert any(name.startswith("learners") for name in files)
    assert (rows, files) == outcome(whole)
