"""A stack of convolutions with a switch for each remedy against vanishing gradients.

What studies of depth compare (benchmarks/studies/ablations.py): residual connections,
normalisation, first weights, dropout.
"""

import math
from typing import Any

import torch
from gymnasium import spaces
from playout.agents.networks.encoders.images import Convolutional
from playout.envs.game_text import read
from playout.errors import ConfigError
from torch import Tensor, nn

NORMS = ("none", "batch", "layer")
INITS = ("he", "glorot", "small", "large")
_STACK: dict[str, Any] = {
    "depth": 8,
    "width": 32,
    "residual": False,
    "norm": "none",
    "init": "he",
    "dropout": 0.0,
}


class Layer(nn.Module):
    """Convolution, normalisation, ReLU, dropout; with what came in added if it is residual.

    Each remedy against vanishing gradients is a switch of `Stack`: residual connections (He et al.
    2016), normalisation, the size of the first weights (Glorot and Bengio 2010, He et al. 2015).
    """

    def __init__(self, channels: int, width: int, options: dict[str, Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1)
        norm: nn.Module = nn.Identity()
        if options["norm"] == "batch":
            norm = nn.BatchNorm2d(width)
        elif options["norm"] == "layer":
            norm = nn.GroupNorm(1, width)
        self.norm, self.drop = norm, nn.Dropout(options["dropout"])
        self.residual = bool(options["residual"]) and channels == width
        fan = channels * 9
        deviation = {
            "he": math.sqrt(2 / fan),
            "glorot": math.sqrt(2 / (fan + width * 9)),
            "small": 0.01,
            "large": 2 * math.sqrt(2 / fan),
        }[options["init"]]
        nn.init.normal_(self.conv.weight, std=deviation)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, H, W]` to `[N, width, H, W]`."""
        y = self.drop(torch.relu(self.norm(self.conv(x))))
        return x + y if self.residual else y


class Stack(Convolutional):
    """`depth` layers of one width over images, halved in size after the first, and features of 64.

    Args:
        space: of images.
        text: "stack(depth=8, width=32, residual=false, norm=none|batch|layer,
            init=he|glorot|small|large, dropout=0)"; what is left out is as here.

    Raises:
        ConfigError: an unknown option, or a value that it cannot have.
    """

    def __init__(self, space: spaces.Box, text: str) -> None:
        _, given = read(text)
        for key in given:
            if key not in _STACK:
                known = ", ".join(_STACK)
                raise ConfigError(f"a stack has no option {key!r}; it takes {known}")
        self.name, self.options = text, {**_STACK, **given}
        options = self.options
        for key, allowed in (("norm", NORMS), ("init", INITS)):
            if options[key] not in allowed:
                raise ConfigError(f"a stack's {key} is one of {', '.join(allowed)}")
        for key in ("depth", "width"):
            if not isinstance(options[key], int) or not 1 <= options[key] <= 512:
                raise ConfigError(f"a stack's {key} is a number from 1 to 512")
        if options["residual"] not in (True, False):
            raise ConfigError("a stack's residual is true or false")
        if not isinstance(options["dropout"], int | float) or not 0 <= options["dropout"] < 1:
            raise ConfigError("a stack's dropout is a number from 0 to less than 1")
        super().__init__(space, 64)

    def layers(self, channels: int) -> list[nn.Module]:
        """The first layer, pooling, and all others."""
        found: list[nn.Module] = []
        for index in range(self.options["depth"]):
            found.append(Layer(channels, self.options["width"], self.options))
            channels = self.options["width"]
            if index == 0:
                found.append(nn.AvgPool2d(2))
        return found
