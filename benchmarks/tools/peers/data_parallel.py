"""Plain data parallelism as others write it: what two ranks give a GPT under DDP, and PPO.

The GPT is gpt_reference.py in torch's DistributedDataParallel with AdamW and random rows, as
nanoGPT trains, in the shape of `rlhf pretrain --size tiny`. PPO is the recipe of CleanRL's script
for several cards in our own words: a vector of Gymnasium's CartPoles in each rank, an actor and a
critic of 64x64, one all-reduce of all gradients in a row for every minibatch, and advantages
normalised by each rank for itself. Its settings are per rank, the GPT's batch is of the whole job,
as in benchmarks/studies/ranks.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

VOCAB, HIDDEN, LAYERS, HEADS, LENGTH, ROWS = 512, 128, 2, 4, 128, 32
ENVS, STEPS, EPOCHS, MINIBATCHES = 32, 128, 4, 4


def world() -> int:
    """Processes of the job."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def gpt(seconds: float) -> float:
    """Tokens a second of the whole job."""
    from playout.benchmarks.tools.peers.gpt_reference import GPT
    from torch.nn.parallel import DistributedDataParallel

    torch.manual_seed(0)
    model: nn.Module = GPT(VOCAB, HIDDEN, LAYERS, HEADS, LENGTH)
    if world() > 1:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    rows = ROWS // world()
    ids = torch.randint(VOCAB, (rows, LENGTH + 1))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(ids[:, :-1], ids[:, 1:]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return repeated(step, seconds) * ROWS * LENGTH


def repeated(step: Any, seconds: float) -> float:
    """Steps a second, after three that warm up; all ranks make the same number of them."""
    for _ in range(3):
        step()
    begun = time.perf_counter()
    step()
    once = torch.tensor([time.perf_counter() - begun])
    if world() > 1:
        torch.distributed.all_reduce(once, op=torch.distributed.ReduceOp.MAX)
    count = max(3, int(seconds / float(once)))
    begun = time.perf_counter()
    for _ in range(count):
        step()
    return count / (time.perf_counter() - begun)


class Agent(nn.Module):
    """An actor and a critic."""

    def __init__(self) -> None:
        super().__init__()

        def layers(outputs: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs)
            )

        self.actor, self.critic = layers(2), layers(1)

    def judge(self, obs: Tensor, actions: Tensor | None = None) -> tuple[Tensor, ...]:
        """Actions, their log probabilities, entropies and values."""
        chosen = torch.distributions.Categorical(logits=self.actor(obs))
        actions = chosen.sample() if actions is None else actions
        return actions, chosen.log_prob(actions), chosen.entropy(), self.critic(obs)[:, 0]


def ppo(seconds: float) -> float:
    """Environment steps a second of the whole job."""
    import gymnasium as gym

    torch.manual_seed(1)
    envs = gym.make_vec("CartPole-v1", num_envs=ENVS, vectorization_mode="sync")
    agent = Agent()
    optimizer = torch.optim.Adam(agent.parameters(), lr=2.5e-4, eps=1e-5)
    obs = torch.from_numpy(envs.reset(seed=int(os.environ.get("RANK", "0")))[0])
    parameters = list(agent.parameters())

    def step() -> None:
        nonlocal obs
        parts: list[tuple[Tensor, ...]] = []
        for _ in range(STEPS):
            with torch.no_grad():
                actions, logs, _, values = agent.judge(obs)
            following, reward, ended, cut, _ = envs.step(actions.numpy())
            done = torch.from_numpy(np.logical_or(ended, cut)).float()
            rewards = torch.from_numpy(np.asarray(reward, np.float32))
            parts.append((obs, actions, logs, values, rewards, done))
            obs = torch.from_numpy(following)
        seen, actions, logs, values, rewards, done = map(torch.stack, zip(*parts, strict=True))
        with torch.no_grad():
            following_value = agent.critic(obs)[:, 0]
        advantages, last = torch.zeros_like(rewards), torch.zeros(ENVS)
        for t in reversed(range(STEPS)):
            going = 1 - done[t]
            delta = rewards[t] + 0.99 * following_value * going - values[t]
            advantages[t] = last = delta + 0.99 * 0.95 * going * last
            following_value = values[t]
        flat = [x.reshape(ENVS * STEPS, *x.shape[2:]) for x in (seen, actions, logs, values)]
        gains, size = advantages.reshape(-1), ENVS * STEPS // MINIBATCHES
        for _ in range(EPOCHS):
            for rows in torch.randperm(ENVS * STEPS).split(size):
                minibatch(*(x[rows] for x in flat), gains[rows])

    def minibatch(seen: Tensor, actions: Tensor, logs: Tensor, old: Tensor, gain: Tensor) -> None:
        _, new, entropy, values = agent.judge(seen, actions)
        ratio, returns = (new - logs).exp(), gain + old
        gain = (gain - gain.mean()) / (gain.std() + 1e-8)
        policy = torch.max(-gain * ratio, -gain * ratio.clamp(0.8, 1.2)).mean()
        loss = policy - 0.01 * entropy.mean() + 0.25 * (values - returns).square().mean()
        optimizer.zero_grad()
        loss.backward()
        if world() > 1:
            whole = torch.cat([p.grad.reshape(-1) for p in parameters if p.grad is not None])
            torch.distributed.all_reduce(whole)
            pieces = (whole / world()).split([p.numel() for p in parameters])
            for p, piece in zip(parameters, pieces, strict=True):
                p.grad = piece.view_as(p)
        nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()

    return repeated(step, seconds) * ENVS * STEPS * world()


def start(what: str, ranks: int, seconds: float) -> float:
    """Runs one of them with so many ranks, a core each; its rate."""
    with tempfile.TemporaryDirectory() as place:
        note = Path(place) / "rate"
        words = [
            "-m",
            "playout.benchmarks.tools.peers.data_parallel",
            what,
            str(seconds),
            str(note),
        ]
        call = [sys.executable, *words]
        if ranks > 1:
            launcher = ["-m", "torch.distributed.run", "--standalone"]
            call = [sys.executable, *launcher, "--nproc-per-node", str(ranks), *words]
        cores = sorted(os.sched_getaffinity(0))[:ranks]
        done = subprocess.run(
            call,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        if done.returncode:
            raise SystemExit(f"{what} with {ranks} ranks: {done.stderr[-2000:]}")
        return float(json.loads(note.read_text()))


def measure(*, quick: bool = False) -> dict[str, dict[str, list[float]]]:
    """Rates with one rank and with two of the "gpt" and of "ppo", turn about."""
    seconds, repeats = (2.0, 1) if quick else (15.0, 3)
    found: dict[str, dict[str, list[float]]] = {}
    for what in ("gpt", "ppo"):
        runs = [[start(what, ranks, seconds) for ranks in (1, 2)] for _ in range(repeats)]
        found[what] = {"one rank": [one for one, _ in runs], "two ranks": [two for _, two in runs]}
    return found


def main(what: str, seconds: float, note: Path) -> None:
    """A rank."""
    torch.set_num_threads(1)
    if world() > 1:
        torch.distributed.init_process_group("gloo")
    rate = {"gpt": gpt, "ppo": ppo}[what](seconds)
    if os.environ.get("RANK", "0") == "0":
        note.write_text(json.dumps(rate))
    if world() > 1:
        torch.distributed.barrier()  # who ends first would close what the other still reads
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]))
