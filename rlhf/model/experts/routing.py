"""Which experts a token goes to, and what keeps them busy alike.

The router's softmax over all experts gives the best k and their weights, which are made to add up
to 1 (Shazeer et al. 2017; Jiang et al. 2024, "Mixtral of Experts"). What spreads tokens evenly are
two more losses, `router_losses`; trainers add them. What experts do with their tokens is mixing.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from playout.agents.kernels.processor import openmp_team
from playout.rlhf.model.config import TransformerConfig
from playout.rlhf.model.experts import _experts as compiled
from playout.rlhf.model.layers.elementwise import addresses, is_plain, row_threads
from torch import Tensor
from torch.autograd import Function

__all__ = ["RouterLosses", "route", "router_losses", "with_balance"]

compiled.use_team(*openmp_team())


class _Route(Function):
    """The compiled choice of experts; see `_routed`."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, logits: Tensor, count: int, normalise: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        logits = logits.contiguous()
        tokens, experts = logits.shape
        probabilities, log_sums = torch.empty_like(logits), logits.new_empty(tokens)
        weights = logits.new_empty(tokens, count)
        chosen = torch.empty(tokens, count, dtype=torch.int64)
        ctx.shape = experts, count, normalise
        where = addresses(logits, probabilities, log_sums, weights, chosen)
        compiled.route(where, ctx.shape, tokens, row_threads(tokens, experts))
        ctx.save_for_backward(probabilities, weights, chosen)
        ctx.mark_non_differentiable(chosen)
        ctx.set_materialize_grads(False)
        return weights, chosen, probabilities, log_sums

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, by_weights: Tensor | None, _: None, *by_others: Tensor | None
    ) -> tuple[Tensor, None, None]:
        saved = ctx.saved_tensors
        given = [None if by is None else by.contiguous() for by in (by_weights, *by_others)]
        grad = torch.empty_like(saved[0])
        where = addresses(*saved, *given, grad)
        compiled.route_back(where, ctx.shape, len(grad), row_threads(*grad.shape))
        return grad, None, None


def _routed(
    logits: Tensor, count: int, *, normalise: bool = True
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `route` gives, all probabilities [N, E], and the logarithms of their sums [N]."""
    if not is_plain(logits) and logits.dtype == torch.float32:
        return _Route.apply(logits, count, normalise)  # type: ignore[no-untyped-call, no-any-return]
    probabilities = torch.softmax(logits, dim=-1)
    weights, chosen = probabilities.topk(count, dim=-1)
    if normalise:
        weights = weights / weights.sum(-1, keepdim=True)
    return weights, chosen, probabilities, torch.logsumexp(logits, dim=-1)


def route(logits: Tensor, count: int, *, normalise: bool = True) -> tuple[Tensor, Tensor]:
    """The experts of each token and how much each of them weighs.

    Args:
        logits: float32 [N, E].
        count: Experts a token.
        normalise: Make the weights of a token add up to 1.

    Returns:
        Weights float32 [N, count] and numbers of experts int64 [N, count], the best first.
    """
    weights, chosen, *_ = _routed(logits, count, normalise=normalise)
    return weights, chosen


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
        routes: Of `routes_of`, one layer each, of one pass.
        count: Experts a token.
        keep: bool, which tokens are none of padding; all if None.
    """
    logits = torch.stack(list(routes))
    if keep is not None:
        logits = logits[:, keep.flatten()]
    layers, tokens, experts = logits.shape
    _, chosen, probabilities, log_sums = _routed(logits.flatten(0, 1), count)
    # A sum of ones by address: no host is asked, and whole numbers add up alike in any order.
    ones = torch.ones(layers, tokens * count, device=logits.device)
    used = torch.zeros(layers, experts, device=logits.device)
    used.scatter_add_(1, chosen.view(ones.shape), ones)
    tokens = max(1, tokens)
    share = used / (tokens * count)
    mean = probabilities.view(logits.shape).sum(1) / tokens
    return RouterLosses(
        experts * (share * mean).sum() / layers,
        log_sums.square().sum() / (layers * tokens),
        experts * share.max(),
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
