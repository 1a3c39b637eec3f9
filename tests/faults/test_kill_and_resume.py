"""A run killed at any instant and resumed equals, byte for byte, the run that was never stopped."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)  # a busy machine may be many times slower
DRIVER = Path(__file__).with_name("crash_driver.py")


def drive(mode, folder, number, seed):
    command = [sys.executable, str(DRIVER), mode, str(folder), str(number), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["different"] == [], done.stderr[-2000:]
    assert report["trials"] == number
    return report


@pytest.mark.slow
def test_killed_at_random_times_a_resumed_run_equals_an_uninterrupted_one(memory_path):
    # Times are drawn from how long a whole run took: where speed changes, some come too late.
    assert drive("clock", memory_path, 25, 1)["killed"] >= 2


@pytest.mark.slow
def test_killed_at_file_operations_a_resumed_run_equals_an_uninterrupted_one(memory_path):
    assert drive("call", memory_path, 40, 2)["killed"] >= 35


@pytest.mark.slow
def test_after_a_power_cut_a_resumed_run_equals_an_uninterrupted_one(memory_path):
    assert drive("power", memory_path, 40, 3)["killed"] >= 35


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("PLAYOUT_LONG"), reason="minutes; set PLAYOUT_LONG=1")
@pytest.mark.parametrize("mode", ["clock", "call", "power"])
def test_a_thousand_interruptions_change_nothing(memory_path, mode):
    drive(mode, memory_path, 1000, 4)
