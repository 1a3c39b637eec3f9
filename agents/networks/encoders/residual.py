"""A residual network with batch normalisation, for classes of pictures (He et al. 2016, "v2").

Normalisation before each convolution lets it learn from few passes what networks without need many
for. Where batches follow a policy that changes with them, as in PPO, its statistics stand still
(actor_critic.py).
"""

import torch
from gymnasium import spaces
from playout.agents.networks.encoders.images import Convolutional
from torch import Tensor, nn


def _plain(num_in: int, num_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution before a normalisation, which makes its bias good for nothing."""
    layer = nn.Conv2d(num_in, num_out, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer


class Block(nn.Module):
    """Normalisation, ReLU and convolution, twice, added to what came in.

    Args:
        num_in: Channels that come in ...
        num_out: ... and go out.
        stride: Of the first convolution.
    """

    def __init__(self, num_in: int, num_out: int, stride: int) -> None:
        super().__init__()
        self.first_norm = nn.BatchNorm2d(num_in)
        self.first_conv = _plain(num_in, num_out, 3, stride)
        self.second_norm = nn.BatchNorm2d(num_out)
        self.second_conv = _plain(num_out, num_out, 3)
        alike = num_in == num_out and stride == 1
        self.shortcut = None if alike else _plain(num_in, num_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, num_in, H, W]` to `[N, num_out, H / stride, W / stride]`, rounded up."""
        y = torch.relu(self.first_norm(x))
        kept = x if self.shortcut is None else self.shortcut(y)
        y = self.second_conv(torch.relu(self.second_norm(self.first_conv(y))))
        found: Tensor = kept + y
        return found


class PictureResNet(Convolutional):
    """A convolution, pooling, and three stages of a block each."""

    name, widths = "resnet-8", (48, 96, 192)

    def __init__(self, space: spaces.Box) -> None:
        super().__init__(space, 256)

    def layers(self, channels: int) -> list[nn.Module]:
        """Seven convolutions; with the linear layer behind them eight."""
        width = self.widths[0]
        found: list[nn.Module] = [_plain(channels, width, 3), nn.MaxPool2d(3, 2, 1)]
        for stage, wider in enumerate(self.widths):
            found.append(Block(width, wider, 2 if stage else 1))
            width = wider
        return [*found, nn.BatchNorm2d(width), nn.ReLU()]
