"""Heads: from features to a distribution over a Gymnasium action space, and to env actions.

Discrete, MultiDiscrete, MultiBinary and Box are covered, and Dict and Tuple of them by a product;
Box by a Gaussian whose deviation is a free parameter or an output, clipped to the bounds or
squashed into them. A head also knows how an
action in a rollout becomes the environment's action (offset, clipping, squashing, type and shape).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from playout.agents.networks.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gaussian,
    MultiCategorical,
    Product,
    SquashedGaussian,
)
from playout.agents.networks.encoders.vectors import linear
from playout.agents.vector.actions import check_action_space, is_composite, leaves
from playout.errors import ConfigError
from torch import Tensor, nn
from torch.nn import functional

_POLICY_GAIN = 0.01


class ActionHead(nn.Module):
    """A linear layer to the parameters of the distribution that fits the space."""

    mask_size: int | None = None
    """Length of an action mask, None where the space has no masks."""
    noise_size: int
    """Random numbers that one action takes."""
    normal = False
    """They are standard normal; else uniform from [0, 1)."""

    def __init__(self, num_features: int, num_outputs: int) -> None:
        super().__init__()
        self.out = linear(num_features, num_outputs, _POLICY_GAIN)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Distribution:
        """Distribution over actions for features `[N, F]`."""
        return self.distribution(functional.linear(features, self.out.weight, self.out.bias), mask)

    def distribution(self, outputs: Tensor, mask: Tensor | None = None) -> Distribution:
        """Distribution for the linear layer's outputs `[N, num_outputs]`."""
        raise NotImplementedError

    def draw(self, rows: int, generator: torch.Generator) -> Tensor:
        """Random numbers for actions in N environments, `[rows, noise_size]`, on the processor."""
        found = torch.empty(rows, self.noise_size)
        return (
            found.normal_(generator=generator)
            if self.normal
            else found.uniform_(generator=generator)
        )

    def draw_as_sampled(self, rows: int, generator: torch.Generator) -> Tensor:
        """The numbers that `Distribution.sample` would draw; `from_noise` knows them by width."""
        return self.draw(rows, generator)

    def to_env(self, actions: Tensor) -> NDArray[Any]:
        """Actions of a rollout `[N, ...]` as the environment takes them."""
        raise NotImplementedError


class DiscreteHead(ActionHead):
    """Masked Categorical."""

    noise_size = 1

    def __init__(self, num_features: int, space: spaces.Discrete) -> None:
        super().__init__(num_features, int(space.n))
        self.mask_size = self.num_actions = int(space.n)
        self.start = int(space.start)

    def draw_as_sampled(self, rows: int, generator: torch.Generator) -> Tensor:
        """Clocks of a race, `[rows, A]`."""
        return torch.empty(rows, self.num_actions).exponential_(generator=generator)

    def distribution(self, outputs: Tensor, mask: Tensor | None = None) -> Distribution:
        """Categorical over logits `[N, A]`."""
        return Categorical(outputs, mask)

    def to_env(self, actions: Tensor) -> NDArray[Any]:
        """int64 `[N]`."""
        found = actions.cpu().numpy()
        return found + self.start if self.start else found


class MultiDiscreteHead(ActionHead):
    """Masked MultiCategorical; the mask is the choices' masks side by side."""

    def __init__(self, num_features: int, space: spaces.MultiDiscrete) -> None:
        self.nvec = [int(n) for n in space.nvec.reshape(-1)]
        super().__init__(num_features, sum(self.nvec))
        self.mask_size, self.noise_size = sum(self.nvec), len(self.nvec)
        self.shape = space.nvec.shape
        self.start = space.start.reshape(-1).astype(np.int64)
        self.dtype = space.dtype

    def draw_as_sampled(self, rows: int, generator: torch.Generator) -> Tensor:
        """Clocks of the choices' races side by side, `[rows, sum(nvec)]`."""
        clocks = [torch.empty(rows, n).exponential_(generator=generator) for n in self.nvec]
        return torch.cat(clocks, dim=1)

    def distribution(self, outputs: Tensor, mask: Tensor | None = None) -> Distribution:
        """MultiCategorical over logits `[N, sum(nvec)]`."""
        return MultiCategorical(outputs, self.nvec, mask)

    def to_env(self, actions: Tensor) -> NDArray[Any]:
        """`[N, *nvec.shape]`."""
        found = actions.cpu().numpy() + self.start
        return found.reshape(-1, *self.shape).astype(self.dtype)


class MultiBinaryHead(ActionHead):
    """Bernoulli bits."""

    def __init__(self, num_features: int, space: spaces.MultiBinary) -> None:
        self.shape = space.shape
        self.noise_size = int(np.prod(self.shape))
        super().__init__(num_features, self.noise_size)

    def distribution(self, outputs: Tensor, mask: Tensor | None = None) -> Distribution:
        """Bernoulli over logits `[N, K]`."""
        return Bernoulli(outputs)

    def to_env(self, actions: Tensor) -> NDArray[Any]:
        """int8 `[N, *shape]`."""
        return actions.cpu().numpy().astype(np.int8).reshape(-1, *self.shape)


