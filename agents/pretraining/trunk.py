"""Trunks: the part of a network that every way of learning shares, for pictures and for boards.

A picture's trunk is the encoder that PPO sees screens with (networks/encoders/), a board's is the
network of self-play (networks/boards/), so that what was pretrained is what they begin from, and
what they have learned is read as it is (`trunk_of`). Heads belong to objectives. Left out: vectors,
which have nothing to pretrain on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from playout.agents.networks.actor_critic import ActorCritic
from playout.agents.networks.boards.heads import pooled
from playout.agents.networks.boards.policy import BoardPolicy
from playout.agents.networks.boards.registry import first_line, new_network, restore_network
from playout.agents.networks.boards.resnet import ResNet
from playout.agents.networks.boards.smaller.held import plain_copy
from playout.agents.networks.boards.smaller.narrowed import narrowed
from playout.agents.networks.boards.transfer import take_weights
from playout.agents.networks.boards.transformer import BoardTransformer
from playout.agents.networks.boards.trunk import trunk_modules, trunk_parameters
from playout.agents.networks.encoders.choice import (
    IMAGE_NETWORKS,
    build_encoder,
    take_encoder,
    unlike_pictures,
)
from playout.agents.networks.encoders.images import Convolutional
from playout.agents.ppo.player import load as load_policy
from playout.agents.pretraining.data.dataset import Dataset
from playout.agents.pretraining.data.positions import Positions
from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import DEFAULT_MACHINE
from playout.errors import CheckpointError, ConfigError
from torch import Tensor, nn

PICTURE_NETWORKS = tuple(IMAGE_NETWORKS)
BOARDS = (ResNet, BoardTransformer)
"""Networks of boards whose trunk is known; of one's own nobody can tell it from the heads."""


class Trunk(nn.Module):
    """A network without the heads of any task.

    Attributes:
        net: the encoder or the board network itself.
        network: its name, "resnet" or "transformer" of a board.
        shape: `(C, H, W)` of a picture.
        num_features: length of `vector`.
        map_shape: `(F, h, w)` of `map`.
    """

    def __init__(self, net: nn.Module, shape: tuple[int, int, int], network: str) -> None:
        super().__init__()
        self.net, self.shape, self.network = net, shape, network
        training = net.training
        with torch.no_grad():
            blank = torch.zeros(1, *shape, device=next(net.parameters()).device)
            net.eval()
            self.map_shape = tuple(self.map(blank).shape[1:])
            self.num_features = int(self.vector(blank).shape[1])
            net.train(training)

    def map(self, images: Tensor) -> Tensor:
        """`[N, C, H, W]` in [0, 1] to features by place, `[N, F, h, w]`."""
        if isinstance(self.net, BOARDS):
            return self.net.trunk(images)
        assert isinstance(self.net, Convolutional)
        return self.net.convs[:-1](self.net.images(images))  # type: ignore[no-any-return]

    def vector(self, images: Tensor) -> Tensor:
        """`[N, C, H, W]` in [0, 1] to one vector each, `[N, num_features]`."""
        if isinstance(self.net, BOARDS):
            found = self.map(images)
            return pooled(found)
        return self.net(images)  # type: ignore[no-any-return]

    def begun(self, fresh: Collection[str] = ()) -> list[str]:
        """Names of the parameters of `net` that an earlier trunk has taught.

        Args:
            fresh: names of what it has not, as `begin_from` tells them.
        """
        if isinstance(self.net, BOARDS):
            return trunk_parameters(self.net, fresh=fresh)
        return [name for name, _ in self.net.named_parameters()]

    def below_heads(self) -> list[nn.Module]:
        """The modules of `net` without those of its heads."""
        return list(trunk_modules(self.net)) if isinstance(self.net, BOARDS) else [self.net]

    def description(self) -> dict[str, Any]:
        """Plain data from which `restore_trunk` makes such a trunk; a board's is its network's."""
        if isinstance(self.net, BOARDS):
            return self.net.config.to_dict()
        return {"encoder": self.network, "shape": list(self.shape)}


def _is_encoder(name: object) -> bool:
    return name in PICTURE_NETWORKS or (isinstance(name, str) and name.startswith("stack("))


def _box(shape: tuple[int, int, int]) -> spaces.Box:
    return spaces.Box(0.0, 1.0, shape, np.float32)


