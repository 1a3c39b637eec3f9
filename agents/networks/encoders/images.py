"""What encoders of images share: channels first, pixels scaled, convolutions and a linear layer.

Scaling happens here, so that rollouts keep bytes. Which convolutions there are is published.py's,
residual.py's and stack.py's.
"""

import math

import torch
from gymnasium import spaces
from playout.agents.networks.encoders.vectors import linear
from playout.agents.vector.spaces import channels_last
from torch import Tensor, nn


def conv(num_in: int, num_out: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    """A convolution with orthogonal weights."""
    layer = nn.Conv2d(num_in, num_out, kernel, stride, padding)
    nn.init.orthogonal_(layer.weight, math.sqrt(2.0))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class Images(nn.Module):
    """What the convolutional encoders share: channels first, float, bytes scaled to [0, 1]."""

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        self.channels_last = channels_last(space)
        shape = space.shape if len(space.shape) == 3 else (1, *space.shape)
        self.shape = (shape[2], shape[0], shape[1]) if self.channels_last else shape
        self.scale = 1.0 / 255.0 if space.dtype == "uint8" else 1.0

    def forward(self, obs: Tensor) -> Tensor:
        """`[N, C, H, W]`, `[N, H, W, C]` or `[N, H, W]` to float `[N, C, H, W]`."""
        x = obs.unsqueeze(1) if obs.dim() == 3 else obs
        if self.channels_last:
            x = x.permute(0, 3, 1, 2)
        x = x.float()
        return x if self.scale == 1.0 else x * self.scale


class Convolutional(nn.Module):
    """Convolutions over images and a linear layer; subclasses say which, and what to call them."""

    name: str

    def __init__(self, space: spaces.Box, num_features: int) -> None:
        super().__init__()
        self.images = Images(space)
        self.convs = nn.Sequential(*self.layers(self.images.shape[0]), nn.Flatten())
        self.convs.eval()  # one picture has no statistics to normalise by
        with torch.no_grad():
            width = int(self.convs(torch.zeros(1, *self.images.shape)).shape[1])
        self.convs.train()
        self.out = linear(width, num_features, math.sqrt(2.0))
        self.num_features = num_features

    def layers(self, channels: int) -> list[nn.Module]:
        """Layers over float images `[N, channels, H, W]`."""
        raise NotImplementedError

    def forward(self, obs: Tensor) -> Tensor:
        """`[N, ...]` to `[N, num_features]`."""
        return torch.relu(self.out(self.convs(self.images(obs))))
