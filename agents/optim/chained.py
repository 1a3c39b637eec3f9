"""Several optimisers as one: one learning rate, one norm over all gradients, one state.

Stands where an Adam stands, for optimisers that share the parameters among them (choice.py): Muon
for the matrices between hidden layers beside Adam for all else, or weights that take shorter steps
than others. Muon's iteration stays in float32: rounded to bfloat16, the small products of a
gradient of low rank have negative eigenvalues, which it blows up. On a device every step waits for
the norm. Weights that are cut over ranks are Adam's alone (sharded_adam.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import torch
from playout.agents.optim.adam import Adam, unique_parameters
from playout.agents.optim.choice import (
    Optimizer,
    learned_parameters,
    load_states,
    make_optimizers,
    optimizers_by_rate,
)
from playout.agents.optim.device_adam import AnyAdam, make_adam
from playout.agents.optim.flat import add_together
from playout.agents.optim.muon import Muon
from playout.agents.optim.names import check_optimizer
from playout.agents.optim.sharded_adam import ShardedAdam, is_cut
from playout.errors import ConfigError, DivergedError
from torch import Tensor

__all__ = ["AnyOptimizer", "ChainedOptimizer", "make_optimizer"]


class ChainedOptimizer:
    """Optimisers that step together.

    Attributes:
        parts: Each with its share of the learning rate.
        parameters: All that is moved.
        step_count: Steps taken.
    """

    def __init__(self, parts: Sequence[tuple[float, Optimizer]], *, lr: float) -> None:
        """Set up.

        Args:
            parts: Shares of the learning rate, and optimisers of disjoint parameters of one type on
                one device; at least one.
            lr: The learning rate.
        """
        self.parts = list(parts)
        self.parameters = [one for _, part in self.parts for one in part.parameters]
        self.step_count = 0
        self.lr = lr

    @property
    def lr(self) -> float:
        """The learning rate; set it between steps to anneal."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = value
        for share, part in self.parts:
            part.lr = value * share

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for _, part in self.parts:
            part.zero_grad()

    def sum_over_ranks(self, also: Sequence[Tensor] = ()) -> None:
        """Replace the gradients, and tensors of their type, by their sums over all ranks."""
        self._collect()
        add_together([*(part.grad for _, part in self.parts), *also])

    def _collect(self) -> None:
        for _, part in self.parts:
            part.collect()

    def step(self, max_grad_norm: float = math.inf) -> float:
        """Clip the whole gradient, take one step, return the norm before clipping.

        Raises:
            DivergedError: The gradient is NaN or infinite; nothing was changed.
        """
        self._collect()
        norm = float(torch.stack([part.grad.norm() for _, part in self.parts]).norm())
        if not math.isfinite(norm):
            raise DivergedError(f"the gradient is not finite (norm {norm})")
        scale = min(1.0, max_grad_norm / (norm + 1e-6))
        for _, part in self.parts:
            if isinstance(part, Adam):
                part.apply(scale)
                continue
            if scale < 1.0:
                part.grad.mul_(scale)
            part.apply()
        self.step_count += 1
        return norm

    def advance(self, max_grad_norm: float = math.inf) -> float:
        """`step`, by the name under which DeviceAdam does not wait for a device."""
        return self.step(max_grad_norm)

    def state_dict(self) -> dict[str, Any]:
        """The states of the parts in their order, and the count of steps."""
        states = [part.state_dict() for _, part in self.parts]
        return {"parts": states, "step_count": self.step_count, "lr": self.lr}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`.

        Raises:
            CheckpointError: It is the state of other optimisers, or of other parameters.
        """
        optimizers = [part for _, part in self.parts]
        stored = state.get("parts")
        if stored is None:  # earlier versions kept the numbers of Adam and Muon side by side
            stored = [
                {name: state[name] for name in one.state_dict() if name in state}
                for one in optimizers
            ]
        load_states(optimizers, stored)
        self.step_count = int(state["step_count"])
        self.lr = float(state["lr"])


AnyOptimizer = AnyAdam | ChainedOptimizer
"""It clips, checks and adds up over ranks by itself."""


def make_optimizer(
    net: Any,
    name: str,
    *,
    lr: float,
    weight_decay: float,
    inner: Collection[str] = (),
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    slow: Collection[str] = (),
    share: float = 1.0,
) -> AnyOptimizer:
    """One optimiser for all parameters of a network that learn.

    Args:
        net: a torch module, or its parameters by name.
        name: as in `make_optimizers`; adam alone is the one that waits for no device.
        lr: learning rate.
        weight_decay: as there ...
        inner: ... and this ...
        betas: ... and this ...
        eps: ... and this.
        slow: names of parameters that take `share` of the learning rate.
        share: above 0; weights that are to stay as they are have to be frozen.

    Raises:
        ConfigError: an unknown name, nothing that learns, parameters of several types or on several
            devices, nothing that muon could move, or another optimiser than adam for parameters
            that are cut over ranks.
    """
    check_optimizer(name)
    named = learned_parameters(net)
    learned = unique_parameters(named.values())
    cut = bool(learned) and is_cut(learned[0])
    if cut and name != "adam":
        raise ConfigError(f"--optimizer {name} moves whole weights: leave out --shard")
    if name == "adam" and (share == 1 or named.keys().isdisjoint(slow)):
        make_one: Callable[..., AnyAdam] = ShardedAdam if cut else make_adam
        return make_one(learned, lr=lr, betas=betas, eps=eps)
    settings: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "betas": betas, "eps": eps}
    make = partial(make_optimizers, name=name, inner=inner, **settings)
    parts = optimizers_by_rate(named, make, slow=slow, share=share)
    if name == "muon" and not any(isinstance(part, Muon) for _, part in parts):
        raise ConfigError(
            "muon moves convolutions and matrices between hidden layers, and here is none that "
            "learns: choose another optimizer"
        )
    return ChainedOptimizer(parts, lr=lr)
