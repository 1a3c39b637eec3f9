"""Vectors and numbers: flattened, discrete ones as one-hot, and linear layers over them.

Running normalisation of vectors belongs to vector/normalize.py.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from gymnasium import spaces
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
