"""The cases of the study of ablations on pictures: a stack of convolutions with some remedies.

A stack (agents/networks/encoders/stack.py) of 2 to 64 layers, or a network that has too few
pictures, taught by the trainer of pretraining. A case gives accuracy on both sides, curves, and the
first gradient's norm by layer. Left out: tables and pictures (ablations.py).
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from playout.agents.networks.encoders.stack import Layer
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import Augmentation, Split
from playout.agents.pretraining.data.pictures import Pictures
from playout.agents.pretraining.data.sources import FASHION_FOLDER, load
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import new_trunk
from playout.errors import DivergedError

BEHIND = "+ both, ReLU behind"
REMEDIES = {
    "nothing, small first weights": {"init": "small"},
    "careful first weights": {"init": "he"},
    "+ residual connections": {"init": "he", "residual": True, "preactivation": True},
    "+ batch normalisation": {"init": "he", "norm": "batch"},
    "+ both": {"init": "he", "norm": "batch", "residual": True, "preactivation": True},
    BEHIND: {"init": "he", "norm": "batch", "residual": True},
}
EXAMINED = 100  # steps between two looks at held-out data, at most: one costs as much as 25
STILL = Augmentation(shift=0.0)
# Against overfitting: settings, and whether the whole data is there.
OVERFITTING: dict[str, dict[str, Any]] = {
    "nothing": {},
    "dropout": {"dropout": 0.5},
    "weight decay": {"weight_decay": 0.5},
    "augmentation": {"augment": Augmentation(shift=0.12, erase=0.3)},
    "label smoothing": {"label_smoothing": 0.1},
    "early stopping": {"patience": 3},
    "ten times the data": {"labels": 1.0},
}


def network_text(depth: int, width: int, remedy: dict[str, Any]) -> str:
    """The name of a stack."""
    words = [f"depth={depth}", f"width={width}"]
    words += [f"{key}={str(value).lower()}" for key, value in remedy.items()]
    return f"stack({', '.join(words)})"


def halves(held: Pictures) -> list[Pictures]:
    """Held-out data to choose by, and as much of it to tell of."""
    parts = np.array_split(np.random.default_rng(62).permutation(len(held)), 2)
    return [held.subset(np.sort(rows)) for rows in parts]


def run(data: Split, config: PretrainConfig, *, steps: int, seed: int) -> dict[str, Any]:
    """Trains once; accuracy on both sides, curves, and the first gradient's norm by layer.

    Half of what is held out says when training stops early and which step counts; accuracy is told
    of the other half, of every remedy: the best of a curve that chose itself is too good.
    """
    chosen_by, told = halves(data.test)

    def taught(test: Pictures) -> PretrainTrainer:
        trunk = new_trunk(data.train, network=config.network, seed=seed)
        return PretrainTrainer(trunk, Split(data.train, test), config, steps=steps, seed=seed)

    trainer, reader = taught(chosen_by), taught(told)
    layers = [module for module in trainer.trunk.modules() if isinstance(module, Layer)]
    curve, norms, diverged = [], [], False
    best, counts = -np.inf, (0, 0.0, 0.0)
    every = max(PretrainTrainer.steps_an_update, min(EXAMINED, steps // 2))
    try:
        while not trainer.finished:
            trainer.steps_an_update = every if trainer.steps else 1
            try:
                found = trainer.update()
            except DivergedError:  # one of the findings here
                diverged = True
                break
            if not curve:
                norm, limit = found["train/grad_norm"], config.max_grad_norm
                clipped = limit / norm if limit and norm > limit else 1.0
                norms = [float(_norm(layer.conv.weight)) / clipped for layer in layers]
            reader.load_weights(trainer.state_dict())
            held = reader.evaluate()
            curve.append((trainer.steps, found["train/accuracy"], held["eval/accuracy"]))
            score = trainer.evaluate()["eval/score"] if config.patience else float(trainer.steps)
            if score > best:
                best, counts = score, curve[-1]
    finally:
        trainer.close()
        reader.close()
    return {"held_out": counts[2], "train": counts[1], "curve": curve,
            "norms": norms, "diverged": diverged}  # fmt: skip


def _norm(weight: torch.nn.Parameter) -> torch.Tensor:
    return weight.grad.norm() if weight.grad is not None else torch.zeros(())


@lru_cache(maxsize=2)
def pictures_of(quick: bool) -> Split:
    """The pictures that this machine has; few of them in the quick form."""
    data = load("fashion-mnist" if FASHION_FOLDER.is_dir() else "digits")
    return data.some(3000, 600) if quick else data


def all_cases(quick: bool) -> dict[tuple[str, ...], tuple[PretrainConfig, int]]:
    """Settings and steps by table ("depth", "clipping", "overfitting"), row and column.

    Dear ones come first.
    """
    sizes, steps, width = ((2, 12), 50, 8) if quick else ((2, 16, 64), 200, 16)
    found: dict[tuple[str, ...], tuple[PretrainConfig, int]] = {}
    for depth in reversed(sizes):
        for name, remedy in REMEDIES.items():
            config = PretrainConfig(
                network=network_text(depth, width, remedy), batch=128, augment=STILL,
                learning_rate=3e-3, optimizer="adamw",
            )  # fmt: skip
            found["depth", name, f"{depth} layers"] = config, steps
    few = PretrainConfig(
        network="grid", batch=64, labels=0.1, augment=STILL, weight_decay=0.0, learning_rate=2e-3
    )
    for name, settings in OVERFITTING.items():
        found["overfitting", name] = replace(few, **settings), 75 if quick else 1000
    for limit in (0.0, 1.0):
        config = PretrainConfig(
            network=network_text(6 if quick else 16, 16, {"init": "large"}), batch=128,
            augment=STILL, optimizer="momentum", learning_rate=0.02, max_grad_norm=limit,
        )  # fmt: skip
        name = f"clipped to {limit:g}" if limit else "as they are"
        found["clipping", name] = config, 50 if quick else 400
    return found
