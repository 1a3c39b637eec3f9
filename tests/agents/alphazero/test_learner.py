"""Gradient steps of one network: shards, schedule, what stops them, what a checkpoint must fit."""

import pytest
import torch
from playout.agents.alphazero.config import LearnerConfig
from playout.agents.alphazero.learner import Learner, losses, slices
from playout.agents.networks.boards.resnet import build
from playout.errors import CheckpointError, DivergedError
from random_replay import GAME, replay_of


def training_batch():
    return replay_of(64).batch(0, 64)


def test_steps_on_one_batch_make_its_loss_smaller():
    batch = training_batch()
    learner = Learner(build(GAME.obs_shape, 9, size="tiny"), LearnerConfig(batch_size=64))
    rows = [learner.step(batch, done=0.1) for _ in range(40)]
    for name in ("train/policy_loss", "train/value_loss"):
        assert rows[-1][name] < rows[0][name] - 0.02


def test_the_averaged_network_follows_the_one_that_learns():
    learner = Learner(build(GAME.obs_shape, 9, size="tiny"), LearnerConfig(batch_size=64))
    before = learner.average.policy.weight.clone()
    learner.step(training_batch(), done=0.1)  # the first step's average is short: a tenth is old
    moved = learner.net.policy.weight - before
    assert moved.abs().max() > 0
    expected = before + 0.9 * moved
    torch.testing.assert_close(learner.average.policy.weight, expected, atol=1e-6, rtol=1e-4)


def test_a_loss_that_is_not_finite_stops_learning():
    learner = Learner(build(GAME.obs_shape, 9, size="tiny"), LearnerConfig(batch_size=64))
    with torch.no_grad():
        learner.net.policy.bias.fill_(float("nan"))
    with pytest.raises(DivergedError, match="not finite"):
        learner.step(training_batch(), done=0.0)


def test_shards_give_the_gradient_of_the_whole_batch():
    batch = training_batch()
    config = LearnerConfig(batch_size=64, num_shards=2, dtype="float32", max_grad_norm=1e9)
    learner = Learner(build(GAME.obs_shape, 9, size="tiny"), config)
    for replica in learner._replicas:  # statistics of a shard would differ: use the running ones
        replica.eval()
        replica.train = lambda mode=True, net=replica: net
    net = build(GAME.obs_shape, 9, size="tiny").eval()
    for part in slices(batch, 2):
        policy_loss, value_loss, _ = losses(net, part, dtype="float32")
        ((policy_loss + value_loss) / 2).backward()
    for optimizer in learner.optimizers:
        optimizer.step = lambda: None
    learner.step(batch, done=0.5)
    for mine, theirs in zip(learner.net.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-6, rtol=1e-4)


def test_the_state_of_another_optimizer_is_refused():
    muon, adamw = (
        Learner(build((2, 3, 3), 9, size="tiny"), LearnerConfig(optimizer=name))
        for name in ("muon", "adamw")
    )
    with pytest.raises(CheckpointError, match="other optimisers"):
        adamw.load_state_dict(muon.state_dict())


def test_the_rate_warms_up_and_falls():
    learner = Learner(build((2, 3, 3), 9, size="tiny"), LearnerConfig(learning_rate=1e-2))
    rates = [learner.rate(done) for done in (0.0, 0.01, 0.02, 0.5, 1.0)]
    assert rates[0] < rates[1] < rates[2] == 1e-2
    assert rates[2] > rates[3] > rates[4] > 0
