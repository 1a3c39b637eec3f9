"""Small pieces of self-play that one process and several ranks do alike; tests compare them."""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from playout.agents.alphazero.budget.machine import Machine
from playout.agents.alphazero.budget.presets import configure
from playout.agents.alphazero.config import LearnerConfig
from playout.agents.alphazero.learner import Learner
from playout.agents.alphazero.trainer import AlphaZeroTrainer
from playout.agents.networks.boards.resnet import build

sys.path.insert(0, str(Path(__file__).parents[2] / "agents" / "alphazero"))
from random_replay import GAME, replay_of


def small_config(**changes):
    config = configure(GAME, machine=Machine(2), size="8x1", simulations=8, updates=3)
    return replace(
        config,
        evaluations=300,
        steps=2,
        warmup_positions=32,
        selfplay=replace(config.selfplay, num_groups=2, num_trees=8),
        learner=replace(config.learner, batch_size=32, num_shards=2, dtype="float32"),
        **changes,
    )


def digest(value, found=None):
    """A hash of a state, whatever it is made of."""
    mixed = hashlib.sha256() if found is None else found
    if isinstance(value, dict):
        for key in value:
            mixed.update(key.encode())
            digest(value[key], mixed)
    elif isinstance(value, list | tuple):
        for one in value:
            digest(one, mixed)
    elif isinstance(value, torch.Tensor):
        mixed.update(value.contiguous().numpy().tobytes())
    elif isinstance(value, np.ndarray):
        mixed.update(value.tobytes())
    else:
        mixed.update(repr(value).encode())
    return mixed.hexdigest()


def learned(num_shards, size=50, steps=3):
    """Weights and running statistics after some steps on one batch of all ranks, as numbers."""
    config = LearnerConfig(batch_size=size, num_shards=num_shards, dtype="float32")
    learner = Learner(build(GAME.obs_shape, 9, size="8x1"), config, device="cpu")
    batch, rows = replay_of(size, weighed=True).batch(0, size), learner.rows(size)
    for _ in range(steps):
        found = learner.step(batch[rows.start : rows.stop], done=0.3, whole=size)
    parts = [*learner.net.state_dict().values(), *learner.average.state_dict().values()]
    numbers = torch.cat([part.reshape(-1).float() for part in parts]).tolist()
    return [*numbers, found["train/grad_norm"]]


def played():
    """The examples of an update's self-play, as text, and what all ranks have done for them."""
    trainer = AlphaZeroTrainer(small_config(), seed=4)
    outcome = trainer._play(trainer.variants[0], 300)
    counts = trainer.variants[0].keep(outcome).counts
    examples = outcome.examples
    kept = (examples.states, examples.values, examples.policy.probabilities)
    return [part.tobytes().hex() for part in kept], counts.state_dict()


def counted(metrics):
    return {key: value for key, value in metrics.items() if not key.startswith("time/")}


def states_of(trainer):
    return trainer.state_dict(), trainer.rank_state()


def straight_and_resumed(**changes):
    """What three updates come to, with metrics; in one go, and after a stop in between."""
    straight, stopped, again = (AlphaZeroTrainer(small_config(**changes), seed=1) for _ in range(3))
    wanted = [counted(straight.update()) for _ in range(3)]
    found = [counted(stopped.update())]
    own, of_rank = states_of(stopped)
    again.load_state_dict(own)
    again.load_rank_state(of_rank)
    found += [counted(again.update()) for _ in range(2)]
    networks = [digest(trainer.state_dict()["learners"]) for trainer in (straight, again)]
    return {
        "metrics": [wanted, found],
        "networks": networks,
        "states": [digest(states_of(trainer)) for trainer in (straight, again)],
    }
