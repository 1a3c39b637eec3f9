"""Pretraining of two ranks: for every objective what one process learns, to rounding."""

import numpy as np
import pytest
import torch
import trunk_jobs
from launch import launch, numbers
from playout.agents.pretraining.trainer import PretrainTrainer

KINDS = [*trunk_jobs.KINDS, "positions"]


@pytest.fixture(scope="module")
def found():
    """What each of two ranks learned of every kind."""
    body = f"import trunk_jobs\nreturn {{kind: trunk_jobs.learn(kind) for kind in {KINDS}}}"
    return launch(2, body)


@pytest.mark.parametrize("kind", [*trunk_jobs.KINDS])
def test_two_ranks_learn_what_one_process_learns(found, kind):
    one, (first, second) = trunk_jobs.learn(kind), (part[kind] for part in found)
    assert first == second
    assert first["metrics"] == pytest.approx(one["metrics"], rel=1e-4, abs=1e-5)
    left, right = numbers(first["weights"]), numbers(one["weights"])
    np.testing.assert_allclose(left, right, rtol=0, atol=2e-5)


class Shards(PretrainTrainer):
    """One process that computes a batch in two parts, each normalised by its own statistics."""

    def step(self):
        own = self._taken()
        half = len(own.images) // 2
        for _, optimizer in self.optimizers:
            optimizer.zero_grad()
        before = [x.clone() for x in self.trunk.buffers()]
        after = []
        for part in (slice(0, half), slice(half, None)):
            for x, value in zip(self.trunk.buffers(), before, strict=True):
                x.copy_(value)
            images = own.images[part]
            batch = type(own)(images, own.labels[part], own.policy[part])
            loss = self.objective.losses(batch, torch.Generator())["loss"]
            (loss * (len(images) / len(own.images))).backward()
            after.append([x.clone() for x in self.trunk.buffers()])
        for x, *both in zip(self.trunk.buffers(), *after, strict=True):
            x.copy_(sum(both) / 2 if x.is_floating_point() else both[0])
        self._clip()
        for share, optimizer in self.optimizers:
            optimizer.lr = self.rate() * share
            optimizer.apply()
        self.steps += 1
        return {"train/loss": 0.0}


def test_boards_are_normalised_by_the_statistics_of_a_ranks_part(found, monkeypatch):
    monkeypatch.setattr(trunk_jobs, "PretrainTrainer", Shards)
    one, (first, second) = trunk_jobs.learn("positions"), (part["positions"] for part in found)
    assert first == second
    left, right = numbers(first["weights"]), numbers(one["weights"])
    np.testing.assert_allclose(left, right, rtol=0, atol=2e-5)
