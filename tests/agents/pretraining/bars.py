"""Pictures of bars, upright or lying, that a small network learns in a second."""

import numpy as np
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import Split
from playout.agents.pretraining.data.pictures import Pictures
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import new_trunk


def bars(count, *, seed=0, size=12):
    """Pictures of a bright bar, upright (class 1) or lying (class 0), in noise."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 90, (count, size, size))
    labels = np.arange(count) % 2
    for row, upright in enumerate(labels):
        place = rng.integers(2, size - 2)
        where = (slice(None), place) if upright else (place, slice(None))
        pixels[row][where] = 255
    return pixels.astype(np.uint8), labels


def split_of(count=400):
    parts = []
    for seed, number in ((0, count), (1, 100)):
        pixels, labels = bars(number, seed=seed)
        parts.append(
            Pictures(name="bars", pixels=pixels[:, None], labels=labels, classes=("lying", "up"))
        )
    return Split(*parts)


def trainer_of(data, steps, **settings):
    config = PretrainConfig(network="grid", batch=50, **settings)
    trunk = new_trunk(data.train, network="grid", seed=1)
    return PretrainTrainer(trunk, data, config, steps=steps, seed=2)


def finish(trainer):
    while not trainer.finished:
        trainer.update()
    found = trainer.evaluate()
    trainer.close()
    return found
