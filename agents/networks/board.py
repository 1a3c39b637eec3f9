"""`BoardNetwork`: what a network of a board game owes to learning, self-play, play and export.

Shapes: `M` positions, `C` planes of `H` rows and `W` columns, `A` actions, `P` players; values are
`[M]` for the side to move, or `[M, P]` where there are more than two players. A network is a torch
module besides; what is used of that is listed. `new_network` and `restore_network` are the only
places that choose a class. Left out: networks of environments (actor_critic.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol, Self

import torch
from playout.agents.networks.resnet import ResNet, ResNetConfig, build
from playout.envs.core.game import NativeGame
from torch import Tensor, nn


class BoardNetworkConfig(Protocol):
    """The shape of a network; two networks of equal configurations can exchange weights."""

    @property
    def obs_shape(self) -> tuple[int, int, int]:
        """`(C, H, W)` of an observation."""

    @property
    def num_actions(self) -> int:
        """A, the length of the policy."""

    @property
    def num_values(self) -> int:
        """Values of a position: 1, or P where there are more than two players."""

    @property
    def channels(self) -> int:
        """Width of the trunk: it scales the learning rate and the rows of a pass on a processor."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data from which `restore_network` makes such a network."""


class InferenceNetwork(Protocol):
    """A copy of a network that only answers, in one dtype on one device.

    It is a torch module, so that a pass can be recorded as one operation. A captured graph stays
    valid because `refresh` writes into the same memory.
    """

    def __call__(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Observations [M, C, H, W] of the copy's dtype to float32 logits [M, A] and values."""

    def refresh(self, net: BoardNetwork) -> None:
        """Copies the weights of a network of the same class and configuration in place."""


class BoardNetwork(Protocol):
    """A module that maps a position's planes to a policy and to values."""

    @property
    def config(self) -> BoardNetworkConfig:
        """Its shape."""

    @property
    def undecayed(self) -> Collection[str]:
        """Names of parameters of more than one dimension that weight decay leaves alone."""

    def __call__(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Observations [M, C, H, W] to policy logits [M, A] and values in [-1, 1]."""

    def heads(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """The same for the loss: logits [M, A], and value logits [M, V] with value tanh(x / 2).

        Under autocast both may be bfloat16.
        """

    def inference_copy(self, *, dtype: torch.dtype, device: str) -> InferenceNetwork:
        """A copy with today's weights that answers fast; it shares no memory with the network."""

    # What every torch module has.

    def parameters(self) -> Iterator[nn.Parameter]:
        """All weights, in a fixed order."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The same with their names."""

    def buffers(self) -> Iterator[Tensor]:
        """What is saved but not learned by gradients, such as running statistics."""

    def state_dict(self) -> dict[str, Any]:
        """Weights and buffers by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Takes over what `state_dict` gave; errors if names or shapes differ."""

    def train(self, mode: bool = True) -> Self:
        """Learns from now on: normalisations use and follow the batch."""

    def eval(self) -> Self:
        """Answers from now on: normalisations use what they have learned."""

    def to(self, device: str) -> Self:
        """Moves to a device in place."""

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Switches gradients of all weights on or off."""


def new_network(
    game: NativeGame, size: str, *, pooling: bool = False, seed: int = 0
) -> BoardNetwork:
    """A fresh network for a game.

    Args:
        game: what it is to play.
        size: "tiny", "small", "medium", "base", "large" or CHANNELSxBLOCKS.
        pooling: global pooling in every second block.
        seed: the same seed gives the same weights.
    """
    return build(
        game.obs_shape,
        game.num_actions,
        size=size,
        num_players=game.num_players,
        pooling=pooling,
        seed=seed,
    )


def restore_network(description: Mapping[str, Any]) -> BoardNetwork:
    """A network of the shape that `BoardNetworkConfig.to_dict` described; weights are arbitrary.

    Raises:
        ConfigError: it is not the description of a network.
    """
    return ResNet(ResNetConfig.from_dict(dict(description)))
