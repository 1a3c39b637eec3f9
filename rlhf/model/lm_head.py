"""The end of a language model: hidden states to the vocabulary, computed in chunks of rows.

Cross entropy, log-probabilities with entropy, and their gradients never hold the whole matrix of
logits (tokens x vocabulary), which would be the largest tensor of a step by far. Sampling is
sampling.py's.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

__all__ = ["cross_entropy", "token_logprobs"]

IGNORE = -100
# Probabilities of up to so many bytes are kept for the backward pass; more are computed twice.
KEPT_BYTES = 128 << 20
# 512 rows of a few thousand words stay in the processor's cache.
CHUNK = 512


class _CrossEntropy(Function):
    """Loss and gradient in one pass; backward only scales what forward has computed."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int
    ) -> Tensor:
        wants = any(ctx.needs_input_grad[:2])
        grad_hidden = torch.empty_like(hidden) if wants else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wants else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, hidden.shape[0], chunk):
            rows = slice(start, start + chunk)
            logits = F.linear(hidden[rows], weight)
            picked = targets[rows, None]
            # One exponential serves loss and gradient.
            grad = torch.softmax(logits.float(), dim=-1)
            likelihood = grad.gather(1, picked)[:, 0]
            total -= _safe_log(likelihood, logits, picked).sum()
            if grad_hidden is None or grad_weight is None:
                continue
            grad.scatter_add_(1, picked, grad.new_full(picked.shape, -1.0))
            grad = grad.to(weight.dtype)
            torch.mm(grad, weight, out=grad_hidden[rows])
            grad_weight += grad.t() @ hidden[rows]
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grad, (grad_weight * grad).to(ctx.weight_dtype), None, None


def _safe_log(likelihood: Tensor, logits: Tensor, picked: Tensor) -> Tensor:
    """log(likelihood), from the logits where the likelihood is too small for float32."""
    # Elsewhere than on a processor, to ask is to wait for all that was queued.
    if likelihood.device.type == "cpu" and bool((likelihood > 1e-30).all()):
        return likelihood.log()
    return torch.log_softmax(logits.float(), dim=-1).gather(1, picked)[:, 0]


def cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    places: Tensor | None = None,
    ignore: int = IGNORE,
    chunk: int = CHUNK,
) -> tuple[Tensor, int]:
    """Mean negative log-likelihood of `targets` in nats, and the number of tokens behind it.

    Args:
        hidden: [..., H] hidden states after the last norm.
        weight: [V, H] output embeddings, in the data type of `hidden`.
        targets: [...] token ids; rows equal to `ignore` count for nothing.
        places: int64 [N], the numbers of the flattened rows that have a target, where the caller
            knows them (a batch that was made on the processor does); looked for if None.
        ignore: The id that marks a row without a target.
        chunk: Rows computed at once.
    """
    flat, wanted = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    if places is None:
        places = (wanted != ignore).nonzero()[:, 0]
    count = len(places)
    if count < wanted.numel():
        flat, wanted = flat[places], wanted[places]
    if torch.compiler.is_compiling():
        total = F.cross_entropy(F.linear(flat, weight).float(), wanted, reduction="sum")
    else:
        total = _CrossEntropy.apply(flat, weight, wanted, chunk)
    return total / max(count, 1), count


class _TokenLogprobs(Function):
    """Keeps the probabilities for the backward pass where they are small enough."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        logprobs = hidden.new_empty(hidden.shape[0], dtype=torch.float32)
        entropies, lses = torch.empty_like(logprobs), torch.empty_like(logprobs)
        size = hidden.shape[0] * weight.shape[0] * hidden.element_size()
        keep = any(ctx.needs_input_grad[:2]) and size <= KEPT_BYTES
        kept = []
        for start in range(0, hidden.shape[0], chunk):
            rows = slice(start, start + chunk)
            logits = F.linear(hidden[rows], weight).float()
            p = torch.softmax(logits, dim=-1)
            # The largest probability cannot underflow, so it gives the normaliser exactly.
            top, place = p.max(-1, keepdim=True)
            lse = (logits.gather(1, place) - top.log())[:, 0]
            lses[rows] = lse
            logprobs[rows] = logits.gather(1, targets[rows, None])[:, 0] - lse
            entropies[rows] = lse - logits.mul_(p).sum(-1)
            if keep:
                kept.append(p.to(hidden.dtype))
        ctx.save_for_backward(hidden, weight, targets, logprobs, entropies, lses, *kept)
        ctx.chunk = chunk
        return logprobs, entropies

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, grad_logprobs: Tensor, grad_entropies: Tensor
    ) -> tuple[Tensor, Tensor, None, None]:
        hidden, weight, targets, logprobs, entropies, lses, *kept = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        # Elsewhere than on a processor, to ask is to wait; zeros there are computed with.
        through_entropy = hidden.device.type != "cpu" or bool(grad_entropies.any())
        for number, start in enumerate(range(0, hidden.shape[0], ctx.chunk)):
            rows = slice(start, start + ctx.chunk)
            outer, picked = grad_logprobs[rows, None], targets[rows, None]
            # d logprob / d logits = onehot - p;  d entropy / d logits = -p (log p + entropy).
            if kept and not through_entropy:
                grad = kept[number].mul_(-outer.to(hidden.dtype))
            else:
                log_p = F.linear(hidden[rows], weight).float().sub_(lses[rows, None])
                p = log_p.exp()
                inner = log_p.add_(entropies[rows, None]).mul_(grad_entropies[rows, None])
                grad = inner.add_(outer).mul_(p).neg_().to(hidden.dtype)
            # The target's entry anew: 1 - p would be lost where p was rounded to nearly 1.
            exact = -torch.expm1(logprobs[rows, None]) * outer
            if through_entropy:
                log_p = logprobs[rows, None]
                spread = log_p.exp() * (log_p + entropies[rows, None])
                exact -= spread * grad_entropies[rows, None]
            grad.scatter_(1, picked, exact.to(grad.dtype))
            torch.mm(grad, weight, out=grad_hidden[rows])
            grad_weight += grad.t() @ hidden[rows]
        return grad_hidden, grad_weight.to(weight.dtype), None, None


def token_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and entropy of each distribution, both in nats and float32.

    Args:
        hidden: [..., H] hidden states after the last norm.
        weight: [V, H] output embeddings, in the data type of `hidden`.
        targets: [...] token ids.
        temperature: The logits are divided by it, as they were when sampled.
        chunk: Rows computed at once.
    """
    shape = targets.shape
    flat, wanted = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    if temperature != 1.0:
        flat = flat / temperature
    logprobs, entropies = _TokenLogprobs.apply(flat, weight, wanted, chunk)
    return logprobs.view(shape), entropies.view(shape)
