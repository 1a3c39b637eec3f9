"""Action distributions on plain tensors: categorical with masks, bits, Gaussians, products of them.

Each has sample, mode, log_prob and entropy. Importing and constructing torch.distributions costs
more than a small network; these have no validation and no broadcasting. Random numbers come from an
explicit generator. `N` stands for any leading shape, such as rows by time.
"""

import functools
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_HALF_LOG_TAU = 0.5 * math.log(2.0 * math.pi)
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(24)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


class Distribution(Protocol):
    """What a policy's head returns for `N` observations."""

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw one action for each observation."""

    @property
    def noise_size(self) -> int:
        """Numbers that `from_noise` takes for one action."""

    def from_noise(self, noise: Tensor) -> Tensor:
        """The actions that random numbers `[N, noise_size]` stand for.

        Standard normal ones for Gaussians, uniform ones from [0, 1) for choices and bits. Choices
        also take the clocks of the race that `sample` runs, `[N, race_size]` in all.
        """

    @property
    def race_size(self) -> int:
        """Numbers for one action, if choices are made by a race."""

    def mode(self) -> Tensor:
        """The most likely action (for Gaussians the mean)."""

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probability or log-density of the actions, `[N]`."""

    def entropy(self) -> Tensor:
        """Entropy in nats, `[N]`."""


def chosen(
    among: Distribution,
    *,
    generator: torch.Generator | None,
    deterministic: bool,
    noise: Tensor | None,
) -> Tensor:
    """An action for each observation: the likeliest, what `noise` stands for, or a drawn one."""
    if deterministic:
        return among.mode()
    return among.sample(generator) if noise is None else among.from_noise(noise)


class Categorical:
    """One choice of A, with illegal actions masked out.

    A row whose mask is all 0 (a finished game, an idle agent) counts as uniform, so that nothing
    divides by zero.
    """

    __slots__ = ("logits",)

    def __init__(self, logits: Tensor, mask: Tensor | None = None) -> None:
        """Take `logits` `[N, A]` of any scale and `mask` `[N, A]`, 1 where legal."""
        if mask is not None:
            # Not the smallest float: a gradient above 1 would make it infinite, and then NaN.
            fill = -1e30 if logits.dtype != torch.float16 else -6e4
            logits = logits.masked_fill(mask == 0, fill)
        self.logits = torch.log_softmax(logits, dim=-1)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Actions `[N]`, int64, by a race of exponential clocks; never a masked one."""
        return self._race(torch.empty_like(self.logits).exponential_(generator=generator))

    def _race(self, clocks: Tensor) -> Tensor:
        return (self.logits.detach().exp() / clocks).argmax(dim=-1)

    @property
    def noise_size(self) -> int:
        """One number a choice."""
        return 1

    @property
    def race_size(self) -> int:
        """A."""
        return int(self.logits.shape[-1])

    def from_noise(self, noise: Tensor) -> Tensor:
        """Actions `[N]` by the inverse of the distribution function; never a masked one."""
        if noise.shape[-1] == self.race_size:
            return self._race(noise)
        sums = self.logits.detach().exp().cumsum(dim=-1)
        # Below the last sum even after rounding, so that the first larger sum is a legal action's.
        target = noise * (sums[..., -1:] * (1.0 - 1e-6))
        return (sums <= target).sum(dim=-1)

    def mode(self) -> Tensor:
        """The action with the largest probability, `[N]`; the lowest index among equals."""
        return self.logits.argmax(dim=-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probability of integer actions `[N]`."""
        return self.logits.gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """Entropy over the legal actions, `[N]`."""
        return -(self.logits.exp() * self.logits).sum(dim=-1)


