"""Stochastic gradient descent, plain or with momentum, over one flat buffer.

Momentum is the running sum of gradients that torch.optim.SGD keeps; weight decay is decoupled, so
that it means the same for every optimiser. Left out: Nesterov's look ahead (Muon has it).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from playout.agents.optim.flat import FlatParameters
from torch import nn


class Momentum(FlatParameters):
    """Gradient descent.

    Args:
        parameters: of one type on one device.
        lr: learning rate; set it between steps to anneal.
        momentum: decay of the running sum of gradients; 0 is plain descent.
        weight_decay: decoupled, times `lr`.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(list(parameters))
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.sum = torch.zeros_like(self.flat)

    @torch.no_grad()
    def apply(self) -> None:
        """One step with the gradients at hand, as they are."""
        self._begin()
        self.sum.mul_(self.momentum).add_(self.grad)
        self.flat.mul_(1 - self.lr * self.weight_decay).add_(self.sum, alpha=-self.lr)
        self._end()

    def state_dict(self) -> dict[str, Any]:
        """The running sum; the parameters belong to the network's own state."""
        return {"sum": self.sum.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from what `state_dict` gave."""
        self.sum.copy_(state["sum"])
