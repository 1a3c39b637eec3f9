"""Ctrl-C and SIGTERM finish the update, save, exit with 130 and 143; a second ends at once."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import forked
import pytest
from playout.agents.runs.directory import RunDir
from playout.agents.runs.loop import train
from playout.agents.runs.metrics import read_rows
from playout.agents.runs.signals import Interrupted, deferred_signals, stop_at_once
from playout.agents.runs.trainer import Trainer
from playout.errors import StoppedError

SCRIPT = """
import importlib.util, os, signal, sys, time
spec = importlib.util.spec_from_file_location("toy_trainer", {toy!r})
toy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toy)
from playout.agents.runs.directory import RunDir
from playout.agents.runs.loop import train
come, told = os.pipe()
os.set_blocking(told, False)
signal.set_wakeup_fd(told)
def hook(trainer):
    if trainer.n == 2:
        print("working", flush=True)
        os.read(come, 1)  # until a signal has come
        time.sleep({seconds})
run = RunDir.open_or_create({run!r}, kind="toy", config={{}}, seed=0)
train(toy.ToyTrainer(5, hook=hook), run, save_every=100, console="quiet")
"""


def start(run, seconds):
    toy = str(Path(__file__).with_name("toy_trainer.py"))
    code = SCRIPT.format(toy=toy, run=str(run), seconds=seconds)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "working\n"
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_update_saves_and_exits(tmp_path, number, code):
    process = start(tmp_path / "r", 0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == code, errors
    assert "finishing this update, then saving" in errors and "Traceback" not in errors
    run = RunDir.open(tmp_path / "r")
    assert run.load()[0] == 3 and len(list(read_rows(run.path))) == 3


@pytest.mark.parametrize(("rated", "told"), [(1, "begin anew"), (3, "saved after update 2")])
def test_a_stop_before_anything_is_kept_does_not_name_a_run_to_go_on_with(
    tmp_path, capsys, rated, told
):
    class StopsRating(Trainer):
        n = 0
        progress = property(lambda self: (self.n, 3))

        def update(self):
            self.n += 1
            return {}

        def evaluate(self):
            if self.n < rated:
                return {}
            os.kill(os.getpid(), signal.SIGINT)
            raise StoppedError("asked to")

        def state_dict(self):
            return {"n": self.n}

        load_state_dict = None  # nothing is resumed

    run = RunDir.create(tmp_path / "r", kind="toy", config={}, seed=0)
    with pytest.raises(Interrupted):
        train(StopsRating(), run, eval_every=1, save_every=1, console="plain")
    said = capsys.readouterr().out
    assert told in said and ("--resume" in said) == (rated > 1)


def test_a_second_ctrl_c_ends_at_once_and_leaves_the_run_sound(tmp_path):
    process = start(tmp_path / "r", 1000)
    process.send_signal(signal.SIGINT)
    assert "finishing" in process.stderr.readline() + process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=100)
    assert process.returncode == -signal.SIGINT
    run = RunDir.open(tmp_path / "r")
    assert run.find() is None
    with run.lock():
        pass


def test_an_error_from_a_trainer_leaves_signals_as_they_were(tmp_path):
    class Broken(Trainer):
        progress = (0, 1)
        state_dict = load_state_dict = None  # never reached

        def update(self):
            raise KeyError("inside")

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run = RunDir.create(tmp_path / "r", kind="toy", config={}, seed=0)
    with pytest.raises(KeyError, match="inside"):
        train(Broken(), run, console=False)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    with run.lock():
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_work_that_has_to_be_whole(number):
    done = []

    def tell_the_process():
        os.kill(os.getpid(), number)  # the system may hand it to any thread

    before = signal.getsignal(number)
    with pytest.raises(Interrupted), stop_at_once("all of it is done"):
        with deferred_signals():
            other = threading.Thread(target=tell_the_process)
            other.start()
            other.join()
            done.extend(range(1000))
        done.append("never reached")
    assert done == list(range(1000))
    assert signal.getsignal(number) == before


def test_work_that_has_to_be_whole_may_fail_all_the_same():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(OSError, match="full"), deferred_signals():
        raise OSError("full")
    assert signal.getsignal(signal.SIGTERM) == before


LONG_UPDATE = """
import sys, threading, time
import playout
from playout.agents.alphazero import trainer, variants