class MultiCategorical:
    """Several independent choices, `nvec[i]` options each; logits and masks lie side by side."""

    __slots__ = ("choices",)

    def __init__(self, logits: Tensor, nvec: Sequence[int], mask: Tensor | None = None) -> None:
        """`logits` and `mask` are `[N, sum(nvec)]`."""
        sizes = list(nvec)
        masks = [None] * len(sizes) if mask is None else mask.split(sizes, dim=-1)
        self.choices = [
            Categorical(part, legal)
            for part, legal in zip(logits.split(sizes, dim=-1), masks, strict=True)
        ]

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Actions `[N, len(nvec)]`, int64."""
        return torch.stack([choice.sample(generator) for choice in self.choices], dim=-1)

    @property
    def noise_size(self) -> int:
        """One number a choice."""
        return len(self.choices)

    @property
    def race_size(self) -> int:
        """The sum over the choices."""
        return sum(choice.race_size for choice in self.choices)

    def from_noise(self, noise: Tensor) -> Tensor:
        """Actions `[N, len(nvec)]`; column i decides choice i."""
        if noise.shape[-1] == self.race_size:
            clocks = noise.split([choice.race_size for choice in self.choices], dim=-1)
            pairs = zip(self.choices, clocks, strict=True)
            return torch.stack([choice.from_noise(part) for choice, part in pairs], dim=-1)
        parts = [choice.from_noise(noise[..., i : i + 1]) for i, choice in enumerate(self.choices)]
        return torch.stack(parts, dim=-1)

    def mode(self) -> Tensor:
        """The most likely option of each choice, `[N, len(nvec)]`."""
        return torch.stack([choice.mode() for choice in self.choices], dim=-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Sum of the log-probabilities of the choices, `[N]`."""
        parts = [choice.log_prob(actions[..., i]) for i, choice in enumerate(self.choices)]
        return torch.stack(parts).sum(dim=0)

    def entropy(self) -> Tensor:
        """Sum of the entropies, `[N]`."""
        return torch.stack([choice.entropy() for choice in self.choices]).sum(dim=0)


