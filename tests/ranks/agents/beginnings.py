"""Small runs of one process or several ranks that begin with records or with another run."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import playout
import torch
from alphazero_parts import counted, digest, small_config
from launch import packed
from playout.agents.alphazero.settings import first_weights
from playout.agents.alphazero.trainer import AlphaZeroTrainer
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import Split
from playout.agents.pretraining.data.pictures import Pictures
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import new_trunk
from playout.agents.runs import ranks
from playout.agents.runs.directory import RunDir
from playout.agents.runs.loop import train
from playout.errors import PlayoutError
from ppo_jobs import Picture

SMALL = ("--size", "8x1", "--simulations", 8, "--learner.batch-size", 32, "--evaluations", 300)


def make(folder):
    """Fills a folder with what runs begin with; returns it."""
    games = folder / "games.jsonl"
    playout.match(["random", "greedy"], game="tic_tac_toe", games=40, records=games)
    for rank, lines in enumerate((40, 30)):  # what two machines have under one name
        machine = folder / f"machine-{rank}"
        machine.mkdir()
        kept = games.read_bytes().splitlines(keepends=True)[:lines]
        (machine / "games.jsonl").write_bytes(b"".join(kept))
    playout.alphazero(
        "tic_tac_toe", updates=1, size="8x1", simulations=8, evaluations=64, rating=False, seed=5,
        threads=1, quiet=True, run=folder / "four",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 1, 12, 12), dtype=np.uint8)
    data = Pictures(name="made", pixels=pixels, labels=rng.integers(2, size=60), classes=("a", "b"))
    trunk = new_trunk(data, network="grid", seed=4)
    config = PretrainConfig(network="grid", batch=20)
    trainer = PretrainTrainer(trunk, Split(data, data), config, steps=2, seed=5)
    run = RunDir.create(folder / "pictures", kind="pretrain-trunk", config={}, seed=0)
    train(trainer, run, console=False)
    return folder


def recorded(folder):
    """Weights that a run begins with, and what two updates on recorded games make of them."""
    config = small_config(records=(f"{folder}/games.jsonl",), record_epochs=2.0)
    init = first_weights(Path(folder) / "four", SimpleNamespace(find=lambda: None))
    trainer = AlphaZeroTrainer(config, seed=1, init=init)
    net = trainer.learners[-1].net
    begun = digest(net.state_dict())
    metrics = [counted(trainer.update()) for _ in range(2)]
    weights = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
    return {"begun": begun, "metrics": metrics[-1], "weights": packed(weights)}


def refused(folder, run):
    """What a rank says whose machine holds other games under the same name."""
    os.chdir(Path(folder) / f"machine-{ranks.rank()}")
    try:
        playout.alphazero(
            "tic_tac_toe", records=("games.jsonl",), updates=2, size="8x1", rating=False, run=run,
            batch_size=32, evaluations=64, num_groups=2, quiet=True,
        )  # fmt: skip
    except PlayoutError as error:
        return str(error)
    return ""


def encoder(folder, run):
    """The encoder's weights after an update of PPO that moves them by nothing."""
    seen = []

    def remember(trainer, metrics):
        state = trainer.policy.state_dict()
        name = next(name for name, x in state.items() if "encoder" in name and x.ndim == 4)
        seen.append(packed(state[name]))

    playout.ppo(
        Picture, init=f"{folder}/pictures", total_timesteps=64, num_envs=4, num_steps=8,
        minibatch_size=32, network="grid", learning_rate=1e-12, eval_episodes=4, processes=0,
        threads=1, quiet=True, run=run, callbacks=[remember],
    )  # fmt: skip
    return seen[0]


def board(folder, run):
    """The network of self-play that PPO begins with, and its first weights after two updates."""
    seen = []

    def remember(trainer, metrics):
        version = trainer.pool.versions[0].weights_on(torch.device("cpu"))
        seen.append([packed(x["net.stem.weight"]) for x in (version, trainer.policy.state_dict())])

    playout.ppo(
        "tic_tac_toe", init=f"{folder}/four", total_timesteps=128, num_envs=4, num_steps=16,
        minibatch_size=32, trunk_rate=0.1, eval_episodes=4, threads=1, quiet=True, run=run,
        callbacks=[remember],
    )  # fmt: skip
    return {"begun": seen[-1][0], "learned": seen[-1][1]}
