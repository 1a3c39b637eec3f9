"""Weights of an earlier network for a new one: of the same shape, or of the trunk they share.

Tensors go by name. What depends on the board or the moves (heads, mostly) may have another shape
and then stays fresh; a network of another width, depth or kind shares too little to begin from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from playout.agents.networks.boards.network import BoardNetwork
from playout.errors import ConfigError
from torch import Tensor

LEAST_SHARE = 0.5  # of the tensors that have to fit


def take_weights(
    net: BoardNetwork,
    weights: Mapping[str, Tensor],
    *,
    description: Mapping[str, Any],
    where: object,
) -> list[str]:
    """Copies the weights that fit into a network.

    Args:
        net: gets them, in place.
        weights: a network's `state_dict` ...
        description: ... and its configuration's `to_dict`.
        where: names the source in errors.

    Returns:
        The names of the tensors that stay as they were.

    Raises:
        ConfigError: too little fits: another width or depth, another kind of network, or
            observations of other planes.
    """
    planes = description.get("obs_shape", [net.config.obs_shape[0]])[0]
    if planes != net.config.obs_shape[0]:
        raise ConfigError(
            f"the network of {where} reads {planes} planes and this game shows "
            f"{net.config.obs_shape[0]}: it cannot be begun from"
        )
    mine = net.state_dict()
    fitting = {
        name: tensor
        for name, tensor in weights.items()
        if name in mine and mine[name].shape == tensor.shape
    }
    if len(fitting) < LEAST_SHARE * len(mine):
        other = next(name for name in mine if name not in fitting)
        theirs = tuple(weights[other].shape) if other in weights else "not there"
        raise ConfigError(
            f"the network of {where} cannot be begun from: {other} is {theirs} there and "
            f"{tuple(mine[other].shape)} here; its width, depth and kind have to be equal"
        )
    with torch.no_grad():
        for name, tensor in fitting.items():
            mine[name].copy_(tensor)
    return [name for name in mine if name not in fitting]
