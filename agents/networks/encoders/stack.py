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
    "preactivation": False,
}


def _norm(name: str, channels: int) -> nn.Module:
    if name == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(1, channels) if name == "layer" else nn.Identity()


class Layer(nn.Module):
    """Convolution, normalisation, ReLU, dropout; with what came in added if it is residual.

    Each remedy against vanishing gradients is a switch of `Stack`: residual connections (He et al.
    2016), normalisation, the size of the first weights (Glorot and Bengio 2010, He et al. 2015).
    With preactivation normalisation and ReLU come before the convolution, so that what is added may
    have either sign (He et al. 2016, "Identity mappings"); the first layer is a convolution alone.
    """

    def __init__(self, channels: int, width: int, options: dict[str, Any], *, first: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1)
        self.residual = bool(options["residual"]) and channels == width
        self.before = bool(options["preactivation"])
        self.alone = self.before and first
        normalised = channels if self.before else width
        self.norm = nn.Identity() if self.alone else _norm(options["norm"], normalised)
        self.drop = nn.Dropout(options["dropout"])
        fan = channels * 9
        deviation = {
            "he": math.sqrt(2 / fan),
            "glorot": math.sqrt(2 / (fan + width * 9)),
            "small": 0.01,
            "large": 2 * math.sqrt(2 / fan),
        }[options["init"]]
        if self.before and self.residual:  # as many are added up
            deviation /= math.sqrt(options["depth"])
        nn.init.normal_(self.conv.weight, std=deviation)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, H, W]` to `[N, width, H, W]`."""
        if self.alone:
            y = self.conv(x)
        elif self.before:
            y = self.conv(torch.relu(self.norm(x)))
        else:
            y = torch.relu(self.norm(self.conv(x)))
        y = self.drop(y)
        return x + y if self.residual else y


class Stack(Convolutional):
    """`depth` layers of one width over images, halved in size after the first, and features of 64.

    Args:
        space: of images.
        text: "stack(depth=8, width=32, residual=false, norm=none|batch|layer,
            init=he|glorot|small|large, dropout=0, preactivation=false)"; what is left out is as
            here.

    Raises:
        ConfigError: an unknown option, or a value that it cannot have.
    """

    def __init__(self, space: spaces.Box, text: str) -> None:
        if not text.endswith(")"):
            raise ConfigError(f"a stack is written as stack(depth=8, width=32), not {text!r}")
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
        for key in ("residual", "preactivation"):
            if options[key] not in (True, False):
                raise ConfigError(f"a stack's {key} is true or false")
        if not isinstance(options["dropout"], int | float) or not 0 <= options["dropout"] < 1:
            raise ConfigError("a stack's dropout is a number from 0 to less than 1")
        super().__init__(space, 64)

    def layers(self, channels: int) -> list[nn.Module]:
        """The first layer, pooling, and all others."""
        found: list[nn.Module] = []
        for index in range(self.options["depth"]):
            found.append(Layer(channels, self.options["width"], self.options, first=index == 0))
            channels = self.options["width"]
            if index == 0:
                found.append(nn.AvgPool2d(2))
        if self.options["preactivation"]:
            found += [_norm(self.options["norm"], channels), nn.ReLU()]
        return found
