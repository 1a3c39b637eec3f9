"""Convolutional encoders as reinforcement learning knows them.

Nature (Mnih et al. 2015) and IMPALA (Espeholt et al. 2018) for screens, and a small one for grids.
None of them normalises; residual.py's does.
"""

import torch
from gymnasium import spaces
from playout.agents.networks.encoders.images import Convolutional, Images, conv
from playout.errors import ConfigError
from torch import Tensor, nn


class Nature(Convolutional):
    """The convolutional network of Mnih et al. 2015, for screens of at least 36 by 36."""

    name = "nature"

    def __init__(self, space: spaces.Box) -> None:
        if min(Images(space).shape[1:]) < 36:
            raise ConfigError(
                f"the Nature network needs images of 36 x 36 or more, not "
                f"{Images(space).shape[1:]}; choose --network impala or grid"
            )
        super().__init__(space, 512)

    def layers(self, channels: int) -> list[nn.Module]:
        """Three strided convolutions."""
        shapes = ((channels, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1))
        return [layer for shape in shapes for layer in (conv(*shape), nn.ReLU())]


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv(channels, channels, 3, 1, 1)
        self.second = conv(channels, channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        # By place: a backend of torch called "second" gives every module a method of that name.
        first, second = self.children()
        found: Tensor = x + second(torch.relu(first(torch.relu(x))))
        return found


class Impala(Convolutional):
    """The residual network of Espeholt et al. 2018 (16, 32, 32 channels), any image size."""

    name, widths = "impala", (16, 32, 32)

    def __init__(self, space: spaces.Box) -> None:
        super().__init__(space, 256)

    def layers(self, channels: int) -> list[nn.Module]:
        """Three stages of a convolution, pooling and two residual blocks."""
        layers: list[nn.Module] = []
        for width in self.widths:
            pool = nn.MaxPool2d(3, stride=2, padding=1)
            layers += [conv(channels, width, 3, 1, 1), pool, _Residual(width), _Residual(width)]
            channels = width
        return [*layers, nn.ReLU()]


class WideImpala(Impala):
    """The same with twice the channels."""

    name, widths = "impala-2x", (32, 64, 64)


class WidestImpala(Impala):
    """The same with four times the channels."""

    name, widths = "impala-4x", (64, 128, 128)


class Grid(Convolutional):
    """Two 3 by 3 convolutions and a linear layer: boards and small grids."""

    name = "grid"

    def __init__(self, space: spaces.Box) -> None:
        super().__init__(space, 128)

    def layers(self, channels: int) -> list[nn.Module]:
        """Two convolutions that keep the size."""
        return [conv(channels, 32, 3, 1, 1), nn.ReLU(), conv(32, 32, 3, 1, 1), nn.ReLU()]
