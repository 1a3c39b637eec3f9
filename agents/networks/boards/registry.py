"""The networks that there are, by name: "resnet", "transformer", or a class of your own.

`new_network` makes a fresh one for a game, `restore_network` one from the description that a run
stores. Code that only a file names is imported on the person's word (own_code.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from playout.agents.networks.boards.network import Board, BoardNetwork, BoardNetworkConfig
from playout.agents.networks.boards.own import OwnNetwork, own_network
from playout.agents.networks.boards.resnet import SIZES, ResNet, ResNetConfig, build
from playout.agents.networks.boards.transformer import (
    BoardTransformer,
    BoardTransformerConfig,
    build_transformer,
)
from playout.agents.networks.config import BOARD_NETWORKS
from playout.envs.core.game import NativeGame
from playout.errors import CheckpointError, ConfigError


def new_network(
    game: NativeGame,
    size: str,
    *,
    network: str = "resnet",
    pooling: bool = False,
    heads: str = "auto",
    planes: bool = False,
    scores: bool = False,
    boards: tuple[Board, ...] = (),
    seed: int = 0,
) -> BoardNetwork:
    """A fresh network for a game.

    Args:
        game: what it is to play.
        size: "tiny", "small", "medium", "base", "large" or CHANNELSxBLOCKS.
        network: "resnet", "transformer" or "module:Class", a torch module of your own (own.py).
        pooling: global pooling in every second block of a resnet.
        heads: "linear", "pooled" or "auto" (heads.py), of the built-in ones.
        planes: heads for the game's target planes, of a resnet ...
        scores: ... and for its own score.
        boards: (rows, columns, actions) of further boards, of a resnet with pooled heads.
        seed: the same seed gives the same weights.

    Raises:
        ConfigError: a name, a size or a class that cannot be used; or a module that nobody trusts.
    """
    shape, actions, sides = game.obs_shape, game.num_actions, side_planes(game)
    players = game.num_players
    if (planes or scores) and network != "resnet":
        raise ConfigError(f"network {network!r} cannot learn target planes or scores: a resnet can")
    if boards and network != "resnet":
        raise ConfigError(f"network {network!r} cannot learn boards of several sizes: a resnet can")
    if boards and heads == "auto":
        heads = "pooled"
    if network == "resnet":
        return build(
            shape,
            actions,
            size=size,
            num_players=players,
            zero_sum=game.zero_sum,
            pooling=pooling,
            heads=heads,
            side_planes=sides,
            target_planes=game.target_planes if planes else 0,
            scores=scores,
            boards=boards,
            seed=seed,
        )
    if network == "transformer":
        return build_transformer(
            shape,
            actions,
            size=size,
            num_players=players,
            zero_sum=game.zero_sum,
            heads=heads,
            side_planes=sides,
            seed=seed,
        )
    if ":" not in network:
        raise ConfigError(
            f"network {network!r} is unknown: use {', '.join(BOARD_NETWORKS)} or module:Class"
        )
    return own_network(
        network, shape, actions, size=size, num_players=players, zero_sum=game.zero_sum, seed=seed
    )


def restore_network(
    description: Mapping[str, Any], where: object = "the checkpoint"
) -> BoardNetwork:
    """A network of the shape that `BoardNetworkConfig.to_dict` described; weights are arbitrary.

    Args:
        description: what was stored.
        where: names the source in errors.

    Raises:
        ConfigError: it is not the description of a network, or names code that nobody trusts.
    """
    data = dict(description)
    network = data.pop("network", "resnet")  # networks before there were others have no name
    if network == "resnet":
        return ResNet(ResNetConfig.from_dict(data))
    if network == "transformer":
        return BoardTransformer(BoardTransformerConfig.from_dict(data))
    if not isinstance(network, str) or ":" not in network:
        raise ConfigError(f"{where}: not the description of a network: network is {network!r}")
    return OwnNetwork.restore(network, data, where=where)


def learned_network(state: Mapping[str, Any], path: object, step: int) -> BoardNetwork:
    """The network with its weights, from "network" and "model" of a checkpoint.

    Args:
        state: of the checkpoint.
        path: its run, and ...
        step: ... its number, in errors.

    Raises:
        ConfigError: as `restore_network`. CheckpointError: the weights are of another network.
    """
    net = restore_network(state["network"], path)
    try:
        net.load_state_dict(state["model"])
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"checkpoint {step} of {path} is not such a network: {first_line(error)}"
        ) from None
    return net


def first_line(error: Exception) -> str:
    """An error's message without the lists that follow."""
    return str(error).split("\n", 1)[0]


def size_of(config: BoardNetworkConfig) -> str:
    """The size by which `new_network` makes a resnet or transformer as wide and deep as this."""
    assert isinstance(config, ResNetConfig | BoardTransformerConfig)
    width = config.channels if isinstance(config, ResNetConfig) else config.width
    shape = width, config.blocks, config.head_channels
    names = [name for name, one in SIZES.items() if one == shape]
    whole = names[0] if names else f"{width}x{config.blocks}"
    inner = config.inner if isinstance(config, ResNetConfig) else 0
    return f"{whole}/{inner}" if inner else whole


def side_planes(game: NativeGame) -> tuple[int, int] | None:
    """Where a game's observation shows the side to move (heads.py), None where it does not."""
    planes = game.side_planes
    return planes if planes is not None and max(planes) < game.obs_shape[0] else None
