"""Gradient steps of one network: shards, schedule, what stops them, what a checkpoint must fit."""

import pytest
import torch
from playout.agents.alphazero.config import LearnerConfig
from playout.agents.alphazero.learner import Learner, losses, slices
from playout.agents.networks.boards.registry import new_network
from playout.agents.networks.boards.resnet import build
from playout.agents.networks.boards.trunk import trunk_parameters
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


def test_a_state_of_other_weights_is_refused_and_changes_nothing():
    mine, wide = (
        Learner(build((2, 3, 3), 9, size=size), LearnerConfig(optimizer="adamw"))
        for size in ("8x1", "16x1")
    )
    before = {name: x.clone() for name, x in mine.net.state_dict().items()}
    state = mine.state_dict() | {"optimizers": wide.state_dict()["optimizers"]}
    state["learner"] = {name: x + 1 for name, x in before.items()}
    with pytest.raises(CheckpointError, match="other weights"):
        mine.load_state_dict(state)
    assert all(torch.equal(x, before[name]) for name, x in mine.net.state_dict().items())


@pytest.mark.parametrize("network", ["resnet", "transformer"])
@pytest.mark.parametrize("rate", [0.0, 0.25])
def test_weights_of_a_trunk_take_their_share_of_the_rate_and_heads_all(network, rate):
    batch, found = training_batch(), []
    for share in (1.0, rate):
        net = new_network(GAME, "16x1", network=network, seed=3)
        config = LearnerConfig(
            batch_size=64, num_shards=3, optimizer="sgd", learning_rate=0.1, dtype="float32",
            max_grad_norm=1e9, trunk_rate=share,
        )  # fmt: skip
        begun = trunk_parameters(net, fresh=["turn"])
        before = {name: x.clone() for name, x in net.state_dict().items()}
        learner = Learner(net, config, device="cpu", begun=begun)
        learner.step(batch, done=0.1)
        again = Learner(
            new_network(GAME, "16x1", network=network), config, device="cpu", begun=begun
        )
        again.load_state_dict(learner.state_dict())
        for one in (learner, again):
            one.step(batch, done=0.2)
        for a, b in zip(learner.net.parameters(), again.net.parameters(), strict=True):
            assert torch.equal(a, b)
        averaged = learner.average.state_dict()
        found.append({name: x - before[name] for name, x in net.state_dict().items()})
    learned = {name for name, _ in net.named_parameters()}
    assert {"turn", "value.weight"} <= learned - set(begun) and 0 < len(begun) < len(learned)
    for name, step in found[1].items():
        still = rate == 0 and (name in begun or name.startswith(("stem_norm", "blocks")))
        assert not still or not step.any(), name
        assert not still or torch.equal(averaged[name], before[name]), name
        assert still or name in begun or step.abs().max() > 0 or not found[0][name].any(), name


def test_a_first_step_of_the_trunk_is_a_share_of_the_whole_one():
    batch, found = training_batch(), []
    for share in (1.0, 0.25):
        net = new_network(GAME, "16x1", seed=3)
        config = LearnerConfig(
            batch_size=64, optimizer="sgd", learning_rate=0.1, dtype="float32", trunk_rate=share,
        )  # fmt: skip
        begun = trunk_parameters(net)
        before = {name: p.detach().clone() for name, p in net.named_parameters()}
        Learner(net, config, device="cpu", begun=begun).step(batch, done=0.1)
        found.append({name: p.detach() - before[name] for name, p in net.named_parameters()})
    for name, step in found[0].items():
        wanted = step * 0.25 if name in begun else step
        torch.testing.assert_close(found[1][name], wanted, rtol=1e-3, atol=1e-7)


def test_the_rate_warms_up_and_falls():
    learner = Learner(build((2, 3, 3), 9, size="tiny"), LearnerConfig(learning_rate=1e-2))
    rates = [learner.rate(done) for done in (0.0, 0.01, 0.02, 0.5, 1.0)]
    assert rates[0] < rates[1] < rates[2] == 1e-2
    assert rates[2] > rates[3] > rates[4] > 0
