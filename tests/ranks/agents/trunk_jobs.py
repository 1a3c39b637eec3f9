"""Small pretrainings of trunks that two ranks and one process make alike."""

import numpy as np
import torch
from launch import packed
from playout.agents.alphazero.replay.policies import Policies
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import Augmentation, Split
from playout.agents.pretraining.data.pictures import Pictures
from playout.agents.pretraining.data.positions import Positions
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import new_trunk
from playout.envs.core.registry import game

AUGMENT = Augmentation(shift=0.1, flip=True, erase=0.5)
KINDS = {
    "classes": {"dropout": 0.2, "label_smoothing": 0.1, "balance": True, "labels": 0.7},
    # Muon's steps are as long whatever the gradient is: long ones would make much of rounding.
    "mixup": {"mixup": 0.4, "loss": "mse", "optimizer": "muon", "learning_rate": 0.001},
    "autoencoder": {"objective": "autoencoder"},
    "vae": {"objective": "vae"},
    "masked": {"objective": "masked", "patch": 5},  # which does not divide the pictures' sides
    "rotation": {"objective": "rotation"},
    "patches": {"objective": "patches"},
    "colour": {"objective": "colour"},
    "infonce": {"objective": "contrastive", "max_grad_norm": 0.01},
    "vicreg": {"objective": "contrastive", "pairs": "vicreg"},
}


def pictures(count, seed):
    """Coloured pictures of 12 x 12 with a class that shows, three of one kind to one of others."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, count, p=[0.6, 0.2, 0.2])
    pixels = rng.integers(0, 120, (count, 3, 12, 12), dtype=np.uint8)
    pixels[np.arange(count), labels] += 100
    return Pictures(name="made", pixels=pixels, labels=labels, classes=("a", "b", "c"))


def positions(count, seed):
    """Random positions of tic-tac-toe with outcomes and moves that only the seed knows."""
    own = game("tic_tac_toe")
    rng = np.random.default_rng(seed)
    states = own.batch(count)
    states.random_plies(rng.integers(0, 4, count).astype(np.int32), seed)
    moves = Policies.from_dense(np.eye(9, dtype=np.float32)[rng.integers(0, 9, count)])
    labels = rng.integers(0, 3, count)
    return Positions(name="made", game=own, states=states.data, labels=labels, moves=moves)


def trainer(kind):
    """A trainer of one of KINDS, or of "positions"."""
    make = positions if kind == "positions" else pictures
    data = Split(make(90, 1), make(300, 2))
    network = {"network": "auto", "size": "8x1"} if kind == "positions" else {"network": "grid"}
    # Adam would make a step of what is left of a gradient that is nothing but rounding.
    settings = {"batch": 21, "warmup": 0.0, "augment": AUGMENT, "optimizer": "momentum", **network}
    settings |= KINDS.get(kind, {})
    config = PretrainConfig(**settings)
    trunk = new_trunk(data.train, network=config.network, size=config.size, seed=4)
    found = PretrainTrainer(trunk, data, config, steps=6, seed=5)
    found.steps_an_update = 3
    return found


def learn(kind):
    """What two updates and an evaluation leave: metrics, weights."""
    own = trainer(kind)
    metrics = own.update() | own.update() | own.evaluate()
    own.close()
    return {"metrics": metrics, "weights": weights(own)}


def weights(own):
    """Trunk, running statistics and heads, packed."""
    state = [*own.trunk.net.state_dict().values(), *own.objective.state_dict().values()]
    return packed(torch.cat([x.detach().double().reshape(-1) for x in state]))
