"""The end of a language model: hidden states to the vocabulary, computed in chunks of rows.

Cross entropy, log-probabilities with entropy, and their gradients never hold the whole matrix of
logits (tokens x vocabulary), which would be the largest tensor of a step by far. Nor does the
divergence from a teacher. Sampling is sampling.py's.
"""

import math
from typing import Any

import torch
from playout.rlhf.model.layers import _elementwise as compiled
from playout.rlhf.model.layers.elementwise import is_plain, row_threads
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

__all__ = ["DIVERGENCES", "cross_entropy", "distillation", "token_logprobs"]

IGNORE = -100
# Logits of up to so many bytes are kept for the backward pass; more are computed twice.
KEPT_BYTES = 128 << 20
# 512 rows of a few thousand words stay in the processor's cache.
CHUNK = 512
# Of two models' logits, several copies of which are compared.
CHUNK_NUMBERS = 1 << 23


def _likelihood(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each row of logits [N, V]: log p of its target, entropy of p, log sum exp; float32 [N]."""
    rows, size = logits.shape
    if is_plain(logits):
        log_p = torch.log_softmax(logits.float(), dim=-1)
        picked = targets[:, None]
        logprobs = log_p.gather(1, picked)[:, 0]
        entropies = -(log_p.exp() * log_p).sum(-1)
        return logprobs, entropies, logits.gather(1, picked)[:, 0].float() - logprobs
    if rows and not 0 <= int(targets.min()) <= int(targets.max()) < size:
        raise IndexError(f"targets must be from 0 to {size - 1}")
    logprobs, entropies, lse = torch.empty(3, rows)
    compiled.likelihood(
        logits.data_ptr(),
        targets.data_ptr(),
        (logprobs.data_ptr(), entropies.data_ptr(), lse.data_ptr()),
        size,
        logits.dtype == torch.bfloat16,
        rows,
        row_threads(rows, size),
    )
    return logprobs, entropies, lse


def _likelihood_back(
    logits: Tensor,
    targets: Tensor,
    found: tuple[Tensor, Tensor, Tensor],
    outer: Tensor,
    spread: Tensor,
) -> Tensor:
    """The gradient [N, V] of `outer` log p and `spread` entropies; may overwrite the logits.

    d log p / d logits = onehot - p;  d entropy / d logits = -p (log p + entropy).
    """
    logprobs, entropies, lse = found
    if is_plain(logits):
        log_p = logits.float() - lse[:, None]
        weight = outer[:, None] + spread[:, None] * (log_p + entropies[:, None])
        grad = log_p.exp_().mul_(weight).neg_()
        # The target's entry anew: 1 - p would be lost where p was rounded to nearly 1.
        own = -torch.expm1(logprobs) * outer - logprobs.exp() * (logprobs + entropies) * spread
        return grad.scatter_(1, targets[:, None], own[:, None]).to(logits.dtype)
    rows, size = logits.shape
    compiled.likelihood_back(
        logits.data_ptr(),
        targets.data_ptr(),
        (logprobs.data_ptr(), entropies.data_ptr(), lse.data_ptr()),
        outer.data_ptr(),
        spread.data_ptr(),
        size,
        logits.dtype == torch.bfloat16,
        rows,
        row_threads(rows, size),
    )
    return logits


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
            found = _likelihood(logits, targets[rows])
            total -= found[0].sum()
            if grad_hidden is None or grad_weight is None:
                continue
            outer = torch.full_like(found[0], -1.0)
            grad = _likelihood_back(logits, targets[rows], found, outer, torch.zeros_like(outer))
            torch.mm(grad, weight, out=grad_hidden[rows])
            grad_weight += grad.t() @ hidden[rows]
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grad, (grad_weight * grad).to(ctx.weight_dtype), None, None


def cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    places: Tensor | None = None,
    chunk: int = CHUNK,
) -> tuple[Tensor, int]:
    """Mean negative log-likelihood of `targets` in nats, and the number of tokens behind it.

    Args:
        hidden: [..., H] hidden states after the last norm.
        weight: [V, H] output embeddings, in the data type of `hidden`.
        targets: [...] token ids; rows equal to `IGNORE` count for nothing.
        places: int64 [N], the numbers of the flattened rows that have a target, where the caller
            knows them (a batch that was made on the processor does); looked for if None.
        chunk: Rows computed at once.
    """
    flat, wanted = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    if places is None:
        places = (wanted != IGNORE).nonzero()[:, 0]
    count = len(places)
    if count < wanted.numel():
        flat, wanted = flat[places], wanted[places]
    if torch.compiler.is_compiling():
        total = F.cross_entropy(F.linear(flat, weight).float(), wanted, reduction="sum")
    else:
        total = _CrossEntropy.apply(flat, weight, wanted.contiguous(), chunk)
    return total / max(count, 1), count


class _TokenLogprobs(Function):
    """Keeps the logits for the backward pass where they are small enough."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        size = hidden.shape[0] * weight.shape[0] * hidden.element_size()
        keep = any(ctx.needs_input_grad[:2]) and size <= KEPT_BYTES
        kept, parts = [], []
        for start in range(0, max(1, hidden.shape[0]), chunk):
            rows = slice(start, start + chunk)
            logits = F.linear(hidden[rows], weight)
            parts.append(_likelihood(logits, targets[rows]))
            if keep:
                kept.append(logits)
        logprobs, entropies, lses = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(hidden, weight, targets, logprobs, entropies, lses, *kept)
        ctx.chunk = chunk
        return logprobs, entropies

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, grad_logprobs: Tensor, grad_entropies: Tensor
    ) -> tuple[Tensor, Tensor, None, None]:
        hidden, weight, targets, logprobs, entropies, lses, *kept = ctx.saved_tensors
        outer, spread = grad_logprobs.contiguous(), grad_entropies.contiguous()
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        for number, start in enumerate(range(0, hidden.shape[0], ctx.chunk)):
            rows = slice(start, start + ctx.chunk)
            logits = kept[number] if kept else F.linear(hidden[rows], weight)
            found = logprobs[rows], entropies[rows], lses[rows]
            grad = _likelihood_back(logits, targets[rows], found, outer[rows], spread[rows])
            torch.mm(grad, weight, out=grad_hidden[rows])
            grad_weight += grad.t() @ hidden[rows]
        return grad_hidden, grad_weight.to(weight.dtype), None, None


