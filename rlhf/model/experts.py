"""A mixture of experts in place of a block's SwiGLU: a token goes to the few that a router picks.

The router's softmax over all experts gives the best k and their weights, which are made to add up
to 1 (Shazeer et al. 2017; Jiang et al. 2024, "Mixtral of Experts"). No token is dropped and no
expert padded: pairs of token and expert are sorted by expert, and each multiplies its own rows.
What spreads tokens evenly are two more losses, `router_losses`; trainers add them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from playout.rlhf.model.config import TransformerConfig
from playout.rlhf.model.layers import Projection, swiglu
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

__all__ = ["Experts", "RouterLosses", "mix", "route", "router_losses", "routes_of", "with_balance"]


class _Gather(Function):
    """Rows by number, each row `copies` times; the gradient comes back without sums by address."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, inverse: Tensor, copies: int) -> Tensor:  # type: ignore[override]
        ctx.inverse, ctx.copies = inverse, copies
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        found = grad.index_select(0, ctx.inverse)
        if ctx.copies > 1:
            found = found.unflatten(0, (-1, ctx.copies)).sum(1)
        return found, None, None, None


def route(logits: Tensor, count: int, *, normalise: bool = True) -> tuple[Tensor, Tensor]:
    """The experts of each token and how much each of them weighs.

    Args:
        logits: float32 [N, E].
        count: Experts a token.
        normalise: Make the weights of a token add up to 1.

    Returns:
        Weights float32 [N, count] and numbers of experts int64 [N, count], the best first.
    """
    weights, chosen = torch.softmax(logits, dim=-1).topk(count, dim=-1)
    if normalise:
        weights = weights / weights.sum(-1, keepdim=True)
    return weights, chosen


