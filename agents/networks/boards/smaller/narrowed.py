"""Structured pruning of a residual network: its blocks lose their least channels inside.

A channel between the two convolutions of a block counts as much as it says, times as much as the
second convolution makes of it. What it says is known without data: its normalisation gives every
channel a mean and a spread, whose root mean square behind the ReLU is a closed form. All blocks
keep the same number. What goes is removed, so that the network is smaller and faster as it is. Left
out: the trunk between blocks, whose width a student chooses (--teacher), and learning on.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import torch
from playout.agents.networks.boards.resnet import Block, ResNet
from playout.agents.networks.boards.smaller.held import PLAIN
from playout.errors import ConfigError
from torch import Tensor

__all__ = ["channels_worth", "narrowed"]

MULTIPLE = 8


def behind_relu(mean: Tensor, spread: Tensor) -> Tensor:
    """The root mean square of max(x, 0) for normally distributed x.

    Args:
        mean: of x.
        spread: its standard deviation, 0 or more, in the shape of `mean`.
    """
    mean, spread = mean.double(), spread.double()
    ratio = mean / spread.clamp(min=1e-12)
    share = torch.special.ndtr(ratio)
    density = torch.exp(-0.5 * ratio**2) / math.sqrt(2 * math.pi)
    square = (mean**2 + spread**2) * share + mean * spread * density
    return square.clamp(min=0).sqrt()


@torch.no_grad()
def channels_worth(block: Block) -> Tensor:
    """How much each inner channel of a block counts, float64 [inner]; 0 for one that does nothing.

    A block with pooling adds to each channel a bias of all of them, and reads them for it.
    """
    said = behind_relu(block.norm1.bias, block.norm1.weight.abs())
    after = block.norm2
    assert after.running_var is not None
    scale = after.weight * torch.rsqrt(after.running_var + after.eps)
    read = (block.conv2.weight * scale[:, None, None, None]).double().square().sum(dim=(0, 2, 3))
    if block.pool is not None:
        weight = block.pool.weight.double()
        said = said + weight.norm(dim=1) + block.pool.bias.double().abs()
        read = read + weight.square().unflatten(1, (2, -1)).sum(dim=(0, 1))
    return said * read.sqrt()


@torch.no_grad()
def narrowed(net: ResNet, share: float) -> ResNet:
    """A new network whose blocks lack a share of their inner channels; it learns.

    Args:
        net: stays as it is.
        share: of channels that go, above 0 and below 1. At least one goes and one stays; of more
            than 8 a multiple of 8 stays, since odd widths are slow.

    Raises:
        ConfigError: there is nothing to remove, or weights are held in codes.
    """
    config = net.config
    if not 0 < share < 1:
        raise ConfigError(f"--sparsity {share:g}: choose above 0 and below 1")
    if config.weights != PLAIN:
        raise ConfigError("weights in codes cannot be pruned; prune what they were made from")
    before = config.inner_channels
    count = max(1, min(before - 1, round(before * (1 - share))))
    if count > MULTIPLE:
        count = count // MULTIPLE * MULTIPLE
    if count == before:
        raise ConfigError("a network of one channel has none to lose")
    with torch.random.fork_rng(devices=[]):
        small = ResNet(replace(config, inner=count)).to(net.position.device)
    mine, theirs = small.state_dict(), net.state_dict()
    for index, block in enumerate(net.blocks):
        kept = channels_worth(cast(Block, block)).argsort(descending=True, stable=True)[:count]
        _keep(theirs, f"blocks.{index}.", kept.sort().values, before)
    for name, tensor in mine.items():
        tensor.copy_(theirs[name])
    return small


def _keep(state: dict[str, Tensor], block: str, kept: Tensor, before: int) -> None:
    """Cuts the tensors of a block, in a network's state, down to some inner channels."""
    for name in ("conv1.weight", *(f"norm1.{part}" for part in _PER_CHANNEL)):
        state[block + name] = state[block + name][kept]
    state[f"{block}conv2.weight"] = state[f"{block}conv2.weight"][:, kept]
    if f"{block}pool.weight" in state:
        columns = torch.cat([kept, before + kept])
        state[f"{block}pool.weight"] = state[f"{block}pool.weight"][kept][:, columns]
        state[f"{block}pool.bias"] = state[f"{block}pool.bias"][kept]


_PER_CHANNEL = ("weight", "bias", "running_mean", "running_var")
"""Of a normalisation."""