first = threading.Lock()

class Slow:
    def __init__(self, evaluator):
        self.evaluator = evaluator
    def evaluate(self, leaves):
        if playing[0].updates == 2:
            if first.acquire(blocking=False):  # one of the groups' threads
                print("working", flush=True)
            time.sleep(1.0)  # longer than STOP_SECONDS: the next look finds the stop
        return self.evaluator.evaluate(leaves)

playing = []
trainer.STOP_SECONDS = 0.5
make, update = variants.Variant.make_evaluators, trainer.AlphaZeroTrainer.update
def slow(self, net):
    return [Slow(one) for one in make(self, net)]
def remembered(self):
    playing[:] = [self]
    return update(self)
if sys.argv[1] == "slow":
    variants.Variant.make_evaluators = slow
    trainer.AlphaZeroTrainer.update = remembered
options = dict(size="8x1", simulations=4, num_trees=8, evaluations=200, batch_size=32, steps=1)
options.update(warmup_positions=32, rating=False, quiet=True)
if sys.argv[1] == "resumed":
    playout.alphazero(resume=sys.argv[2], quiet=True)
else:
    playout.alphazero("tic_tac_toe", run=sys.argv[2], updates=3, **options)
"""


def train_slowly(how, run):
    return forked.start("-c", LONG_UPDATE, how, run)


@pytest.mark.slow
def test_a_signal_in_a_long_update_of_self_play_goes_back_to_its_beginning_and_saves(tmp_path):
    process = train_slowly("slow", tmp_path / "r")
    process.until("working\n")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert RunDir.open(tmp_path / "r").find().step == 2
    for how, name in (("resumed", "r"), ("whole", "whole")):
        process = train_slowly(how, tmp_path / name)
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    files = [RunDir.open(tmp_path / name).find().files for name in ("r", "whole")]
    digests = [{name: digest for name, (_, digest) in one.items()} for one in files]
    assert digests[0] == digests[1]


IN_PROCESSES = """
import sys, time
import gymnasium as gym
import numpy as np
import playout
from gymnasium import spaces
from playout.agents.vector import factory

class Slow(gym.Env):
    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.uniform(-1, 1, 1).astype(np.float32), {}
    def step(self, action):
        self.t += 1
        time.sleep(pause)
        obs = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return obs, float(action), self.t == 20, False, {}

make = factory._make_group
factory._make_group = lambda makers, name, threshold, processes, first: make(
    makers, name, threshold, 2, first
)
how, run = sys.argv[1:]
pause = 0.002 if how == "slow" else 0.0
def tell(trainer, metrics):
    print("working", flush=True)
if how == "resumed":
    playout.ppo(Slow, resume=run, quiet=True)
else:
    options = dict(num_envs=4, num_steps=32, minibatch_size=64, eval_episodes=4, quiet=True)
    playout.ppo(Slow, run=run, total_timesteps=1280, callbacks=[tell], **options)
"""


@pytest.mark.slow
def test_a_signal_to_all_processes_of_a_run_saves_it_with_its_environments(tmp_path):
    process = forked.start("-c", IN_PROCESSES, "slow", tmp_path / "r")
    process.until("working\n")
    os.killpg(process.pid, signal.SIGTERM)  # as timeout(1), Slurm and systemd do
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert errors.count("finishing this update") == 1 and "nothing was learned" not in errors
    assert 1 <= RunDir.open(tmp_path / "r").find().step < 10
    for how, name in (("resumed", "r"), ("whole", "whole")):
        process = forked.start("-c", IN_PROCESSES, how, tmp_path / name)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    states = [RunDir.open(tmp_path / name).find().files for name in ("r", "whole")]
    assert states[0] == states[1]
