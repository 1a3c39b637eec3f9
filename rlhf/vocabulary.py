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
    if bool((likelihood > 1e-30).all()):
        return likelihood.log()
    return torch.log_softmax(logits.float(), dim=-1).gather(1, picked)[:, 0]


def cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, ignore: int = IGNORE, chunk: int = CHUNK
) -> tuple[Tensor, int]:
    """Mean negative log-likelihood of `targets` in nats, and the number of tokens behind it.

    Args:
        hidden: [..., H] hidden states after the last norm.
        weight: [V, H] output embeddings, in the data type of `hidden`.
        targets: [...] token ids; rows equal to `ignore` count for nothing.
        ignore: The id that marks a row without a target.
        chunk: Rows computed at once.
    """
    flat, wanted = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    keep = wanted != ignore
    count = int(keep.sum())
    if count < wanted.numel():
        flat, wanted = flat[keep], wanted[keep]
    if torch.compiler.is_compiling():
        total = F.cross_entropy(F.linear(flat, weight).float(), wanted, reduction="sum")
    else:
        total = _CrossEntropy.apply(flat, weight, wanted, chunk)
    return total / max(count, 1), count


class _TokenLogprobs(Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        logprobs = hidden.new_empty(hidden.shape[0], dtype=torch.float32)
        entropies = torch.empty_like(logprobs)
        lses = torch.empty_like(logprobs)
        for start in range(0, hidden.shape[0], chunk):
            rows = slice(start, start + chunk)
            logits = F.linear(hidden[rows], weight).float().div_(temperature)
            log_p = torch.log_softmax(logits, dim=-1)
            lses[rows] = logits[:, 0] - log_p[:, 0]
            logprobs[rows] = log_p.gather(1, targets[rows, None])[:, 0]
            entropies[rows] = -log_p.exp().mul_(log_p).sum(-1)
        ctx.save_for_backward(hidden, weight, targets, lses, entropies)
        ctx.temperature, ctx.chunk = temperature, chunk
        return logprobs, entropies

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, grad_logprobs: Tensor, grad_entropies: Tensor
    ) -> tuple[Tensor, Tensor, None, None, None]:
        hidden, weight, targets, lses, entropies = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        through_entropy = bool(grad_entropies.any())
        for start in range(0, hidden.shape[0], ctx.chunk):
            rows = slice(start, start + ctx.chunk)
            logits = F.linear(hidden[rows], weight).float().div_(ctx.temperature)
            log_p = logits.sub_(lses[rows, None])
            p = log_p.exp()
            # d logprob / d logits = onehot - p;  d entropy / d logits = -p (log p + entropy).
            outer = grad_logprobs[rows, None]
            if through_entropy:
                inner = log_p.add_(entropies[rows, None]).mul_(grad_entropies[rows, None])
                grad = inner.add_(outer).mul_(p).neg_()
            else:
                grad = p.mul_(-outer)
            grad.scatter_add_(1, targets[rows, None], outer)
            grad = grad.div_(ctx.temperature).to(weight.dtype)
            torch.mm(grad, weight, out=grad_hidden[rows])
            grad_weight += grad.t() @ hidden[rows]
        return grad_hidden, grad_weight.to(weight.dtype), None, None, None


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
        chunk: Rows computed at once; the backward pass computes them again instead of keeping them.
    """
    shape = targets.shape
    flat, wanted = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    logprobs, entropies = _TokenLogprobs.apply(flat, weight, wanted, temperature, chunk)
    return logprobs.view(shape), entropies.view(shape)
