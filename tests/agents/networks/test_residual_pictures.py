"""The residual network of pictures: its arithmetic, and statistics that stand still in PPO."""

import numpy as np
import playout
import pytest
import torch
from gymnasium import spaces
from playout.agents.networks.actor_critic import ActorCritic
from playout.agents.networks.config import NetworkConfig
from playout.agents.networks.encoders.choice import build_encoder
from playout.agents.networks.encoders.residual import Block
from playout.agents.networks.encoders.stack import Layer
from torch import nn
from torch.nn import functional

SPACE = spaces.Box(0, 255, (3, 20, 16), np.uint8)


def normed(x, norm):
    """Statistics of the batch, written out."""
    mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), unbiased=False)
    scale = norm.weight / (variance + norm.eps).sqrt()
    return (x - mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]


@pytest.mark.parametrize(("num_in", "num_out", "stride"), [(4, 4, 1), (4, 6, 1), (4, 8, 2)])
def test_a_block_is_two_normalised_convolutions_beside_a_way_round_them(num_in, num_out, stride):
    torch.manual_seed(1)
    block, x = Block(num_in, num_out, stride), torch.randn(5, num_in, 9, 7)
    for norm in (block.first_norm, block.second_norm):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    y = normed(x, block.first_norm).relu()
    kept = x
    if block.shortcut is not None:
        kept = functional.conv2d(y, block.shortcut.weight, stride=stride)
    z = functional.conv2d(y, block.first_conv.weight, stride=stride, padding=1)
    z = functional.conv2d(normed(z, block.second_norm).relu(), block.second_conv.weight, padding=1)
    torch.testing.assert_close(block(x), kept + z, rtol=1e-4, atol=1e-4)
    assert (block.shortcut is None) == (num_in == num_out and stride == 1)


def test_the_encoder_takes_bytes_and_gives_features():
    encoder = build_encoder(SPACE, "resnet-8")
    obs = torch.randint(0, 256, (6, *SPACE.shape), dtype=torch.uint8)
    assert encoder(obs).shape == (6, encoder.num_features)
    convolutions = [one for one in encoder.modules() if isinstance(one, nn.Conv2d)]
    assert sum(one.kernel_size == (3, 3) for one in convolutions) == 7
    assert all(one.bias is None for one in convolutions)


@pytest.mark.parametrize("residual", [True, False])
def test_a_stack_with_preactivation_normalises_before_each_convolution(residual):
    torch.manual_seed(2)
    words = f"norm=batch, residual={str(residual).lower()}, preactivation=true"
    encoder = build_encoder(SPACE, f"stack(depth=3, width=4, {words})")
    layers = [one for one in encoder.modules() if isinstance(one, Layer)]
    norms = [one for one in encoder.modules() if isinstance(one, nn.BatchNorm2d)]
    assert len(norms) == 3  # before the second and third convolution, and at the end
    for norm in norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    obs = torch.randint(0, 256, (6, *SPACE.shape), dtype=torch.uint8)
    first, *others = (one.conv for one in layers)
    x = functional.avg_pool2d(functional.conv2d(obs / 255, first.weight, padding=1), 2)
    for norm, conv in zip(norms[:2], others, strict=True):
        y = functional.conv2d(normed(x, norm).relu(), conv.weight, padding=1)
        x = x + y if residual else y
    wanted = functional.linear(normed(x, norms[2]).relu().flatten(1), encoder.out.weight).relu()
    torch.testing.assert_close(encoder(obs), wanted, rtol=1e-4, atol=1e-4)


def test_what_a_deep_stack_adds_up_stays_as_large_with_preactivation_alone():
    obs, found = torch.randint(0, 256, (2, *SPACE.shape), dtype=torch.uint8), {}
    for before in (False, True):
        torch.manual_seed(3)
        words = f"residual=true, preactivation={str(before).lower()}"
        encoder = build_encoder(SPACE, f"stack(depth=48, width=8, {words})")
        layers = [one for one in encoder.modules() if isinstance(one, Layer)]
        weights = torch.cat([one.conv.weight.flatten() for one in layers[1:]])
        wanted = (2 / (8 * 9)) ** 0.5 / (48**0.5 if before else 1)
        assert float(weights.detach().std()) == pytest.approx(wanted, rel=0.05)
        x, sizes = obs / 255, []
        for one in encoder.convs:
            x = one(x)
            sizes += [float(x.detach().std())] if isinstance(one, Layer) else []
        found[before] = sizes[-1] / sizes[0]
    assert found[True] < 10 and found[False] > 1e6


def test_a_policy_is_the_same_while_it_acts_and_learns():
    net = ActorCritic(SPACE, spaces.Discrete(3), NetworkConfig(network="resnet-8"))
    norms = [one for one in net.modules() if isinstance(one, nn.BatchNorm2d)]
    assert norms and not any(one.training for one in norms)
    obs = torch.randint(0, 256, (6, *SPACE.shape), dtype=torch.uint8)
    with torch.no_grad():
        before = net.train().value(obs, None)
        alone = net.value(obs[:2], None)
        after = net.eval().value(obs, None)
    torch.testing.assert_close(before, after)
    torch.testing.assert_close(before[:2], alone)
    assert all(one.running_mean.abs().max() == 0 for one in norms)
    assert all((one.running_var == 1).all() for one in norms)
    assert net.train().training


def test_a_person_s_own_normalisation_is_left_to_follow_the_batch():
    net = ActorCritic(SPACE, spaces.Discrete(3), NetworkConfig(network="stack(depth=2,norm=batch)"))
    norms = [one for one in net.train().modules() if isinstance(one, nn.BatchNorm2d)]
    assert norms and all(one.training for one in norms)


@pytest.mark.parametrize("side", [7, 8, 9])
def test_small_pictures_are_learned_too(side):
    encoder = build_encoder(spaces.Box(0, 1, (1, side, side), np.float32), "resnet-8")
    features = encoder.train()(torch.rand(4, 1, side, side))
    features.sum().backward()
    assert features.shape == (4, encoder.num_features)


@pytest.mark.slow
def test_what_learned_pictures_begins_ppo_with_its_statistics(tmp_path):
    data = "observations:CartPole-v1"
    seen = {"wrappers": ("grey:20", "frame_stack:2")}
    run = playout.pretrain_trunk(
        data, **seen, count=80, objective="rotation", network="resnet-8", epochs=1.0, batch=16,
        run=tmp_path / "seen", quiet=True,
    )  # fmt: skip
    taught = playout.load(run.path).trunk.net.state_dict()
    moved = [name for name in taught if name.endswith("running_mean")]
    assert moved and all(taught[name].abs().max() > 0 for name in moved)
    ppo = playout.ppo(
        "CartPole-v1", **seen, init=str(run.path), total_timesteps=128, num_envs=4, num_steps=16,
        minibatch_size=32, run=tmp_path / "ppo", quiet=True,
    )  # fmt: skip
    _, state = ppo.load("latest")
    learned = {name.rpartition("encoder.")[2]: x for name, x in state["model"].items()}
    assert all(torch.equal(learned[name], taught[name]) for name in moved)
