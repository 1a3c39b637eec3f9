"""Two agents of torchrun, as on two machines: one begins its rank again and does not count it."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from launch import environment
from playout.agents.runs.directory import RunDir
from playout.benchmarks.studies.kills import ranks_of

# Each rank is busy for ever in its third update, until the file is gone. Agents kill what does not
# end when it is asked to, after half a minute; here that is at once.
ENVIRONMENT = """
import os, signal, time
import gymnasium as gym
import numpy as np

def note(what):
    variables = (os.environ[name] for name in ("TORCHELASTIC_RESTART_COUNT", "RANK"))
    os.close(os.open("-".join([what, *variables]), os.O_CREAT))

class Slow(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Discrete(2)
    steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 40:
            signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            note("came")
            while os.path.exists("busy"):
                time.sleep(0.1)
        return np.zeros(1, np.float32), float(action), True, False, {}
"""
WORDS = (
    *("ppo", "slow:Slow", "--total-timesteps", "256", "--num-envs", "2", "--num-steps", "16"),
    *("--minibatch-size", "16", "--processes", "0", "--eval-episodes", "2", "--no-stop"),
    *("--save-every", "0.000001", "--run", "run"),
)


def agent(folder, port):
    """torchrun on one of two machines, with one rank."""
    words = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--rdzv-id", "two"]
    words += [
        "--nproc-per-node",
        "1",
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        f"localhost:{port}",
    ]
    words += ["--local-addr", "localhost", "--max-restarts", "3", "-m", "--", "playout", *WORDS]
    variables = environment(TORCH_ELASTIC_SHUTDOWN_TIMEOUT=1)
    with (folder / f"said-{len(list(folder.glob('said-*')))}").open("wb") as said:
        return subprocess.Popen(words, cwd=folder, env=variables, stdout=said, stderr=said)


def wait_for_busy_ranks(folder, *counts):
    """Returns when there is one for each of these counts of restarts, and forgets them."""
    until = time.monotonic() + 120
    while len(found := sorted(folder.glob("came-*"))) < len(counts):
        assert time.monotonic() < until, [path.read_text() for path in folder.glob("said-*")]
        time.sleep(0.02)
    assert [int(path.name.split("-")[1]) for path in found] == list(counts)
    for path in found:
        path.unlink()


@pytest.mark.slow
def test_machines_that_count_restarts_differently_go_on_together(memory_path):
    (memory_path / "slow.py").write_text(ENVIRONMENT)
    (memory_path / "busy").touch()
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    agents = [agent(memory_path, port) for _ in range(2)]
    try:
        wait_for_busy_ranks(memory_path, 0, 0)
        run = RunDir.open(memory_path / "run")
        os.kill(ranks_of(agents[0].pid)[0], signal.SIGKILL)
        # The other rank is too busy to notice; its agent sees that machines come together anew.
        wait_for_busy_ranks(memory_path, 0, 1)
        os.remove(memory_path / "busy")
        codes = [one.wait(120) for one in agents]
    finally:
        for one in agents:
            if one.poll() is None:
                for process in [*ranks_of(one.pid), one.pid]:
                    os.kill(process, signal.SIGKILL)
    assert codes == [0, 0], [path.read_text() for path in memory_path.glob("said-*")]
    assert RunDir.open(run.path).id == run.id and run.find().step == 16
