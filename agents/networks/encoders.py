"""Encoders: from an observation of any Gymnasium space to one feature vector.

Vectors and numbers are flattened (discrete ones as one-hot), images go through a convolutional
network (Nature, IMPALA, or a small one for grids), dictionaries through one encoder a key. Scaling
of pixels happens here, so that rollouts keep bytes. Running normalisation of vectors belongs to
vector/normalize.py.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from gymnasium import spaces
from playout.agents.networks.config import BOARD_NETWORKS
from playout.agents.networks.policy import Tree
from playout.envs.game_text import read
from playout.errors import ConfigError
from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "elu": functional.elu,
}


def linear(num_in: int, num_out: int, gain: float) -> nn.Linear:
    """A linear layer with orthogonal weights of the given gain and no bias at first."""
    layer = nn.Linear(num_in, num_out)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def conv(num_in: int, num_out: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    """A convolution with orthogonal weights."""
    layer = nn.Conv2d(num_in, num_out, kernel, stride, padding)
    nn.init.orthogonal_(layer.weight, math.sqrt(2.0))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class MLP(nn.Module):
    """Linear layers with an activation after each; without `sizes` it is the identity."""

    def __init__(self, num_inputs: int, sizes: tuple[int, ...], activation: str) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            known = ", ".join(sorted(ACTIVATIONS))
            raise ConfigError(f"unknown activation {activation!r}; known are {known}")
        self.activation = ACTIVATIONS[activation]
        widths = (num_inputs, *sizes)
        self.layers: Any = nn.ModuleList(
            linear(a, b, math.sqrt(2.0)) for a, b in itertools.pairwise(widths)
        )
        self.num_features = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """`[..., num_inputs]` to `[..., num_features]`."""
        for layer in self.layers:
            x = self.activation(functional.linear(x, layer.weight, layer.bias))
        return x


class Flat(nn.Module):
    """Vectors as they are, discrete observations as one-hot, everything in one float row."""

    def __init__(self, space: spaces.Space[Any]) -> None:
        super().__init__()
        self.num_features = spaces.flatdim(space)
        self.nvec: list[int] = []
        self.start: Tensor | None
        start: Tensor | None = None
        self.plain = isinstance(space, spaces.Box) and len(space.shape) == 1
        self.floats = isinstance(space, spaces.Box) and space.dtype == "float32"
        if isinstance(space, spaces.Discrete):
            self.nvec, start = [int(space.n)], torch.tensor([int(space.start)])
        elif isinstance(space, spaces.MultiDiscrete):
            self.nvec = [int(n) for n in space.nvec.reshape(-1)]
            start = torch.as_tensor(space.start.reshape(-1).astype("int64"))
        # Moves with the network; no part of its state.
        self.register_buffer("start", start, persistent=False)

    def forward(self, obs: Tensor) -> Tensor:
        """`[N, ...]` to `[N, num_features]`."""
        if self.start is not None:
            digits = obs.reshape(obs.shape[0], -1).long() - self.start
            columns = [functional.one_hot(digits[:, i], n) for i, n in enumerate(self.nvec)]
            return torch.cat(columns, dim=1).float()
        if self.plain and obs.dtype == torch.float32:
            return obs
        return obs.reshape(obs.shape[0], -1).float()


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


def channels_last(space: spaces.Box) -> bool:
    """Whether a three-dimensional box looks like `[H, W, C]` rather than `[C, H, W]`."""
    if len(space.shape) != 3:
        return False
    first, _, last = space.shape
    return last < first and last <= 4


class Convolutional(nn.Module):
    """Convolutions over images and a linear layer; subclasses say which, and what to call them."""

    name: str

    def __init__(self, space: spaces.Box, num_features: int) -> None:
        super().__init__()
        self.images = Images(space)
        self.convs = nn.Sequential(*self.layers(self.images.shape[0]), nn.Flatten())
        with torch.no_grad():
            width = int(self.convs(torch.zeros(1, *self.images.shape)).shape[1])
        self.out = linear(width, num_features, math.sqrt(2.0))
        self.num_features = num_features

    def layers(self, channels: int) -> list[nn.Module]:
        """Layers over float images `[N, channels, H, W]`."""
        raise NotImplementedError

    def forward(self, obs: Tensor) -> Tensor:
        """`[N, ...]` to `[N, num_features]`."""
        return torch.relu(self.out(self.convs(self.images(obs))))


class Nature(Convolutional):
    """The convolutional network of Mnih et al. 2015, for screens of at least 36 by 36."""

    name = "nature"

    def __init__(self, space: spaces.Box) -> None:
        if min(Images(space).shape[1:]) < 36:
            raise ConfigError(
                f"the Nature network needs images of 36 x 36 or more, not "
                f'{Images(space).shape[1:]}; use network="impala" or "grid"'
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


class Combined(nn.Module):
    """One encoder for each key of a dictionary, features side by side in the order of the keys."""

    def __init__(self, space: spaces.Dict, network: str) -> None:
        super().__init__()
        self.keys = list(space.spaces)
        self.parts = nn.ModuleList(build_encoder(space.spaces[key], network) for key in self.keys)
        parts: Any = self.parts
        self.num_features: int = sum(part.num_features for part in parts)

    def forward(self, obs: Mapping[str, Tree]) -> Tensor:
        """A dictionary of `[N, ...]` to `[N, num_features]`."""
        features = [part(obs[key]) for key, part in zip(self.keys, self.parts, strict=True)]
        return torch.cat(features, dim=-1)


_IMAGE_NETWORKS: Mapping[str, Callable[[spaces.Box], nn.Module]] = {
    one.name: one for one in (Nature, Impala, WideImpala, WidestImpala, Grid)
}


def check_network(network: str) -> None:
    """Refuses what names no encoder, also where vectors are seen and none is looked up.

    Raises:
        ConfigError: no such network; the line names those that there are.
    """
    if network not in ("auto", "mlp", *_IMAGE_NETWORKS) and not network.startswith("stack("):
        known = ", ".join(["auto", "mlp", *_IMAGE_NETWORKS])
        raise ConfigError(
            f"unknown network {network!r}; known are {known}, of games "
            f"{' and '.join(BOARD_NETWORKS)}, or your own as module:Class"
        )


def build_encoder(space: spaces.Space[Any], network: str = "auto") -> nn.Module:
    """The encoder for one observation space; it has an attribute `num_features`.

    Args:
        space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of them.
        network: "mlp" flattens everything; "nature", "impala", "impala-2x", "impala-4x", "grid" and
            "stack(...)" treat boxes of two or three dimensions as images; "auto" takes Nature for
            byte images of at least 36 by 36 and grid for smaller ones.
    """
    if isinstance(space, spaces.Dict):
        return Combined(space, network)
    if not isinstance(
        space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
    ):
        raise ConfigError(
            f"observations of type {type(space).__name__} are not supported; "
            "wrap the environment so that it gives Box, Discrete, MultiDiscrete, MultiBinary, Dict"
        )
    image = (
        isinstance(space, spaces.Box) and len(space.shape) in (2, 3) and min(space.shape[-2:]) > 0
    )
    if not image or network == "mlp":
        return Flat(space)
    assert isinstance(space, spaces.Box)
    if network == "auto":
        if len(space.shape) == 2 and space.dtype != "uint8":
            return Flat(space)
        height, width = Images(space).shape[1:]
        network = "nature" if min(height, width) >= 36 else "grid"
    if network.startswith("stack("):
        return Stack(space, network)
    check_network(network)
    return _IMAGE_NETWORKS[network](space)


def take_encoder(encoder: nn.Module, weights: Mapping[str, Tensor], *, where: object) -> None:
    """Gives an encoder the weights of a pretrained one.

    Raises:
        ConfigError: a layer is missing, or has another shape; it is named.
    """
    mine = encoder.state_dict()
    for name, tensor in mine.items():
        theirs = weights.get(name)
        if theirs is None or theirs.shape != tensor.shape:
            shape = "not there" if theirs is None else tuple(theirs.shape)
            raise ConfigError(
                f"the trunk of {where} does not fit: {name} is {tuple(tensor.shape)} here and "
                f"{shape} there; use the same kind of network and the same size of pictures"
            )
    encoder.load_state_dict({name: weights[name] for name in mine})