class Product:
    """Independent distributions side by side: the parts of a Dict or Tuple of actions.

    An action is one float row `[N, D]` of the numbers of all parts; a single choice is one column.
    """

    __slots__ = ("parts", "widths")

    def __init__(self, parts: Sequence[Distribution], widths: Sequence[int]) -> None:
        """`widths[i]` columns belong to `parts[i]`; 0 stands for one choice `[N]`."""
        self.parts, self.widths = list(parts), list(widths)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Actions `[N, D]`, each part drawn in turn."""
        return self._join([part.sample(generator) for part in self.parts])

    @property
    def noise_size(self) -> int:
        """The sum over the parts."""
        return sum(part.noise_size for part in self.parts)

    @property
    def race_size(self) -> int:
        """The sum over the parts."""
        return sum(part.race_size for part in self.parts)

    def from_noise(self, noise: Tensor) -> Tensor:
        """Actions `[N, D]`; the parts' numbers lie side by side."""
        plain = noise.shape[-1] == self.noise_size
        sizes = [part.noise_size if plain else part.race_size for part in self.parts]
        columns = noise.split(sizes, dim=-1)
        return self._join(
            [part.from_noise(column) for part, column in zip(self.parts, columns, strict=True)]
        )

    def mode(self) -> Tensor:
        """The most likely action of each part, `[N, D]`."""
        return self._join([part.mode() for part in self.parts])

    def _join(self, actions: Sequence[Tensor]) -> Tensor:
        columns = [
            action if width else action.unsqueeze(-1)
            for action, width in zip(actions, self.widths, strict=True)
        ]
        return torch.cat([column.to(torch.float32) for column in columns], dim=-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Sum of the parts' log-probabilities and log-densities, `[N]`."""
        columns = actions.split([width or 1 for width in self.widths], dim=-1)
        found = [
            part.log_prob(column if width else column.squeeze(-1))
            for part, column, width in zip(self.parts, columns, self.widths, strict=True)
        ]
        return torch.stack(found).sum(dim=0)

    def entropy(self) -> Tensor:
        """Sum of the parts' entropies, `[N]`."""
        return torch.stack([part.entropy() for part in self.parts]).sum(dim=0)


class Bernoulli:
    """Independent bits (Gymnasium's MultiBinary); `logits` `[N, K]` of a 1."""

    __slots__ = ("logits",)

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Bits `[N, K]`, int64."""
        probabilities = torch.sigmoid(self.logits.detach())
        draws = torch.empty_like(probabilities).uniform_(generator=generator)
        return (draws < probabilities).long()

    @property
    def noise_size(self) -> int:
        """K."""
        return int(self.logits.shape[-1])

    race_size = noise_size

    def from_noise(self, noise: Tensor) -> Tensor:
        """Bits `[N, K]`."""
        return (noise < torch.sigmoid(self.logits.detach())).long()

    def mode(self) -> Tensor:
        """The more likely bits, `[N, K]`."""
        return (self.logits > 0).long()

    def log_prob(self, actions: Tensor) -> Tensor:
        """Sum over the bits, `[N]`."""
        return functional.logsigmoid(torch.where(actions > 0, self.logits, -self.logits)).sum(-1)

    def entropy(self) -> Tensor:
        """Sum over the bits, `[N]`."""
        probabilities = torch.sigmoid(self.logits)
        each = functional.softplus(self.logits) - probabilities * self.logits
        return each.sum(-1)


class Gaussian:
    """Independent normal variables, `mean` `[N, D]`, `log_std` `[D]` or `[N, D]`."""

    __slots__ = ("log_std", "mean")

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean = mean
        self.log_std = log_std

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Actions `[N, D]`."""
        return self.from_noise(torch.empty_like(self.mean).normal_(generator=generator))

    @property
    def noise_size(self) -> int:
        """D."""
        return int(self.mean.shape[-1])

    race_size = noise_size

    def from_noise(self, noise: Tensor) -> Tensor:
        """The action that standard normal numbers `[N, D]` stand for."""
        return self.mean.detach() + noise * self.log_std.detach().exp()

    def mode(self) -> Tensor:
        """The mean, `[N, D]`."""
        return self.mean

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-density, summed over the D variables, `[N]`."""
        scaled = (actions - self.mean) * (-self.log_std).exp()
        return -(0.5 * scaled * scaled + self.log_std + _HALF_LOG_TAU).sum(-1)

    def entropy(self) -> Tensor:
        """Sum over the D variables, `[N]`."""
        return (self.log_std + (0.5 + _HALF_LOG_TAU)).expand_as(self.mean).sum(-1)


class SquashedGaussian:
    """tanh of a Gaussian, for bounded boxes.

    Actions are kept before the tanh, so that a saturated action loses nothing: `squash` turns them
    into (-1, 1), and `log_prob` is the density of the squashed variable at that point.
    """

    __slots__ = ("base",)

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.base = Gaussian(mean, log_std)

    @staticmethod
    def squash(actions: Tensor) -> Tensor:
        """Actions in (-1, 1) as the environment sees them, before scaling to its bounds."""
        return torch.tanh(actions)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Actions before the tanh, `[N, D]`."""
        return self.base.sample(generator)

    @property
    def noise_size(self) -> int:
        """D."""
        return self.base.noise_size

    race_size = noise_size

    def from_noise(self, noise: Tensor) -> Tensor:
        """The action before the tanh that standard normal numbers stand for."""
        return self.base.from_noise(noise)

    def mode(self) -> Tensor:
        """The mean before the tanh, `[N, D]`: the median of the squashed variable."""
        return self.base.mean

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-density of the squashed actions, given before the tanh, `[N]`."""
        return self.base.log_prob(actions) - _log_tanh_slope(actions).sum(-1)

    def entropy(self) -> Tensor:
        """Entropy of the squashed variable, `[N]`, by 24-point Gauss-Hermite quadrature."""
        mean, std = self.base.mean, self.base.log_std.exp()
        nodes, weights = _quadrature(mean.dtype, mean.device)
        points = mean.unsqueeze(-1) + std.unsqueeze(-1) * nodes
        return self.base.entropy() + (_log_tanh_slope(points) @ weights).sum(-1)


@functools.cache
def _quadrature(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes and weights, brought to a device once."""
    both = torch.as_tensor(np.stack([_NODES, _WEIGHTS]), dtype=dtype, device=device)
    return both[0], both[1]


def _log_tanh_slope(x: Tensor) -> Tensor:
    """log(1 - tanh(x)^2) without cancellation."""
    return 2.0 * (math.log(2.0) - x - functional.softplus(-2.0 * x))