class BoxHead(ActionHead):
    """Gaussian, clipped at the bounds, or squashed into them."""

    normal = True

    def __init__(
        self,
        num_features: int,
        space: spaces.Box,
        *,
        squash: bool = False,
        log_std_init: float = 0.0,
        state_dependent_std: bool = False,
    ) -> None:
        self.size = self.noise_size = int(np.prod(space.shape))
        super().__init__(num_features, self.size * (2 if state_dependent_std else 1))
        self.shape, self.dtype = space.shape, space.dtype
        self.low, self.high = space.low.reshape(-1), space.high.reshape(-1)
        self.squash, self.state_dependent_std = squash, state_dependent_std
        if squash and not space.is_bounded():
            raise ConfigError("squash needs a Box action space with finite bounds")
        if state_dependent_std:
            with torch.no_grad():
                self.out.bias[self.size :] = log_std_init
        else:
            self.log_std = nn.Parameter(torch.full((self.size,), float(log_std_init)))

    def distribution(self, outputs: Tensor, mask: Tensor | None = None) -> Distribution:
        """Gaussian with means `[N, D]`, beside them log deviations that depend on the state."""
        if self.state_dependent_std:
            mean, log_std = outputs.split(self.size, dim=-1)
            log_std = log_std.clamp(-20.0, 2.0)
        else:
            mean, log_std = outputs, self.log_std
        return SquashedGaussian(mean, log_std) if self.squash else Gaussian(mean, log_std)

    def to_env(self, actions: Tensor) -> NDArray[Any]:
        """`[N, *shape]` within the bounds, in the space's type."""
        if self.squash:
            unit = 0.5 * (torch.tanh(actions).cpu().numpy().astype(np.float64) + 1.0)
            found = self.low + unit * (self.high - self.low)
        else:
            found = actions.cpu().numpy()
        found = np.clip(found, self.low, self.high)
        return found.astype(self.dtype).reshape(-1, *self.shape)


class ProductHead(ActionHead):
    """One head for each part of a Dict or Tuple; all read one linear layer."""

    def __init__(self, num_features: int, heads: Sequence[ActionHead], widths: Sequence[int]):
        """`heads` lie in the order of the parts; `widths` are as in `Product`."""
        self.sizes = [int(head.out.weight.shape[0]) for head in heads]
        super().__init__(num_features, sum(self.sizes))
        with torch.no_grad():
            self.out.weight.copy_(torch.cat([head.out.weight for head in heads]))
            self.out.bias.copy_(torch.cat([head.out.bias for head in heads]))
        for head in heads:
            del head.out
        self.heads: Any = nn.ModuleList(heads)
        self.widths = list(widths)
        self.mask_sizes = [head.mask_size or 0 for head in heads]
        self.mask_size = sum(self.mask_sizes) or None

    def draw(self, rows: int, generator: torch.Generator) -> Tensor:
        """The parts' numbers side by side."""
        return torch.cat([head.draw(rows, generator) for head in self.heads], dim=1)

    def draw_as_sampled(self, rows: int, generator: torch.Generator) -> Tensor:
        """The parts' numbers side by side."""
        return torch.cat([head.draw_as_sampled(rows, generator) for head in self.heads], dim=1)

    def distribution(self, outputs: Tensor, mask: Tensor | None = None) -> Distribution:
        """Product of the parts' distributions; masks lie side by side, `[N, sum of the parts']`."""
        masks = [None] * len(self.sizes) if mask is None else mask.split(self.mask_sizes, dim=-1)
        found = [
            head.distribution(part, legal if size else None)
            for head, part, legal, size in zip(
                self.heads, outputs.split(self.sizes, dim=-1), masks, self.mask_sizes, strict=True
            )
        ]
        return Product(found, self.widths)

    def to_env(self, actions: Tensor) -> NDArray[Any]:
        """float64 `[N, D]`: a flat row of all parts, see vector/actions.py."""
        columns = actions.cpu().split([width or 1 for width in self.widths], dim=-1)
        found = [
            head.to_env(column if width else column.squeeze(-1)).reshape(len(actions), -1)
            for head, column, width in zip(self.heads, columns, self.widths, strict=True)
        ]
        return np.concatenate(found, axis=1, dtype=np.float64)


def build_head(
    space: spaces.Space[Any],
    num_features: int,
    *,
    squash: bool = False,
    log_std_init: float = 0.0,
    state_dependent_std: bool = False,
) -> ActionHead:
    """The head for one action space."""
    if isinstance(space, spaces.Discrete):
        return DiscreteHead(num_features, space)
    if isinstance(space, spaces.MultiDiscrete):
        return MultiDiscreteHead(num_features, space)
    if isinstance(space, spaces.MultiBinary):
        return MultiBinaryHead(num_features, space)
    if isinstance(space, spaces.Box):
        return BoxHead(
            num_features,
            space,
            squash=squash,
            log_std_init=log_std_init,
            state_dependent_std=state_dependent_std,
        )
    check_action_space(space)
    assert is_composite(space)
    parts = list(leaves(space))
    heads = [
        build_head(
            part,
            num_features,
            squash=squash,
            log_std_init=log_std_init,
            state_dependent_std=state_dependent_std,
        )
        for part in parts
    ]
    widths = [
        0 if isinstance(part, spaces.Discrete) else int(np.prod(part.shape or ())) for part in parts
    ]
    return ProductHead(num_features, heads, widths)
