"""The end of a language model: hidden states to the vocabulary, computed in chunks of rows.

Cross entropy, log-probabilities with entropy, and their gradients never hold the whole matrix of
logits (tokens x vocabulary), which would be the largest tensor of a step by far. Nor does the
divergence from a teacher. Sampling is sampling.py's.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

__all__ = ["DIVERGENCES", "cross_entropy", "distillation", "token_logprobs"]

IGNORE = -100
# Probabilities of up to so many bytes are kept for the backward pass; more are computed twice.
KEPT_BYTES = 128 << 20
# 512 rows of a few thousand words stay in the processor's cache.
CHUNK = 512
# Of two models' logits, several copies of which are compared.
CHUNK_NUMBERS = 1 << 23


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
