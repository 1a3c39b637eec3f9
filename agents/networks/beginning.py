"""What a run of PPO begins with: the trunk that `--init` names, and settings that follow from it.

A trunk is an encoder of pictures, or the network of a board game with its heads. `settle` says
which network a run has before anything is made, and `Beginning.give` hands the weights over. Left
out: how runs of self-play by search begin with the same trunks (alphazero/settings.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from playout.agents.networks.actor_critic import ActorCritic
from playout.agents.networks.boards.policy import BoardPolicy
from playout.agents.networks.boards.registry import new_network, restore_network, size_of
from playout.agents.networks.boards.transfer import take_weights
from playout.agents.networks.config import BOARD_NETWORKS, NetworkConfig
from playout.agents.networks.encoders.choice import (
    IMAGE_NETWORKS,
    Combined,
    take_encoder,
    unlike_pictures,
)
from playout.agents.networks.encoders.images import Convolutional
from playout.agents.networks.policy import Policy, as_policy
from playout.agents.runs.directory import RunDir
from playout.envs.core.game import NativeGame
from playout.errors import ConfigError
from torch import Tensor, nn

DEFAULT_SIZE = "base"  # as pretrain-trunk has it


def run_to_begin_with(path: str | os.PathLike[str]) -> RunDir:
    """The run that `--init` names.

    Raises:
        ConfigError: Its kind has no trunk that could be begun with.
    """
    run = RunDir.open(path)
    if run.kind not in ("pretrain-trunk", "alphazero"):
        raise ConfigError(
            f"--init takes a run of pretrain-trunk or alphazero; {path} is of kind {run.kind}"
        )
    return run


@dataclass(frozen=True, slots=True)
class Beginning:
    """The trunk of an earlier run.

    Attributes:
        path: The run, as it was named.
        weights: Its tensors by name.
        description: Of its shape, as such runs store it.
    """

    path: str
    weights: Mapping[str, Tensor]
    description: Mapping[str, Any]

    @classmethod
    def read(cls, path: str) -> Self:
        """That of the best checkpoint of a run of pretrain-trunk or alphazero.

        Raises:
            ConfigError: The run is of another kind, or its network is somebody's own.
        """
        _, state = run_to_begin_with(path).load("best", only=("model", "network"))
        found = cls(path, state["model"], state["network"])
        if found.of_board and found.network not in BOARD_NETWORKS:
            raise ConfigError(
                f"--init takes networks of playout's own; that of {path} is {found.network}"
            )
        return found

    @property
    def of_board(self) -> bool:
        """Whether it is the network of a board game."""
        return "encoder" not in self.description

    @property
    def network(self) -> str:
        """Its kind, as --network names it."""
        if self.of_board:
            return str(self.description.get("network", "resnet"))
        return str(self.description["encoder"])

    def give(self, policy: Policy | nn.Module) -> None:
        """Its weights for every trunk of a policy, and for heads where they fit.

        What an optimiser of the policy is to know of them (`BoardPolicy.fresh`) it then tells.

        Raises:
            ConfigError: They do not fit; the line says where.
        """
        policy = as_policy(policy)
        if isinstance(policy, BoardPolicy):
            description, where = self.description, self.path
            policy.fresh = take_weights(
                policy.net, self.weights, description=description, where=where
            )
        elif isinstance(policy, ActorCritic):
            for encoder in policy.init_encoders:
                self._give_encoder(encoder)
        else:
            raise ConfigError("--init begins networks of playout's own; yours has its own weights")
        policy.weights_changed()

    def _give_encoder(self, encoder: nn.Module) -> None:
        learned = tuple(self.description["shape"])
        if not encoder.state_dict():
            raise ConfigError(f"{self.path} has learned pictures, and these observations are none")
        if isinstance(encoder, Combined):
            raise ConfigError(
                f"{self.path} has learned pictures alone, and these observations have parts "
                f"({', '.join(encoder.keys)}): the trunk does not fit"
            )
        if isinstance(encoder, Convolutional) and encoder.images.shape != learned:
            shape, these = encoder.images.shape, "these observations"
            raise unlike_pictures(shape, learned, where=self.path, these=these)
        take_encoder(encoder, self.weights, where=self.path)


def settle(
    config: NetworkConfig,
    *,
    env: str,
    game: NativeGame | None,
    begun: Beginning | None,
    raw: bool = True,
) -> NetworkConfig:
    """The network of a new run, with all that follows from its game and from what it begins with.

    Args:
        config: What the person asks for; where the kind is auto, what a run begins with says it.
        env: What is learned, for errors.
        game: The same as a game of playout's; None if it is none.
        begun: What the run begins with, if anything.
        raw: Whether observations come as they are, not normalised by statistics of the run.

    Raises:
        ConfigError: They do not go together, or the network cannot learn that game.
    """
    kind = config.network
    if kind == "auto" and begun is not None:
        kind = begun.network
    if kind not in BOARD_NETWORKS:
        if begun is not None and begun.of_board:
            raise ConfigError(
                f"{begun.path} holds a {begun.network} of a board game: leave out --network {kind}"
            )
        if config.size:
            raise ConfigError("--size is that of --network resnet or transformer: leave it out")
        if begun is not None and kind != begun.network and kind in ("mlp", *IMAGE_NETWORKS):
            raise ConfigError(
                f"the trunk of {begun.path} does not fit --network {kind}, since it is of "
                f"{begun.network}: leave out --network"
            )
        return replace(config, network=kind, board=None, fresh=())
    if begun is not None and not begun.of_board:
        raise ConfigError(
            f"{begun.path} has learned pictures; a {kind} begins with a trunk of positions"
        )
    if game is None:
        what = f"--network {kind}" if begun is None else f"the {kind} of {begun.path}"
        raise ConfigError(f"{what} is for board games of playout's, and {env} is none")
    if not raw:
        raise ConfigError(f"a {kind} takes boards as they are: leave out --normalize-obs")
    if config.recurrent != "none":
        raise ConfigError(f"a {kind} has no memory: leave out --recurrent {config.recurrent}")
    size, pooling, heads = config.size, False, "auto"
    if begun is not None:
        theirs = restore_network(begun.description, begun.path).config
        size, pooling = size or size_of(theirs), bool(getattr(theirs, "pooling", False))
        same = (theirs.obs_shape, theirs.num_actions) == (game.obs_shape, game.num_actions)
        heads = str(getattr(theirs, "heads", heads)) if same else heads
    size = size or DEFAULT_SIZE
    net = new_network(game, size, network=kind, pooling=pooling, heads=heads)
    if net.config.num_values > 1:
        raise ConfigError(
            f"a {kind} tells one value a player of {game}, and PPO learns that of the side to move "
            "alone: choose another --network"
        )
    fresh: list[str] = []
    if begun is not None:
        fresh = take_weights(net, begun.weights, description=begun.description, where=begun.path)
    board = net.config.to_dict()
    return replace(config, network=kind, size=size, board=board, fresh=tuple(fresh))
