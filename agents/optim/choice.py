"""Optimisers by name, and which weights each is for.

Weight decay is for matrices only. Muon is for convolutions and the matrices that a network names as
lying between hidden layers; what is left goes to AdamW. Left out: learning rates and schedules, and
one optimiser that stands for several (chained.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from playout.agents.optim.adam import Adam
from playout.agents.optim.momentum import Momentum
from playout.agents.optim.muon import Muon
from playout.agents.optim.names import check_optimizer
from playout.errors import CheckpointError
from torch import nn

Optimizer = Adam | Muon | Momentum


def learned_parameters(net: Any) -> dict[str, nn.Parameter]:
    """Those that learn of a torch module, or of parameters by name, by name and in order."""
    pairs = net.items() if isinstance(net, Mapping) else net.named_parameters()
    return {name: one for name, one in pairs if one.requires_grad}


def make_optimizers(
    net: Any,
    name: str,
    *,
    lr: float,
    weight_decay: float,
    undecayed: Collection[str] = (),
    inner: Collection[str] = (),
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> list[Optimizer]:
    """Optimisers that share among them the parameters of a network that learn.

    Args:
        net: a torch module, or its parameters by name.
        name: "sgd", "momentum" (0.9), "adam" (without decay), "adamw" or "muon".
        lr: learning rate of each.
        weight_decay: of matrices and convolutions, decoupled.
        undecayed: names of parameters of two or more dimensions without decay.
        inner: names of matrices that Muon may make orthogonal, besides convolutions.
        betas: of Adam.
        eps: of Adam.
    """
    check_optimizer(name)
    named = learned_parameters(net)
    convs = {n: p for n, p in named.items() if (p.ndim == 4 or n in inner) and name == "muon"}
    matrices = {
        n: p for n, p in named.items() if n not in convs and p.ndim > 1 and n not in undecayed
    }
    rest = [p for n, p in named.items() if n not in convs and n not in matrices]
    decay = 0.0 if name == "adam" else weight_decay

    def plain(parameters: list[nn.Parameter], decay: float) -> Optimizer:
        if name in ("sgd", "momentum"):
            momentum = 0.9 if name == "momentum" else 0.0
            return Momentum(parameters, lr=lr, momentum=momentum, weight_decay=decay)
        return Adam(parameters, lr=lr, betas=betas, eps=eps, weight_decay=decay)

    found: list[Optimizer] = []
    if matrices:
        found.append(plain(list(matrices.values()), decay))
    if rest:
        found.append(plain(rest, 0.0))
    if convs:
        found.append(Muon(list(convs.values()), lr=lr, weight_decay=decay))
    return found


def optimizers_by_rate(
    net: Any, make: Callable[[Any], list[Optimizer]], *, slow: Collection[str], share: float
) -> list[tuple[float, Optimizer]]:
    """Optimisers with their shares of the learning rate, where some weights take shorter steps.

    Args:
        net: a torch module, or its parameters by name.
        make: makes those of parameters by name, as `make_optimizers` does.
        slow: names of the parameters that take `share` of the learning rate; the others all of it.
        share: from 0 up; with 1 there is nothing to tell apart.
    """
    named = learned_parameters(net)
    if share == 1:
        return [(1.0, one) for one in make(named)]
    fast = {name: one for name, one in named.items() if name not in slow}
    rest = {name: one for name, one in named.items() if name in slow}
    return [(1.0, one) for one in make(fast)] + [(share, one) for one in make(rest)]


def load_states(optimizers: Sequence[Optimizer], stored: Sequence[Mapping[str, Any]]) -> None:
    """Continues each from its `state_dict`.

    Raises:
        CheckpointError: the states are of other optimisers, or of other weights; nothing has
            changed.
    """
    mine = [optimizer.state_dict() for optimizer in optimizers]
    if list(map(_shapes, mine)) != list(map(_shapes, stored)):
        raise CheckpointError(
            "the checkpoint holds the state of other optimisers or other weights: what it has "
            "learned can be used, but training needs a new run"
        )
    for optimizer, state in zip(optimizers, stored, strict=True):
        optimizer.load_state_dict(dict(state))


def _shapes(state: Mapping[str, Any]) -> dict[str, Any]:
    """What a state holds, by name: the shapes of its tensors."""
    return {name: getattr(value, "shape", None) for name, value in sorted(state.items())}