def new_trunk(data: Dataset, *, network: str = "auto", size: str = "base", seed: int = 0) -> Trunk:
    """A fresh trunk for some data.

    Args:
        data: what it is to see.
        network: of pictures "impala", "impala-2x", "impala-4x", "resnet-8", "grid", "nature",
            "stack(...)" or "auto" (impala-2x); of positions "resnet" or "auto".
        size: of a board's network, as for self-play.
        seed: the same seed gives the same weights.

    Raises:
        ConfigError: no such network for this data.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(data, Positions):
            if network not in ("auto", "resnet"):
                raise ConfigError(f"positions are learned by a resnet, not by {network!r}")
            net = new_network(data.game, size, seed=seed)
            assert isinstance(net, ResNet)
            return Trunk(net, data.shape, "resnet")
        name = "impala-2x" if network == "auto" else network
        if not _is_encoder(name):
            known = ", ".join(("auto", *PICTURE_NETWORKS))
            raise ConfigError(f"unknown network {name!r} for pictures; known are {known}")
        if min(data.shape[1:]) < 8:
            raise ConfigError(f"pictures of {data.shape[1:]} are too small; 8 x 8 is the least")
        return Trunk(build_encoder(_box(data.shape), name), data.shape, name)


def restore_trunk(description: Mapping[str, Any], where: object) -> Trunk:
    """A trunk of the shape that `Trunk.description` told; its weights are arbitrary.

    Raises:
        CheckpointError: that is no such description.
    """
    try:
        if "encoder" not in description:
            net = restore_network(description, where)
            if isinstance(net, BOARDS):
                return _of_board(net)
            raise ConfigError("a network of one's own, which may be cut anywhere")
        network = description["encoder"]
        channels, height, width = (int(n) for n in description["shape"])
        if not _is_encoder(network):
            raise ValueError(f"encoder {network!r}")
        shape = channels, height, width
        return Trunk(build_encoder(_box(shape), network), shape, network)
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{where} does not describe a trunk: {error}") from None


def without_channels(trunk: Trunk, share: float) -> Trunk:
    """A trunk of positions whose blocks lack that share of their inner channels, see `narrowed`."""
    assert isinstance(trunk.net, ResNet)
    return Trunk(narrowed(trunk.net, share), trunk.shape, trunk.network)


def _of_board(net: ResNet | BoardTransformer) -> Trunk:
    name = "resnet" if isinstance(net, ResNet) else "transformer"
    return Trunk(net, net.config.obs_shape, name)


def learned_trunk(state: Mapping[str, Any], where: object) -> Trunk:
    """The trunk with its weights, from "network" and "model" of a checkpoint.

    Raises:
        CheckpointError: they are no trunk, or do not fit each other.
    """
    trunk = restore_trunk(state["network"], where)
    try:
        trunk.net.load_state_dict(state["model"])
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(f"{where} does not hold such a trunk: {first_line(error)}") from None
    return trunk


def trunk_of(run: RunDir, which: str | int = "best") -> Trunk:
    """The trunk that a run has learned, on the processor; of few bits their plain numbers.

    Args:
        run: of pretrain-trunk, alphazero or ppo. Of ppo it is the policy's encoder of pictures, or
            of planes of a board, without memory and layers above it; or its board network.
        which: "best", "latest" or the number of a checkpoint.

    Raises:
        ConfigError: a run of another kind, or whose network has no such trunk. CheckpointError: it
            is damaged.
    """
    if run.kind in ("pretrain-trunk", "alphazero"):
        _, state = run.load(which, only=("model", "network"))
        trunk = learned_trunk(state, run.path)
        return _of_board(plain_copy(trunk.net)) if isinstance(trunk.net, BOARDS) else trunk
    if run.kind != "ppo":
        raise ConfigError(
            f"trunks are those of pretrain-trunk, alphazero and ppo; {run.path} is a run of "
            f"{run.kind}"
        )
    if ":" in str(run.config.get("network", {}).get("network", "")):
        raise ConfigError(f"{run.path} holds a network of one's own, which may be cut anywhere")
    player = load_policy(run, which, machine=replace(DEFAULT_MACHINE, device="cpu"))
    policy = player.policy
    if isinstance(policy, BoardPolicy) and isinstance(policy.net, BOARDS):
        return _of_board(policy.net)
    encoder = policy.policy_trunk.encoder if isinstance(policy, ActorCritic) else policy
    if not isinstance(encoder, Convolutional):
        raise ConfigError(f"{run.path} has learned no pictures, so it has no trunk that sees them")
    if player.normalizer is not None and player.normalizer.moments:
        raise ConfigError(f"{run.path} has learned pictures that --normalize-obs has changed")
    # The same encoder for pictures in [0, 1]: that of bytes, or with channels last, reads others.
    channels, height, width = encoder.images.shape
    shape = channels, height, width
    found = Trunk(build_encoder(_box(shape), encoder.name), shape, encoder.name)
    take_encoder(found.net, encoder.state_dict(), where=run.path)
    return found


def begin_from(trunk: Trunk, begun: Trunk, where: object) -> list[str]:
    """Gives a trunk the weights of an earlier one, which stays as it is.

    Args:
        trunk: gets them, in place.
        begun: as `trunk_of` has it.
        where: its run, in errors.

    Returns:
        The names of the tensors of `net` that stay as they were, since there they have another
        shape.

    Raises:
        ConfigError: it is of another kind, or of another shape.
    """
    if isinstance(trunk.net, BOARDS) and isinstance(begun.net, BOARDS):
        if trunk.network != begun.network:
            raise ConfigError(
                f"positions are learned by a {trunk.network}, and {where} holds a {begun.network}"
            )
        weights, description = begun.net.state_dict(), begun.description()
        return take_weights(trunk.net, weights, description=description, where=where)
    if isinstance(trunk.net, BOARDS):
        raise ConfigError(f"{where} has learned pictures; a game begins with a trunk of positions")
    if isinstance(begun.net, BOARDS):
        raise ConfigError(
            f"{where} has learned positions of a game; pictures begin with a trunk of pictures"
        )
    try:
        take_encoder(trunk.net, begun.net.state_dict(), where=where)
    except ConfigError:
        if begun.shape == trunk.shape:
            raise
        raise unlike_pictures(trunk.shape, begun.shape, where=where) from None
    return []
