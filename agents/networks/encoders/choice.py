"""Which encoder an observation space gets: by its name, or what suits it.

Vectors and numbers are flattened, images go through a convolutional network, dictionaries through
one encoder a key.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from gymnasium import spaces
from playout.agents.networks.config import BOARD_NETWORKS
from playout.agents.networks.encoders.images import Images
from playout.agents.networks.encoders.published import (
    Grid,
    Impala,
    Nature,
    WideImpala,
    WidestImpala,
)
from playout.agents.networks.encoders.residual import PictureResNet
from playout.agents.networks.encoders.stack import Stack
from playout.agents.networks.encoders.vectors import Flat
from playout.agents.networks.policy import Tree
from playout.errors import ConfigError
from torch import Tensor, nn


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


IMAGE_NETWORKS: Mapping[str, Callable[[spaces.Box], nn.Module]] = {
    one.name: one for one in (Nature, Impala, WideImpala, WidestImpala, PictureResNet, Grid)
}


def check_network(network: str) -> None:
    """Refuses what names no encoder, also where vectors are seen and none is looked up.

    Raises:
        ConfigError: no such network; the line names those that there are.
    """
    if network not in ("auto", "mlp", *IMAGE_NETWORKS) and not network.startswith("stack("):
        known = ", ".join(["auto", "mlp", *IMAGE_NETWORKS])
        raise ConfigError(
            f"unknown network {network!r}; known are {known}, of games "
            f"{' and '.join(BOARD_NETWORKS)}, or your own as module:Class"
        )


def build_encoder(space: spaces.Space[Any], network: str = "auto") -> nn.Module:
    """The encoder for one observation space; it has an attribute `num_features`.

    Args:
        space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of them.
        network: "mlp" flattens everything; "nature", "impala", "impala-2x", "impala-4x",
            "resnet-8", "grid" and "stack(...)" treat boxes of two or three dimensions as images;
            "auto" takes Nature for byte images of at least 36 by 36 and grid for smaller ones.
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
    return IMAGE_NETWORKS[network](space)


def unlike_pictures(
    here: Sequence[int], learned: Sequence[int], *, where: object, these: str = "these"
) -> ConfigError:
    """What a person is told where pictures are not of the shape that a trunk has learned."""
    ours, theirs = (" x ".join(map(str, shape)) for shape in (here, learned))
    return ConfigError(
        f"{where} has learned pictures of {theirs} (channels, rows, columns) and {these} are "
        f"{ours}: the trunk does not fit"
    )


def take_encoder(encoder: nn.Module, weights: Mapping[str, Tensor], *, where: object) -> None:
    """Gives an encoder the weights of a pretrained one.

    Raises:
        ConfigError: a layer is missing, or has another shape; it is named.
    """
    mine = encoder.state_dict()
    for name, tensor in mine.items():
        theirs = weights.get(name)
        if theirs is None or theirs.shape != tensor.shape:
            shape = "missing" if theirs is None else tuple(theirs.shape)
            raise ConfigError(
                f"the trunk of {where} does not fit: {name} is {tuple(tensor.shape)} here and "
                f"{shape} there; use the same kind of network and the same size of pictures"
            )
    encoder.load_state_dict({name: weights[name] for name in mine})
