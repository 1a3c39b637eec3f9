"""A learner and an actor that the system kills lose no published game and repeat none."""

import signal
import time
from pathlib import Path

import forked
import pytest
from playout.agents.runs.directory import RunDir
from playout.benchmarks.studies.actors import REUSE, WRONG, Witness, account

HELD = Path(__file__).with_name("held.py")


def start(*words, rows=1 << 20):
    """A command; a run of it that has so many rows waits to be killed."""
    return forked.start(HELD, rows, *words)


def wait_until(true):
    end = time.monotonic() + 300
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_both_may_be_killed_and_every_game_is_accounted_for(tmp_path):
    run, games, seen = tmp_path / "run", tmp_path / "games", tmp_path / "seen"
    games.mkdir()
    seen.mkdir()
    witness = Witness(run, games, seen)
    witness.start()
    new = ["alphazero", "tic_tac_toe", "--games-from", str(games), "--run", str(run), "--quiet"]
    new += ["--updates", "40", "--no-rating", "--size", "8x1", "--simulations", "4", "--steps", "8"]
    new += ["--reuse", str(REUSE), "--warmup-positions", "500", "--learner.batch-size", "64"]
    play = ["selfplay", "--from", str(run), "--into", str(games), "--threads", "1"]
    play += ["--num-trees", "16", "--games-per-file", "32", "--ahead", "3"]
    learner, actor = start(*new, rows=30), start(*play)
    wait_until(lambda: len(list(seen.iterdir())) >= 4)  # some were read: three lie there at most
    kill(learner)
    kill(actor)
    learner, actor = start("alphazero", "--resume", str(run), "--quiet"), start(*play)
    _, errors = learner.communicate(timeout=400)
    assert learner.returncode == 0, errors[-2000:]
    _, errors = actor.communicate(timeout=100)
    assert actor.returncode == 0 and "is complete: it needs no more games" in errors, errors
    witness.over.set()
    witness.join()
    found = account(RunDir.open(run), games, seen, witness.taken)
    assert not any(found[what] for what in (*WRONG, "set aside")), found
    assert found["learned from"] > 0 and found["samples a position"] == REUSE
    assert found["gradient samples"] == 40 * 8 * 64
