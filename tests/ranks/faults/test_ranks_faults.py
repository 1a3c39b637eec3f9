"""Ranks that die, hang, differ or cannot write: one line, everybody gone, the run as last saved."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from launch import TOY, environment, errors, finish, job, launch, playout, start, wait_for
from playout.agents.runs.directory import RunDir
from playout.benchmarks.studies.kills import outcome, ranks_of


@pytest.mark.slow
def test_a_job_whose_ranks_are_killed_goes_on_from_its_checkpoint_to_the_same_bytes(memory_path):
    run = memory_path / "run"
    killed = start(2, TOY, run, 30, restarts=2, TOY_WAITS="5,15")
    for rank, updates in [(0, 5), (1, 15)]:
        wait_for(run, updates)
        os.kill(ranks_of(killed.pid)[rank], signal.SIGKILL)
    code, _, err = finish(killed)
    assert code == 0, err
    code, _, err = job(2, TOY, memory_path / "undisturbed", 30)
    assert code == 0, err
    assert outcome(run) == outcome(memory_path / "undisturbed")


@pytest.mark.slow
def test_a_job_whose_processes_are_all_asked_to_end_saves_first(memory_path):
    run = memory_path / "run"
    job = start(2, TOY, run, 1000, TOY_PAUSE=0.05)
    wait_for(run, 3)
    for process in [*ranks_of(job.pid), job.pid]:  # torchrun then asks its ranks once more
        os.kill(process, signal.SIGTERM)
    code, out, err = finish(job)
    assert code != 0
    saved = re.search(r"saved after update (\d+); continue with", out)
    assert saved, out + err
    assert "continue with: torchrun --nproc-per-node 2 -m -- playout toy --resume " in out
    assert RunDir.open(run).find().step == int(saved[1]) == len(outcome(run)[1])
    assert err.count("stopping: finishing this update") == 1


@pytest.mark.slow
def test_a_rank_that_stands_still_is_named_and_the_job_ends(memory_path):
    run = memory_path / "run"
    job = start(2, TOY, run, 1000, TOY_PAUSE=0.05, PLAYOUT_RANK_TIMEOUT=3)
    wait_for(run, 3)
    still = ranks_of(job.pid)[1]
    begun = time.monotonic()
    os.kill(still, signal.SIGSTOP)
    first = ""
    while "error:" not in first:
        first = job.stderr.readline()
        assert first, "the job ended without a word"
    assert time.monotonic() - begun < 60
    os.kill(still, signal.SIGCONT)  # or torchrun waits half a minute before it kills it
    code, _, err = finish(job)
    assert code != 0
    assert "rank 1 has not answered for 3 s" in first
    assert not errors(err)


@pytest.mark.slow
def test_ranks_that_see_no_run_or_cannot_write_are_refused_on_every_rank(memory_path):
    found = launch(
        2,
        f"""
        import errno
        from unittest import mock
        from playout.agents.commands.ppo import Command
        from playout.agents.runs.checkpoint import folder
        from playout.agents.runs.directory import RunDir
        from playout.agents.runs.options import open_run
        from playout.errors import PlayoutError

        where = Path({str(memory_path)!r})
        second = ranks.rank() == 1
        said = []

        def refused(what):
            try:
                what()
            except PlayoutError as error:
                said.append(f"{{type(error).__name__}}: {{error}}")

        def begin(**more):
            return open_run(Command(run=where / "run", **more), kind="ppo", name="x")

        seen = staticmethod(lambda path: not second and (path / "run.json").exists())
        with mock.patch.object(RunDir, "is_run", seen):
            with mock.patch("playout.agents.runs.directory._SEEN_WITHIN", 0):
                refused(begin)
        run = begin()
        refused(begin)
        run.save(1, {{"n": 1}}, own={{"rank": ranks.rank()}})

        def full(*arguments, **more):
            raise OSError(errno.ENOSPC, "full")

        with mock.patch.object(folder, "write_state", full if second else folder.write_state):
            refused(lambda: run.save(2, {{"n": 2}}, own={{"rank": ranks.rank()}}))
        said.append([entry.step for entry in run.checkpoints()])
        said.append(run.load_own(run.find(), 1))
        refused(lambda: ranks.share(1, "environments"))
        return said
        """,
    )
    assert found[0] == found[1]
    unseen, twice, full, kept, own, few = found[0]
    assert "does not see the run" in unseen
    assert "is a run already" in twice
    assert full.startswith("RunError: rank 1 cannot save checkpoint 2")
    assert "no space left" in full
    assert kept == [1]
    assert own == {"rank": 1}
    assert few == "ConfigError: 2 ranks but only 1 environment: each needs at least one"


@pytest.mark.slow
def test_a_command_for_one_process_is_refused_by_one_line_of_one_rank():
    code, _, err = playout(2, "match", "connect_four", "random", "random")
    assert code != 0
    assert errors(err) == ["error: playout match is work for one process: leave out torchrun"]


@pytest.mark.slow
def test_a_port_that_is_taken_ends_torchrun_before_anything_is_made(memory_path):
    with socket.create_server(("localhost", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port]
        run = ["-m", "--", "playout", "ppo", "CartPole-v1", "--run", memory_path / "run"]
        done = subprocess.run(
            [sys.executable, *words, *run], env=environment(), capture_output=True, text=True
        )
    assert done.returncode != 0
    assert "address already in use" in done.stderr and port in done.stderr
    assert not (memory_path / "run").exists()
