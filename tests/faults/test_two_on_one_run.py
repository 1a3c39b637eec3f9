"""A second learner or job on a run is refused by one line; the first never notices.

Learners that wait for games hold their run for as long as a test needs, as do jobs that have far to
go.
"""

import os
import signal
import time
from pathlib import Path

import forked
import launch
import pytest
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import read_rows
from playout.benchmarks.studies.kills import ranks_of

SMALL = ["--updates", "2", "--no-rating", "--size", "8x1", "--simulations", "4", "--steps", "2"]
SMALL += ["--warmup-positions", "60", "--learner.batch-size", "16", "--quiet"]


def learner(run, games):
    words = ["alphazero", "tic_tac_toe", "--games-from", games, "--run", run, *SMALL]
    return forked.start("-m", "playout", *map(str, words))


def wait_until(true, timeout=120):
    end = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def errors(text):
    return [line for line in text.splitlines() if line.startswith("error:")]


def contents(*folders):
    """All files below, with their bytes."""
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path: path.read_bytes() for path in files}


@pytest.mark.slow
def test_of_two_learners_that_begin_one_run_at_once_one_has_it(tmp_path):
    run, games = tmp_path / "run", tmp_path / "games"
    both = [learner(run, games), learner(run, games)]
    try:
        wait_until(lambda: any(one.poll() is not None for one in both))
        (first,) = [one for one in both if one.poll() is None]
        (second,) = [one for one in both if one.poll() is not None]
        wait_until((run / "LATEST").exists)
        assert second.returncode == 2 and len(second.err.splitlines()) == 1, second.err
        assert "is a run already" in second.err or "is in use by process" in second.err
        assert first.poll() is None and RunDir.open(run).find().step == 0
    finally:
        for one in both:
            one.kill()


@pytest.mark.slow
def test_a_second_learner_is_refused_and_the_first_learns_on(tmp_path):
    run, games = tmp_path / "run", tmp_path / "games"
    first = learner(run, games)
    try:
        wait_until((run / "LATEST").exists)
        before = contents(run / "checkpoints", games), (run / "run.json").read_bytes()
        again = ["alphazero", "--resume", str(run), "--quiet"]
        for words in (again, [*again, "--updates", "5"]):
            code, _, said = forked.run("-m", "playout", *words)
            assert code == 2 and len(said.splitlines()) == 1, said
            assert said.startswith(f"error: {run} is in use by process {first.pid}; ")
        code, _, said = forked.finish(learner(run, games))
        assert code == 2 and "is a run already" in said
        code, _, said = forked.finish(learner(tmp_path / "other", games))
        assert code == 2 and len(said.splitlines()) == 1, said
        assert f"{games} takes the games of {run}" in said
        assert not (tmp_path / "other").exists()
        after = contents(run / "checkpoints", games), (run / "run.json").read_bytes()
        assert after == before and first.poll() is None

        play = ["selfplay", "--from", run, "--into", games, "--games", "64", "--num-trees", "8"]
        code, _, said = forked.run("-m", "playout", *map(str, play), "--threads", "1")
        assert code == 0, said
        assert first.wait() == 0, first.err
        assert RunDir.open(run).find().step == 2
    finally:
        first.kill()


@pytest.mark.slow
def test_a_second_job_on_a_run_is_refused_and_the_first_goes_on(tmp_path):
    run = tmp_path / "run"
    words = ["ppo", "CartPole-v1", "--total-timesteps", "100000000", "--no-stop", "--quiet"]
    words += ["--save-every", "0.2", "--eval-every", "0", "--run", run]
    first = launch.start(2, "-m", "--", "playout", *words)
    try:
        wait_until((run / "LATEST").exists)
        own = ranks_of(first.pid)
        code, _, said = launch.playout(2, "ppo", "--resume", run, "--quiet")
        assert code == 2 and len(errors(said)) == 1, said
        assert f"{run} is in use by process {own[0]}; " in said
        code, _, said = launch.playout(2, *words)
        assert code == 2 and len(errors(said)) == 1 and "is a run already" in said, said
        step = RunDir.open(run).find().step
        wait_until(lambda: RunDir.open(run).find().step > step)
        assert ranks_of(first.pid) == own
    finally:
        os.kill(first.pid, signal.SIGTERM)
        launch.finish(first)
    step, _ = RunDir.open(run).load()
    assert step == len(list(read_rows(run)))  # what it was told to save at its end
    assert not any(Path(f"/proc/{pid}").exists() for pid in own)
