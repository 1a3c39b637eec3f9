"""Optimisers by name, and which weights each is for.

Weight decay is for matrices only. Muon is for convolutions and the matrices that a network names as
lying between hidden layers; what is left goes to AdamW. Left out: learning rates and schedules.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from playout.agents.optim.adam import Adam
from playout.agents.optim.momentum import Momentum
from playout.agents.optim.muon import Muon
from playout.agents.optim.names import check_optimizer
from torch import nn

Optimizer = Adam | Muon | Momentum


def make_optimizers(
    net: Any,
    name: str,
    *,
    lr: float,
    weight_decay: float,
    undecayed: Collection[str] = (),
    inner: Collection[str] = (),
) -> list[Optimizer]:
    """Optimisers that share among them the parameters of a network that learn.

    Args:
        net: a torch module.
        name: "sgd", "momentum" (0.9), "adam" (without decay), "adamw" or "muon".
        lr: learning rate of each.
        weight_decay: of matrices and convolutions, decoupled.
        undecayed: names of parameters of two or more dimensions without decay.
        inner: names of matrices that Muon may make orthogonal, besides convolutions.
    """
    check_optimizer(name)
    named: dict[str, nn.Parameter] = {n: p for n, p in net.named_parameters() if p.requires_grad}
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
        return Adam(parameters, lr=lr, eps=1e-8, weight_decay=decay)

    found: list[Optimizer] = []
    if matrices:
        found.append(plain(list(matrices.values()), decay))
    if rest:
        found.append(plain(rest, 0.0))
    if convs:
        found.append(Muon(list(convs.values()), lr=lr, weight_decay=decay))
    return found
