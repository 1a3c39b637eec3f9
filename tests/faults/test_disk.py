"""A full or read-only disk, a failing call: one clear line, and earlier checkpoints are intact."""

import errno
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from playout.agents.runs.checkpoint import durable_io
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import MetricsLog
from playout.agents.runs.metrics.tensorboard import TensorBoardView
from playout.errors import RunError

CALLS = ["open", "write", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir"]


class FailingDisk:
    """From the given file operation on, everything fails with one error."""

    def __init__(self, monkeypatch, number, at, once=False):
        self.count = 0
        for name in CALLS:
            monkeypatch.setattr(os, name, self.wrap(getattr(os, name), name, number, at, once))

    def wrap(self, real, name, number, at, once):
        def call(*args, **kwargs):
            reads = name == "open" and not (len(args) > 1 and args[1] & (os.O_CREAT | os.O_WRONLY))
            if not reads:
                self.count += 1
                if self.count == at or (self.count > at and not once):
                    raise OSError(number, os.strerror(number))
            return real(*args, **kwargs)

        return call


def state(n):
    return {"model": {"w": np.full(1000, n)}, "replay": np.zeros(10), "n": n}


def operations(folder):
    run = RunDir.create(folder / "count", kind="toy", config={}, seed=0)
    for n in (1, 2, 3):
        run.save(n, state(n), keep=2)
    with pytest.MonkeyPatch.context() as patch:
        disk = FailingDisk(patch, errno.ENOSPC, 10**9)
        run.save(4, state(4), keep=2)
    return disk.count


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("once", [True, False])
def test_whatever_fails_while_saving_earlier_checkpoints_are_intact(memory_path, number, once):
    for at in range(1, operations(memory_path) + 1):
        run = RunDir.create(memory_path / f"r{at}", kind="toy", config={}, seed=0)
        run.save(1, state(1), keep=2)
        run.save(2, state(2), keep=2)
        with pytest.MonkeyPatch.context() as patch:
            FailingDisk(patch, number, at, once)
            try:
                run.save(3, state(3), keep=2)
                saved = True
            except RunError as error:
                saved = False
                text = str(error)
                assert text.startswith("cannot save checkpoint 3 of") and "\n" not in text
        step, loaded = RunDir.open(run.path).load()
        assert step in (2, 3) and loaded["n"] == step
        assert run.load(2)[1]["n"] == 2
        assert not saved or step == 3
        with run.lock():
            run.save(4, state(4), keep=2)
        assert run.load()[0] == 4 and not list(run.path.rglob("*.tmp"))


def test_the_error_says_what_to_do(tmp_path, monkeypatch):
    run = RunDir.create(tmp_path / "r", kind="toy", config={}, seed=0)
    FailingDisk(monkeypatch, errno.ENOSPC, 1)
    with pytest.raises(RunError, match="no space left on the disk; free some and resume"):
        run.save(1, state(1))


@pytest.mark.parametrize("at", range(1, 9))
def test_a_creation_that_fails_can_be_tried_again(tmp_path, at):
    with pytest.MonkeyPatch.context() as patch:
        FailingDisk(patch, errno.EROFS, at)
        with pytest.raises(RunError, match="read-only"):
            RunDir.create(tmp_path / "r", kind="toy", config={}, seed=0)
    RunDir.open_or_create(tmp_path / "r", kind="toy", config={}, seed=0).save(1, state(1))


def test_a_full_disk_while_training_names_the_last_good_checkpoint(tmp_path, monkeypatch):
    from playout.agents.runs.loop import train
    from playout.agents.runs.trainer import Trainer

    full = []

    class Short(Trainer):
        n = 0
        progress = property(lambda self: (self.n, 9))
        finished = property(lambda self: self.n >= 9)

        def update(self):
            self.n += 1
            if self.n == 5 and not full:
                full.append(True)
                FailingDisk(monkeypatch, errno.ENOSPC, 1)
            return {"train/loss": 1.0}

        def state_dict(self):
            return state(self.n)

        def load_state_dict(self, loaded):
            self.n = loaded["n"]

    run = RunDir.create(tmp_path / "r", kind="toy", config={}, seed=0)
    with pytest.raises(RunError, match=r"metrics.jsonl: no space left.*checkpoint is 4"):
        train(Short(), run, save_every=2, console=False)
    monkeypatch.undo()
    train(Short(), run, save_every=2, console=False)
    assert run.load()[0] == 9


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_really_full_device_is_reported():
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError, match="No space") as caught:
            durable_io.write_all(descriptor, b"x" * 100)
        assert "no space left" in durable_io.describe(caught.value)
    finally:
        os.close(descriptor)


def test_a_kernel_limit_in_the_middle_of_a_file_leaves_the_last_checkpoint(tmp_path):
    code = f"""
import resource, numpy as np
from playout.agents.runs.directory import RunDir
from playout.errors import RunError
run = RunDir.create({str(tmp_path / "r")!r}, kind="toy", config={{}}, seed=0)
run.save(1, {{"model": np.zeros(1000)}})
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    run.save(2, {{"model": np.zeros(100_000)}})
except RunError as error:
    print(error)
"""
    assert resource.RLIMIT_FSIZE is not None
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot save checkpoint 2" in done.stdout and "File too large" in done.stdout
    run = RunDir.open(tmp_path / "r")
    assert run.load()[0] == 1 and not list(run.path.rglob("*.tmp"))


def test_metrics_and_view_report_a_full_disk(tmp_path, monkeypatch):
    log, view = MetricsLog(tmp_path), TensorBoardView(tmp_path / "tb")
    FailingDisk(monkeypatch, errno.ENOSPC, 1)
    with pytest.raises(RunError, match=r"metrics\.jsonl: no space left"):
        log.append(1, 1, {"a": 1.0})
    with pytest.raises(RunError, match="no space left"):
        view.flush()
    log.close()