def token_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    allowed: Tensor | None = None,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and entropy of each distribution, both in nats and float32.

    Args:
        hidden: [..., H] hidden states after the last norm.
        weight: [V, H] output embeddings, in the data type of `hidden`.
        targets: [...] token ids.
        temperature: The logits are divided by it, as they were when sampled.
        allowed: int64 [..., K], the tokens among which each target was chosen, padded with -1;
            nothing but -1 where that was the whole vocabulary, as it is everywhere if None.
        chunk: Rows computed at once.
    """
    shape = targets.shape
    flat, wanted = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    if temperature != 1.0:
        flat = flat / temperature
    if allowed is None:
        logprobs, entropies = _TokenLogprobs.apply(flat, weight, wanted.contiguous(), chunk)
        return logprobs.view(shape), entropies.view(shape)
    few = allowed.reshape(-1, allowed.shape[-1])
    of_all, of_few = (few[:, 0] < 0).nonzero()[:, 0], (few[:, 0] >= 0).nonzero()[:, 0]
    anything = _TokenLogprobs.apply(flat[of_all], weight, wanted[of_all].contiguous(), chunk)
    listed = _listed_logprobs(flat[of_few], weight, wanted[of_few], few[of_few])
    logprobs, entropies = (
        torch.zeros(len(wanted), device=flat.device)
        .index_put((of_all,), whole)
        .index_put((of_few,), part)
        .view(shape)
        for whole, part in zip(anything, listed, strict=True)
    )
    return logprobs, entropies


def _listed_logprobs(
    hidden: Tensor, weight: Tensor, targets: Tensor, allowed: Tensor
) -> tuple[Tensor, Tensor]:
    """Of the distribution over the tokens `allowed` [N, K] alone; no others meet `hidden` [N, H].

    All rows meet the tokens of any of them at once: they are few, and often the same.
    """
    there = allowed >= 0
    ids, place = allowed.clamp(min=0).unique(return_inverse=True)
    count = torch.zeros(len(targets), len(ids), dtype=torch.int32, device=hidden.device)
    barred = count.scatter_add_(1, place, there.int()) == 0
    logits = F.linear(hidden, weight[ids]).float().masked_fill(barred, -torch.inf)
    log_p = torch.log_softmax(logits, dim=-1)
    entropies = -(log_p.exp() * log_p.masked_fill(barred, 0.0)).sum(-1)
    return log_p.gather(1, torch.searchsorted(ids, targets)[:, None])[:, 0], entropies


def _forward_kl(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    p = log_p.exp()
    return (p * (log_p - log_q)).sum(-1), log_q.exp() - p


def _reverse_kl(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    q, ratio = log_q.exp(), log_q - log_p
    losses = (q * ratio).sum(-1)
    return losses, q * (ratio - losses[:, None])


def _jsd(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    p, q = log_p.exp(), log_q.exp()
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    ratio = log_q - log_m
    mine = (q * ratio).sum(-1)
    # The derivative by way of the middle distribution is nothing: it is where both sums are least.
    return ((p * (log_p - log_m)).sum(-1) + mine) / 2, q * (ratio - mine[:, None]) / 2


_DIVERGENCES = {"forward": _forward_kl, "reverse": _reverse_kl, "jsd": _jsd}
DIVERGENCES = tuple(_DIVERGENCES)
"""KL(teacher || student), KL(student || teacher), and the mean of both to the middle."""


class _Distillation(Function):
    """Divergence from a teacher and cross entropy in one pass, both gradients in forward."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        teacher: tuple[Tensor, Tensor],
        targets: Tensor,
        divergence: tuple[str, float, float],
        chunk: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        kind, temperature, label_weight = divergence
        wants = any(ctx.needs_input_grad[:2])
        grad_hidden = torch.empty_like(hidden) if wants else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wants else None
        far = torch.zeros((), dtype=torch.float32, device=hidden.device)
        nats, same = torch.zeros_like(far), torch.zeros_like(far)
        for start in range(0, hidden.shape[0], chunk):
            rows = slice(start, start + chunk)
            logits = F.linear(hidden[rows], weight).float()
            theirs = F.linear(teacher[0][rows], teacher[1]).float()
            picked = targets[rows, None]
            same += (logits.argmax(-1) == theirs.argmax(-1)).sum()
            log_p = torch.log_softmax(theirs / temperature, dim=-1)
            log_q = torch.log_softmax(logits / temperature, dim=-1)
            losses, grad = _DIVERGENCES[kind](log_p, log_q)
            far += losses.sum() * temperature**2
            log_own = log_q if temperature == 1.0 else torch.log_softmax(logits, dim=-1)
            nats -= log_own.gather(1, picked).sum()
            if grad_hidden is None or grad_weight is None:
                continue
            grad = grad.mul_(temperature * (1 - label_weight))
            if label_weight:
                grad += label_weight * log_own.exp()
                grad.scatter_add_(1, picked, grad.new_full(picked.shape, -label_weight))
            grad = grad.to(weight.dtype)
            torch.mm(grad, weight, out=grad_hidden[rows])
            grad_weight += grad.t() @ hidden[rows]
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.weight_dtype = weight.dtype
        ctx.mark_non_differentiable(nats, same)
        return (1 - label_weight) * far + label_weight * nats, nats, same

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        grad_hidden, grad_weight = ctx.saved_tensors
        moved = (grad_weight * grad).to(ctx.weight_dtype)
        return grad_hidden * grad, moved, None, None, None, None


