"""Blocks without their least channels: the same answers where those did nothing."""

import numpy as np
import pytest
import torch
from playout.agents.networks.boards.registry import new_network, size_of
from playout.agents.networks.boards.resnet import parse_size
from playout.agents.networks.boards.smaller.held import with_codes
from playout.agents.networks.boards.smaller.narrowed import (
    behind_relu,
    channels_worth,
    narrowed,
)
from playout.errors import ConfigError

from tests.agents.networks.boards.smaller.test_held_boards import GAME, moved, positions


@torch.no_grad()
def silence(block, dead, how):
    """Channels of a block do nothing: nobody reads them, or they are never above zero."""
    inner = len(block.norm1.weight)
    if how == "unread":
        block.conv2.weight[:, dead] = 0
        if block.pool is not None:
            block.pool.weight[:, dead] = 0
            block.pool.weight[:, [inner + channel for channel in dead]] = 0
        return
    block.norm1.weight[dead] = 0
    block.norm1.bias[dead] = -1
    if block.pool is not None:
        block.pool.weight[dead] = 0
        block.pool.bias[dead] = 0


@pytest.mark.parametrize("how", ["unread", "silent"])
def test_without_channels_that_do_nothing_answers_stay_what_they_were(how):
    net, obs = moved("16x3", pooling=True), positions()
    for index, block in enumerate(net.blocks):
        dead = [(5 * index + 2 * step) % 16 for step in range(8)]
        silence(block, dead, how)
        worth = channels_worth(block)
        assert sorted(np.flatnonzero(worth.numpy() == 0)) == sorted(dead)
    small = narrowed(net, 0.5).eval()
    assert small.config.inner == 8 and small.blocks[1].pool.weight.shape == (8, 16)
    with torch.no_grad():
        for ours, theirs in zip(small(obs), net(obs), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        fast = small.inference_copy()(obs)
        for ours, theirs in zip(fast, small(obs), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_what_stands_behind_a_relu_is_the_integral_over_the_normal_distribution():
    x = np.linspace(-12, 12, 200_001)
    density = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
    for mean, spread in ((0.0, 1.0), (0.7, 0.3), (-1.5, 2.0), (-3.0, 0.5)):
        square = np.maximum(mean + spread * x, 0) ** 2 * density
        wanted = np.sqrt(np.trapezoid(square, x))
        found = behind_relu(torch.tensor([mean]), torch.tensor([spread]))
        assert float(found) == pytest.approx(wanted, rel=1e-5)
    exact = behind_relu(torch.tensor([2.0, -2.0]), torch.zeros(2))  # no spread: ReLU of the mean
    assert exact.tolist() == pytest.approx([2.0, 0.0])


@torch.no_grad()
def test_the_least_channels_of_each_block_go():
    net = moved("16x2")
    kept = narrowed(net, 0.25)
    for before, after in zip(net.blocks, kept.blocks, strict=True):
        scale = before.norm2.weight / (before.norm2.running_var + before.norm2.eps).sqrt()
        worth = []
        for channel in range(16):
            said = behind_relu(before.norm1.bias[channel], before.norm1.weight[channel].abs())
            read = sum(
                float((before.conv2.weight[out, channel] * scale[out]).square().sum())
                for out in range(16)
            )
            worth.append(float(said) * read**0.5)
        rows = sorted(np.argsort(worth)[-8:])  # 12 of 16 would stay, of which 8 are a whole vector
        assert torch.equal(after.conv1.weight, before.conv1.weight[rows])
        assert torch.equal(after.norm1.running_var, before.norm1.running_var[rows])
        assert torch.equal(after.conv2.weight, before.conv2.weight[:, rows])
    assert torch.equal(kept.policy.weight, net.policy.weight)


def test_a_narrower_network_has_a_size_of_its_own():
    small = narrowed(moved("48x2"), 0.5)
    assert small.config.inner == 24 and size_of(small.config) == "48x2/24"
    assert new_network(GAME, "48x2/24").config == small.config
    assert size_of(narrowed(moved("medium"), 0.5).config) == "medium/24"
    assert parse_size("48x2/48") == parse_size("48x2")
    for wrong in ("48x2/", "48x2/49", "48x2/0", "48x2/x", "/8", "big/8"):
        with pytest.raises(ConfigError, match=r"size .* is unknown"):
            parse_size(wrong)
    with pytest.raises(ConfigError, match="only a resnet"):
        new_network(GAME, "48x2/24", network="transformer")


def test_what_has_no_channels_to_lose_is_refused():
    for share in (0.0, 1.0):
        with pytest.raises(ConfigError, match=r"choose above 0 and below 1"):
            narrowed(moved(), share)
    with pytest.raises(ConfigError, match="codes cannot be pruned"):
        narrowed(with_codes(moved(), "int8"), 0.5)
    with pytest.raises(ConfigError, match="none to lose"):
        narrowed(new_network(GAME, "1x1"), 0.5)
