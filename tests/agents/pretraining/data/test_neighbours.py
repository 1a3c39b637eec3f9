"""Which rows lie nearest to each, and pictures beside a neighbour instead of themselves."""

import numpy as np
import pytest
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data import neighbours
from playout.agents.pretraining.data.dataset import Augmentation
from playout.agents.pretraining.data.neighbours import nearest
from playout.agents.pretraining.data.pictures import Pictures
from playout.agents.pretraining.objectives.contrastive import Contrastive
from playout.agents.pretraining.trunk import new_trunk
from playout.errors import ConfigError

from tests.agents.pretraining.bars import split_of, trainer_of


def pictures(count, *, size=8, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 1, size, size), np.uint8)
    labels = np.zeros(count, np.int64)
    return Pictures(name="noise", pixels=pixels, labels=labels, classes=())


def test_the_nearest_others_are_found_as_by_comparing_each_with_each(monkeypatch):
    data = pictures(70)
    monkeypatch.setattr(neighbours, "_BLOCK", 32)
    flat = data.images(np.arange(70)).reshape(70, -1).astype(np.float64)
    distances = np.square(flat[:, None] - flat[None]).sum(2)
    np.fill_diagonal(distances, np.inf)
    assert np.array_equal(nearest(data, 5), np.argsort(distances, axis=1)[:, :5])
    assert nearest(pictures(3), 5).shape == (3, 2)  # there are no more


def test_of_much_data_neighbours_are_looked_for_among_some(monkeypatch):
    monkeypatch.setattr(neighbours, "AMONG", 40)
    found = nearest(pictures(100), 4)
    assert len(np.unique(found)) <= 40 and found.max() > 60
    assert not (found == np.arange(100)[:, None]).any()


def test_the_second_view_is_a_neighbour_and_any_of_them():
    data, rows = pictures(60), np.arange(60)
    trunk = new_trunk(data, network="grid", seed=0)
    near = nearest(data)
    objective = Contrastive(trunk, partner="neighbour")
    drawn = np.stack([objective.partners(data, rows, np.random.default_rng(k)) for k in range(200)])
    for row in rows:
        assert set(drawn[:, row]) == set(near[row])
    plain = Contrastive(trunk)
    assert np.array_equal(plain.partners(data, rows, np.random.default_rng(0)), rows)


def test_training_shows_neighbours_beside_pictures():
    data = split_of(120)
    still = Augmentation(shift=0.0)
    trainer = trainer_of(
        data, 4, objective="contrastive", partner="neighbour", hide=0.0, augment=still
    )
    near = nearest(data.train)
    seen, losses = [], trainer.objective.losses

    def watched(batch, generator):
        seen.append(batch)
        return losses(batch, generator)

    trainer.objective.losses = watched
    try:
        trainer.update()
    finally:
        trainer.close()
    shown = data.train.images(np.arange(120))
    for batch in seen:
        first, second = (x.contiguous().numpy() for x in (batch.images, batch.second))
        for one, other in zip(first, second, strict=True):
            (row,) = np.flatnonzero((shown == one).all(axis=(1, 2, 3)))
            (beside,) = np.flatnonzero((shown == other).all(axis=(1, 2, 3)))
            assert beside in near[row]
    assert len(seen) == 4


def test_an_unknown_partner_is_named():
    trunk = new_trunk(pictures(4), network="grid", seed=0)
    with pytest.raises(ConfigError, match=r"unknown partner 'friend'.*itself, neighbour"):
        Contrastive(trunk, partner="friend")
    with pytest.raises(ConfigError, match="--partner does nothing with --objective masked"):
        PretrainConfig(objective="masked", partner="neighbour").refuse_unused(pictures=True)