def distillation(
    hidden: Tensor,
    weight: Tensor,
    teacher: tuple[Tensor, Tensor],
    targets: Tensor,
    *,
    temperature: float = 1.0,
    label_weight: float = 0.0,
    divergence: str = "forward",
) -> tuple[Tensor, dict[str, Tensor]]:
    """How far the next-token probabilities are from a teacher's, over the whole vocabulary.

    The mean over tokens of `(1 - label_weight) * temperature² * divergence + label_weight * nats`
    (Hinton et al. 2015; Gu et al. 2023 for the reverse). No more logits are held at once than
    `CHUNK_NUMBERS`, a student's and a teacher's.

    Args:
        hidden: [N, H] of the student, in the type of `weight`.
        weight: [V, H] output embeddings of the student.
        teacher: The same of the teacher, [N, H'] and [V, H'], which takes no gradient.
        targets: int64 [N], the tokens that were written.
        temperature: Both logits are divided by it in the divergence.
        label_weight: From 0, the teacher alone, to 1.
        divergence: One of `DIVERGENCES`.

    Returns:
        The loss and, without gradient, `label_loss` in nats a token and `agreement`, the share of
        tokens whose likeliest next one is the teacher's.
    """
    count = max(1, hidden.shape[0])
    chunk = max(1, min(CHUNK, CHUNK_NUMBERS // weight.shape[0]))
    total, nats, same = _Distillation.apply(  # type: ignore[no-untyped-call]
        hidden, weight, teacher, targets, (divergence, temperature, label_weight), chunk
    )
    return total / count, {"label_loss": nats / count, "agreement": same / count}
