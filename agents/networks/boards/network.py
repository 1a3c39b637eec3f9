"""`BoardNetwork`: what a network of a board game owes to learning, self-play, play and export.

Shapes: `M` positions, `C` planes of `H` rows and `W` columns, `A` actions, `P` players; values are
`[M]` for the side to move, or `[M, P]` where there are more than two players, or two whose results
do not add up to zero. A network is a torch module besides; what is used of that is listed. `Tuning`
is what a network may declare of itself, `NetworkCopy` an inference network that any module can
have. Left out: which classes there are (registry.py), and networks of environments
(actor_critic.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import torch
from playout.agents.networks.boards.smaller.held import plain_copy, plain_state
from playout.errors import ConfigError
from torch import Tensor, nn

Board = tuple[int, int, int]
"""Rows, columns and actions of a board."""


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

    def to_dict(self) -> dict[str, Any]:
        """Plain data from which `restore_network` (registry.py) makes such a network."""


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

    def inference_copy(self, *, dtype: torch.dtype, device: torch.device) -> InferenceNetwork:
        """A copy with today's weights that answers fast; it shares no memory with the network."""

    # What every torch module has.

    def parameters(self) -> Iterator[nn.Parameter]:
        """All weights, in a fixed order."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The same with their names."""

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """All modules with their names, its own first."""

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

    def to(self, device: torch.device) -> Self:
        """Moves to a device in place."""

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Switches gradients of all weights on or off."""


@runtime_checkable
class AuxiliaryNetwork(Protocol):
    """A network that can also learn what finished games teach besides their results."""

    def all_heads(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """As `heads`, then logits of target planes [M, T, H, W] and scores [M] a cell, or None."""


@runtime_checkable
class SizedNetwork(Protocol):
    """A network that answers boards of several sizes."""

    def on_board(self, obs_shape: tuple[int, int, int], num_actions: int) -> BoardNetwork:
        """The network for one of its boards, sharing all weights; ConfigError for another one."""


def on_board(net: BoardNetwork, obs_shape: tuple[int, int, int], num_actions: int) -> BoardNetwork:
    """The same network, sharing its weights, for a board of this shape.

    Raises:
        ConfigError: it answers no such board.
    """
    if net.config.obs_shape == obs_shape and net.config.num_actions == num_actions:
        return net
    if isinstance(net, SizedNetwork):
        return net.on_board(obs_shape, num_actions)
    raise ConfigError(f"the network was not made for boards of {obs_shape[1]} x {obs_shape[2]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What a network says of itself to those who train it and ask it.

    Attributes:
        rate_scale: times the configured learning rate; that one suits a small residual network,
            whose normalisations bear long steps.
        activation_size: numbers of the largest activation of one position; it decides how many
            positions fit into a processor's cache. 0: unknown.
        matrices: names of the weights besides convolutions that Muon may make orthogonal: those of
            matrices between hidden layers.
        heads: names of the modules, or weights, that read the trunk: all that is not trunk. Without
            any, a trunk cannot be told from them.
    """

    rate_scale: float = 0.1
    activation_size: int = 0
    matrices: Collection[str] = ()
    heads: Collection[str] = ()


@runtime_checkable
class TunedNetwork(Protocol):
    """A network that declares its tuning; the others get the careful values of `Tuning`."""

    @property
    def tuning(self) -> Tuning:
        """What it says of itself."""


def tuning_of(network: BoardNetwork) -> Tuning:
    """What a network declares, or the defaults."""
    return network.tuning if isinstance(network, TunedNetwork) else Tuning()


class NetworkCopy(nn.Module):
    """The inference network of any module: a copy in another dtype, refreshed in place.

    Args:
        net: a `BoardNetwork`.
        dtype: of its weights and inputs.
        device: where it answers.
    """

    def __init__(self, net: nn.Module, *, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.net = plain_copy(net).eval().requires_grad_(False).to(device=device, dtype=dtype)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [M, A] and values, both float32."""
        logits, values = self.net(obs)
        return logits.float(), values.float()

    @torch.no_grad()
    def refresh(self, net: BoardNetwork) -> None:
        """Copies the weights and statistics of such a network in place."""
        assert isinstance(net, nn.Module)
        theirs = plain_state(net)
        for name, mine in self.net.state_dict().items():
            mine.copy_(theirs[name])


def squash(value_logits: Tensor, num_values: int) -> Tensor:
    """Value logits [M, V] to values in [-1, 1]: [M], or [M, P] with more than two players."""
    values = torch.tanh(value_logits.float() * 0.5)
    return values[:, 0] if num_values == 1 else values


def values_for(num_players: int, zero_sum: bool) -> int:
    """How many values a position has: 1 where the side to move's says all, else one a player."""
    return 1 if num_players == 1 or (num_players == 2 and zero_sum) else num_players