def mix(x: Tensor, weights: Tensor, chosen: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """What the chosen experts make of each token, weighed and added.

    Args:
        x: [N, H].
        weights: float32 [N, k].
        chosen: int64 [N, k].
        gate_up: [E, 2 * I, H] in the type of `x`.
        down: [E, H, I] likewise.

    Returns:
        [N, H] in the type of `x`.
    """
    count = chosen.shape[1]
    if chosen.numel() <= len(gate_up) and not torch.is_grad_enabled():
        # A few tokens: the weights are brought to them, and nobody asks who goes where.
        flat = chosen.flatten()
        rows = x.repeat_interleave(count, 0)[:, :, None]
        inner = swiglu(torch.bmm(gate_up.index_select(0, flat), rows)[:, :, 0])
        out = torch.bmm(down.index_select(0, flat), inner[:, :, None])[:, :, 0]
    else:
        order = chosen.flatten().argsort(stable=True)
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(len(order), device=order.device)
        sizes = torch.bincount(chosen.flatten(), minlength=len(gate_up)).tolist()
        parts = _Gather.apply(x, order // count, inverse, count).split(sizes)  # type: ignore[no-untyped-call]
        made = [
            F.linear(swiglu(F.linear(part, first)), second)
            for part, first, second in zip(parts, gate_up.unbind(), down.unbind(), strict=True)
            if len(part)
        ]
        out = _Gather.apply(torch.cat(made), inverse, order, 1)  # type: ignore[no-untyped-call]
    shares = weights.to(out.dtype).flatten()[:, None]
    return (out * shares).unflatten(0, (-1, count)).sum(1)


class Experts(nn.Module):
    """A router and its experts, whose weights are rows of two matrices, one expert below another.

    Attributes:
        router: [E, H].
        gate_up_proj: [E * 2 * I, H].
        down_proj: [E * H, I].
        routes: Where the router's logits are noted, inside `routes_of`.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        hidden, inner, count = config.hidden_size, config.intermediate_size, config.num_experts
        self.router = Projection(hidden, count)
        self.gate_up_proj = Projection(hidden, count * 2 * inner)
        self.down_proj = Projection(inner, count * hidden)
        self.routes: list[Tensor] | None = None

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        """[B, L, H] after a norm whose gain is `gain`; the result has the same shape and type."""
        config = self.config
        # Here the tokens are fewer than the rows of all experts: the gain is given to them.
        rows = x.flatten(0, 1) * gain.to(x.dtype)
        exact = rows if rows.dtype == torch.float64 else rows.float()
        kind = x.device.type
        lowers = torch.is_autocast_enabled(kind)
        with torch.autocast(kind, enabled=False) if lowers else nullcontext():
            logits = F.linear(exact, self.router.dense().to(exact.dtype))
        if self.routes is not None:
            self.routes.append(logits)
        weights, chosen = route(logits, config.num_experts_per_tok, normalise=config.norm_topk_prob)
        gate_up = self.gate_up_proj.dense().to(x.dtype).unflatten(0, (config.num_experts, -1))
        down = self.down_proj.dense().to(x.dtype).unflatten(0, (config.num_experts, -1))
        return mix(rows, weights, chosen, gate_up, down).view_as(x)


@contextmanager
def routes_of(model: nn.Module) -> Iterator[list[Tensor]]:
    """Inside, the list gets the router's logits, float32 [N, E], of every mixture that computes.

    Go backward outside: layers that compute again there would be noted twice.
    """
    found: list[Tensor] = []
    mixtures = [module for module in model.modules() if isinstance(module, Experts)]
    for one in mixtures:
        one.routes = found
    try:
        yield found
    finally:
        for one in mixtures:
            one.routes = None


@dataclass(frozen=True, slots=True)
class RouterLosses:
    """Means over the layers of a batch."""

    balance: Tensor
    """E / k times the sum over experts of share times mean probability: 1 if all are used alike,
    E / k if k of them get everything (Fedus et al. 2021, "Switch Transformers", equation 4)."""
    z: Tensor
    """Mean square of the logarithm of the sum of exponentials (Zoph et al. 2022, "ST-MoE")."""
    busiest: Tensor
    """Of any layer, the most that an expert does, as a multiple of its even share."""


def router_losses(
    routes: Sequence[Tensor], count: int, *, keep: Tensor | None = None
) -> RouterLosses:
    """What a batch's routes cost.

    Args:
        routes: Of `routes_of`, one layer each.
        count: Experts a token.
        keep: bool, which tokens are none of padding; all if None.
    """
    balance, z, busiest = [], [], []
    for logits in routes:
        if keep is not None:
            logits = logits[keep.flatten()]
        experts, tokens = logits.shape[1], max(1, logits.shape[0])
        probabilities = torch.softmax(logits, dim=-1)
        chosen = probabilities.detach().topk(count, dim=-1).indices.flatten()
        # A sum of ones by address: no host is asked, and whole numbers add up alike in any order.
        used = torch.zeros(experts, device=logits.device).scatter_add_(
            0, chosen, torch.ones_like(chosen, dtype=torch.float32)
        )
        share = used / (tokens * count)
        balance.append(experts / tokens * (share * probabilities.sum(0)).sum())
        z.append(torch.logsumexp(logits, dim=-1).square().sum() / tokens)
        busiest.append(experts * share.max())
    return RouterLosses(
        torch.stack(balance).mean(), torch.stack(z).mean(), torch.stack(busiest).max()
    )


def with_balance(
    loss: Tensor,
    routes: Sequence[Tensor],
    config: TransformerConfig,
    *,
    keep: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor | float]]:
    """A loss with what the routes cost added to it, and what is to be shown of them.

    A model without experts has no routes: its loss comes back as it is.
    """
    if not routes:
        return loss, {}
    found = router_losses(routes, config.num_experts_per_tok, keep=keep)
    total = loss + config.router_aux_loss_coef * found.balance + config.router_z_loss_coef * found.z
    return total, {
        "train/router_balance": found.balance.detach(),
        "train/router_z": found.z.detach(),
        "train/busiest_expert": found.busiest,
    }
