"""A self-play run that the system kills and that is resumed equals one that was left alone."""

import os
import signal
import subprocess
import sys
import time

import pytest
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import read_rows

pytestmark = pytest.mark.timeout(600)  # a busy machine may be many times slower
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


def start(*words):
    command = [sys.executable, "-m", "playout", "alphazero", *words, "--quiet"]
    return subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-2000:]


def num_rows(path):
    metrics = path / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def kill_between_checkpoints(process, path):
    """SIGKILL once an update has followed the first checkpoint; the checkpoint it leaves."""
    begun, rows_at_checkpoint = time.monotonic(), None
    while process.poll() is None and time.monotonic() - begun < 300:
        if rows_at_checkpoint is None and (path / "LATEST").exists():
            rows_at_checkpoint = num_rows(path)
        if rows_at_checkpoint is not None and num_rows(path) > rows_at_checkpoint:
            break
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL  # it was at work, and could not tidy up
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


def test_a_killed_self_play_run_ends_in_the_bytes_of_one_left_alone(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    started = [start("tic_tac_toe", *SETTINGS, "--run", str(killed))]
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
            process.communicate()
    rows, files = outcome(killed)
    assert len(rows) == UPDATES > step
    assert any(name.startswith("learners") for name in files)
    assert (rows, files) == outcome(whole)
