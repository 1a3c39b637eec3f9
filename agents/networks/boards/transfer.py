"""Weights of an earlier network for a new one: of the same shape, or of the trunk they share.

Tensors go by name. What depends on the board or the moves (heads, mostly) may have another shape
and then stays fresh; of blocks both have to have the same ones, so that a network of another width,
depth or kind is not begun from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from playout.agents.networks.boards.network import BoardNetwork
from playout.agents.networks.boards.registry import restore_network
from playout.agents.networks.boards.smaller.held import PLAIN, plain_state
from playout.errors import ConfigError
from torch import Tensor, nn

LEAST_SHARE = 0.5  # of all tensors, besides all of the blocks, that have to fit


def _blocks(names: Iterable[str]) -> set[str]:
    """Those of the blocks, which make a trunk; a network of one's own has no such names."""
    return {name for name in names if name.startswith("blocks.")}


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
        weights: a network's `state_dict`; of codes their plain numbers are taken ...
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
    if description.get("weights", PLAIN) != PLAIN:
        weights = _without_codes(weights, description, where)
    mine = net.state_dict()
    fitting = {
        name: tensor
        for name, tensor in weights.items()
        if name in mine and mine[name].shape == tensor.shape
    }
    both = _blocks(mine) | _blocks(weights)
    unfit = sorted(both - fitting.keys())  # heads know the features of their own last block
    if not unfit and len(fitting) < LEAST_SHARE * len(mine):
        unfit = [name for name in mine if name not in fitting]
    if unfit:
        other = unfit[0]
        there, here = (
            tuple(side[other].shape) if other in side else "not there" for side in (weights, mine)
        )
        raise ConfigError(
            f"the network of {where} cannot be begun from: {other} is {there} there and {here} "
            "here; its width, depth and kind have to be equal"
        )
    with torch.no_grad():
        for name, tensor in fitting.items():
            mine[name].copy_(tensor)
    return [name for name in mine if name not in fitting]


def _without_codes(
    weights: Mapping[str, Tensor], description: Mapping[str, Any], where: object
) -> dict[str, Tensor]:
    """What the codes of a network stand for, by the names of plain weights."""
    held = restore_network(description, where)
    held.load_state_dict(weights)
    assert isinstance(held, nn.Module)
    return plain_state(held)
