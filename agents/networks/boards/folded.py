"""Residual networks folded for fast inference.

Batch normalisation is folded into the convolutions and every activation is written in place, so a
copy runs at the speed of its matrix products. The network itself, which learns, is in resnet.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from playout.agents.networks.boards.heads import (
    answers,
    make_policy,
    pooled,
    side_to_move,
    value_inputs,
)
from playout.agents.networks.boards.network import BoardNetwork, squash
from playout.agents.networks.boards.smaller.held import plain_state
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from playout.agents.networks.boards.resnet import Block, ResNet


class FoldedResNet(nn.Module):
    """A ResNet for inference.

    Args:
        net: the network whose answers it gives.
        dtype: of its weights and inputs.
        device: where it answers; by default on the processor.
    """

    def __init__(
        self, net: ResNet, *, dtype: torch.dtype = torch.float32, device: torch.device | None = None
    ) -> None:
        super().__init__()
        config = net.config
        self.config = config
        planes = config.obs_shape[0]
        self.stem = nn.Conv2d(planes, config.channels, 3, padding=1)
        # Of four dimensions, so that they lie in memory as activations do.
        self.position = nn.Parameter(torch.zeros(1, *net.position.shape))
        if config.side_planes is not None:
            self.turn = nn.Parameter(torch.zeros(1, *net.turn.shape))
        pairs: list[nn.Conv2d] = []
        pools: list[nn.Module] = []
        for index in range(config.blocks):
            outer, inner = config.channels, config.inner_channels
            pairs += [nn.Conv2d(*ends, 3, padding=1) for ends in ((outer, inner), (inner, outer))]
            use = config.pooling and index % 2 == 1
            pools.append(nn.Linear(2 * inner, inner) if use else nn.Identity())
        self.convs = nn.ModuleList(pairs)
        self.pools = nn.ModuleList(pools)
        self.head = nn.Conv2d(config.channels, config.head_channels, 1)
        heads, features = config.heads, config.head_channels
        cells = config.obs_shape[1] * config.obs_shape[2]
        self.policy = make_policy(heads, features, cells, config.num_actions)
        self.value_hidden = nn.Linear(value_inputs(heads, features, cells), config.value_hidden)
        self.value = nn.Linear(config.value_hidden, config.num_values)
        self._convs, self._pools = list(pairs), list(pools)  # plain lists are quick to read
        self.requires_grad_(False)
        layout = torch.channels_last
        self.to(device=device, dtype=dtype, memory_format=layout)  # type: ignore[call-overload]
        self.refresh(net)

    @torch.no_grad()
    def refresh(self, net: BoardNetwork) -> None:
        """Copies the weights of a ResNet in place, so that captured graphs stay valid."""
        if type(net.config) is not type(self.config):
            raise TypeError(f"a {type(net).__name__} cannot be folded as a ResNet")
        net = cast("ResNet", net)
        fold(self.stem, net.stem, net.stem_norm)
        self.position.copy_(net.position)
        if self.config.side_planes is not None:
            self.turn.copy_(net.turn)
        for index, block in enumerate(cast("list[Block]", net.blocks)):
            fold(self._convs[2 * index], block.conv1, block.norm1)
            fold(self._convs[2 * index + 1], block.conv2, block.norm2)
            pool = self._pools[index]
            if isinstance(pool, nn.Linear) and block.pool is not None:
                pool.weight.copy_(block.pool.weight)
                pool.bias.copy_(block.pool.bias)
        fold(self.head, net.head, net.head_norm)
        for name in ("policy", "value_hidden", "value"):
            theirs = plain_state(getattr(net, name))
            for key, mine in getattr(self, name).state_dict().items():
                mine.copy_(theirs[key])

    def before_blocks(self, obs: Tensor) -> Tensor:
        """What the first block sees, [M, channels, H, W]."""
        x = conv3x3(obs, self.stem).add_(self.position)
        if self.config.side_planes is not None and self.config.sees_side:
            x.addcmul_(side_to_move(obs, self.config.side_planes), self.turn)
        return functional.relu_(x)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [M, A] and values, both float32."""
        x = self.before_blocks(obs)
        for index, pool in enumerate(self._pools):
            y = functional.relu_(conv3x3(x, self._convs[2 * index]))
            if isinstance(pool, nn.Linear):
                y = y + pool(pooled(y))[:, :, None, None]
            x = functional.relu_(conv3x3(y, self._convs[2 * index + 1]).add_(x))
        x = functional.relu_(self.head(x))
        logits, value_logits = answers(
            self.config.heads, x, self.policy, self.value_hidden, self.value
        )
        return logits.float(), squash(value_logits, self.config.num_values)


def conv3x3(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """The convolution without a module call, whose overhead costs small networks a tenth."""
    return functional.conv2d(x, conv.weight, conv.bias, 1, 1)


def fold(target: nn.Conv2d, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Writes a convolution and its evaluated normalisation into one convolution with a bias."""
    assert (
        norm.running_var is not None and norm.running_mean is not None and target.bias is not None
    )
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    target.weight.copy_(conv.weight * scale[:, None, None, None])
    target.bias.copy_(norm.bias - norm.running_mean * scale)
