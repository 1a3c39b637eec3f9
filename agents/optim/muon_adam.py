"""Muon for the matrices between hidden layers and Adam for all else, as one optimiser.

Stands where an Adam stands: one learning rate, one norm, one state. A Transformer that learns from
few kinds of short texts may leave the plateau at which all its answers are alike in fewer steps
than with Adam alone, as Jordan et al. 2024 found for text. The iteration stays in float32: rounded
to bfloat16, the small products of a gradient of low rank have negative eigenvalues, which it blows
up. Left out: weights that are cut over ranks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from playout.agents.optim.adam import Adam, unique_parameters
from playout.agents.optim.flat import add_together
from playout.agents.optim.muon import Muon
from playout.errors import CheckpointError, DivergedError
from torch import Tensor, nn

__all__ = ["MuonAdam"]


class MuonAdam:
    """Two optimisers that step together.

    Attributes:
        lr: Learning rate of both; set it between steps to anneal.
        parameters: All that is moved.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        inner: Iterable[nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-5,
        weight_decay: float = 0.0,
    ) -> None:
        """Set up.

        Args:
            parameters: Of one type on one device; shared ones count once.
            inner: Those of them, matrices, that Muon moves; at least one, and not all.
            lr: Learning rate.
            betas: Of Adam.
            eps: Of Adam.
            weight_decay: Of both, decoupled.
        """
        matrices = {id(one) for one in inner}
        self.parameters = unique_parameters(parameters)
        mine = [one for one in self.parameters if id(one) in matrices]
        rest = [one for one in self.parameters if id(one) not in matrices]
        self.muon = Muon(mine, lr=lr, weight_decay=weight_decay)
        self.adam = Adam(rest, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self.adam.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self.adam.lr = self.muon.lr = value

    @property
    def step_count(self) -> int:
        """Steps taken."""
        return self.adam.step_count

    def zero_grad(self) -> None:
        """Clear the gradients."""
        self.muon.zero_grad()
        self.adam.zero_grad()

    def sum_over_ranks(self, also: Sequence[Tensor] = ()) -> None:
        """Replace the gradients, and tensors of their type, by their sums over all ranks."""
        self.muon.collect()
        self.adam.collect()
        add_together([self.muon.grad, self.adam.grad, *also])

    def advance(self, max_grad_norm: float = math.inf) -> float:
        """Clip the whole gradient, take one step, return the norm before clipping.

        Raises:
            DivergedError: The gradient is NaN or infinite; nothing was changed.
        """
        self.muon.collect()
        self.adam.collect()
        norm = float(torch.stack([self.muon.grad.norm(), self.adam.grad.norm()]).norm())
        if not math.isfinite(norm):
            raise DivergedError(f"the gradient is not finite (norm {norm})")
        scale = min(1.0, max_grad_norm / (norm + 1e-6))
        if scale < 1.0:
            self.muon.grad.mul_(scale)
        self.muon.apply()
        self.adam.apply(scale)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Adam's state, and Muon's running gradient as `average`."""
        return {**self.adam.state_dict(), **self.muon.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`.

        Raises:
            CheckpointError: It is the state of another optimiser, or of other parameters.
        """
        found = state.get("average")
        if found is None or found.shape != self.muon.average.shape:
            raise CheckpointError("the stored state is not one of Muon and Adam for these weights")
        self.adam.load_state_dict(state)
        self.muon.load_state_dict(state)
        self.lr = self.adam.lr
