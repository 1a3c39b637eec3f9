"""A run killed at any instant and resumed equals, byte for byte, the run that was never stopped."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("crash_driver.py")


@pytest.fixture
def folder():
    """A folder in memory where there is one: a kill is the same there and fsync costs nothing."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = tempfile.mkdtemp(prefix="playout-faults-", dir=base)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def drive(mode, folder, number, seed):
    command = [sys.executable, str(DRIVER), mode, folder, str(number), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["different"] == [], done.stderr[-2000:]
    assert report["trials"] == number
    return report


def test_killed_at_random_times_a_resumed_run_equals_an_uninterrupted_one(folder):
    assert drive("clock", folder, 25, 1)["killed"] >= 10


def test_killed_at_file_operations_a_resumed_run_equals_an_uninterrupted_one(folder):
    assert drive("call", folder, 40, 2)["killed"] >= 35


def test_after_a_power_cut_a_resumed_run_equals_an_uninterrupted_one(folder):
    assert drive("power", folder, 40, 3)["killed"] >= 35


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("PLAYOUT_LONG"), reason="minutes; set PLAYOUT_LONG=1")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["clock", "call", "power"])
def test_a_thousand_interruptions_change_nothing(folder, mode):
    drive(mode, folder, 1000, 4)
