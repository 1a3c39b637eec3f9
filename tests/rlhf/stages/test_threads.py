"""The number of threads: a rule of model and cores, stored, taken again."""

import itertools
import os
import time

import pytest
import torch
from playout.agents.runs.directory import RunDir
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.stages import threads


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def cores(monkeypatch, number):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(number)), raising=False)


def test_the_number_follows_from_the_width_and_the_cores(monkeypatch):
    cores(monkeypatch, 16)
    assert [threads.threads_to_train(width) for width in (32, 128, 256, 576, 4096)] == [
        1,
        2,
        4,
        9,
        16,
    ]
    cores(monkeypatch, 2)
    assert threads.threads_to_train(576) == 2


def test_threads_to_decode_follow_from_the_work_of_a_step(monkeypatch):
    """A compiled step, of up to 16 rows, is worth sharing sooner than one of torch."""
    cores(monkeypatch, 16)
    assert threads.threads_to_decode(4_200_000, 1) == 1
    assert threads.threads_to_decode(135_000_000, 1) == 8
    assert threads.threads_to_decode(135_000_000, 16) == 16
    assert threads.threads_to_decode(135_000_000, 17) == 8
    assert threads.threads_to_decode(8_000_000_000, 1) == 16
    assert threads.threads_to_decode(500_000, 64) == 1


def test_a_run_keeps_the_number_that_was_chosen(monkeypatch, tmp_path):
    cores(monkeypatch, 2)
    run = RunDir.create(tmp_path / "run", kind="rlhf.sft", config={}, seed=0)
    assert threads.set_threads(run, 256) == 2 == torch.get_num_threads()
    cores(monkeypatch, 1)
    assert threads.set_threads(RunDir.open(run.path), 256) == 2
    assert threads.set_threads(run, 256, 1) == 1
    assert RunDir.open(run.path).record["threads"] == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads.set_threads(run, 256) == 1


def test_decoding_leaves_the_number_as_it_was(monkeypatch):
    cores(monkeypatch, 2)
    model = Transformer(TransformerConfig(20, 16, 32, 1, 2, 1))
    torch.set_num_threads(2)
    with threads.decoding_threads(model, 1) as number:
        assert number == 1 == torch.get_num_threads()
    assert torch.get_num_threads() == 2
    with threads.decoding_threads(model, 1, 2) as number:
        assert number == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with threads.decoding_threads(model, 1) as number:
        assert number == 2


def test_no_clock_chooses_the_number(monkeypatch, tmp_path):
    """A timing once chose two threads and once one: the same command gave different weights."""
    cores(monkeypatch, 2)
    found = set()
    for number, jumps in enumerate(([1e-6], [5.0], [1e-6, 9.0, 1e-6, 1e-6], [9.0, 1e-6, 1e-6])):
        clock = itertools.accumulate(itertools.cycle(jumps))
        for name in ("perf_counter", "monotonic", "time", "process_time"):
            monkeypatch.setattr(time, name, lambda clock=clock: next(clock))
        run = RunDir.create(tmp_path / f"run{number}", kind="rlhf.sft", config={}, seed=0)
        found.add(threads.set_threads(run, 256))
        monkeypatch.undo()
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        cores(monkeypatch, 2)
    assert found == {2}
