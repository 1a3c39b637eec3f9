"""Softmax attention: compiled passes for rows of usual length on a processor, torch's elsewhere.

Neither holds the matrix of weights: blocks of it are computed where they are used, and once more
for the gradient (Dao et al. 2022, "FlashAttention"). A graph of `torch.compile` calls the same
functions as an operator of its own.
"""

from typing import Any

import torch
from playout.agents.kernels.processor import openmp_team
from playout.rlhf.model.layers import _attention as compiled
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

__all__ = ["attention"]

# Longer rows are read faster by torch, which cuts them among threads by queries too.
MAX_LENGTH = 512
# Fewer multiplications than this are not worth another thread.
MIN_SHARED = 1 << 19

compiled.use_team(*openmp_team())


def _plan(
    q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, window: int
) -> tuple[tuple[int, int, int, int, int, int, int], int, float, bool, int, int]:
    """What the compiled functions are told of shapes: see there."""
    rows, heads, length, size = q.shape
    kv_heads = k.shape[1]
    work = rows * heads * length * length * size
    threads = max(1, min(torch.get_num_threads(), rows * kv_heads, work // MIN_SHARED))
    mask_rows, where = (0, 0) if mask is None else (mask.shape[2], mask.data_ptr())
    shape = heads, kv_heads, length, size, mask_rows, window, int(causal)
    return shape, where, size**-0.5, q.dtype == torch.bfloat16, rows * kv_heads, threads


def _forward(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, window: int
) -> tuple[Tensor, Tensor]:
    """The result like q [B, H, L, D], and the log of each query's sum, float32 [B, H, L]."""
    q, k, v = (x.contiguous() for x in (q, k, v))
    out, lse = torch.empty_like(q), torch.empty(q.shape[:3])
    where = q.data_ptr(), k.data_ptr(), v.data_ptr(), lse.data_ptr()
    compiled.attend(where, out.data_ptr(), *_plan(q, k, mask, causal, window))
    return out, lse


def _backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lse: Tensor,
    mask: Tensor | None,
    causal: bool,
    window: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v from that of the result."""
    grad, q, k, v = (x.contiguous() for x in (grad, q, k, v))
    found = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    where = q.data_ptr(), k.data_ptr(), v.data_ptr(), lse.data_ptr()
    by_q, by_k, by_v = found
    gradients = grad.data_ptr(), by_q.data_ptr(), by_k.data_ptr(), by_v.data_ptr()
    compiled.attend_back(where, gradients, *_plan(q, k, mask, causal, window))
    return found


class _Attention(Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, window: int
    ) -> Tensor:
        out, lse = _forward(q, k, v, mask, causal, window)
        ctx.save_for_backward(q, k, v, lse, mask)
        ctx.seen = causal, window
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q, k, v, lse, mask = ctx.saved_tensors
        return *_backward(grad, q, k, v, lse, mask, *ctx.seen), None, None, None


# The same for graphs of torch.compile, which look into no function but know an operator's shapes.


@torch.library.custom_op("playout::attention", mutates_args=())
def _operator(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, window: int
) -> tuple[Tensor, Tensor]:
    return _forward(q, k, v, mask, causal, window)


@torch.library.custom_op("playout::attention_back", mutates_args=())
def _operator_back(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lse: Tensor,
    mask: Tensor | None,
    causal: bool,
    window: int,
) -> tuple[Tensor, Tensor, Tensor]:
    return _backward(grad, q, k, v, lse, mask, causal, window)


@_operator.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, window: int
) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:3], dtype=torch.float32)


@_operator_back.register_fake
def _(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *seen: Any) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, mask, causal, window = inputs
    ctx.save_for_backward(q, k, v, output[1], mask)
    ctx.seen = causal, window


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return *_operator_back(grad, *ctx.saved_tensors, *ctx.seen), None, None, None


_operator.register_autograd(_differentiate, setup_context=_keep)


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool, mask: Tensor | None = None, window: int = 0
) -> Tensor:
    """Softmax attention with grouped key heads.

    Args:
        q: [B, H, L, D].
        k: [B, H', L, D] with H' dividing H.
        v: Like `k`.
        causal: A query sees no later key.
        mask: bool, [B, 1, L, L] or [B, 1, 1, L], True where a query may look; joined with `causal`.
        window: With `causal`, how many keys a query sees, its own included; 0 for all.

    Returns:
        [B, H, L, D].
    """
    length = q.shape[2]
    window = window if causal and window < length else 0
    usual = q.dtype in (torch.float32, torch.bfloat16) and q.dtype == k.dtype == v.dtype
    if q.device.type == "cpu" and usual and length <= MAX_LENGTH and compiled.ISA:
        # Once for both passes, which read it by its address.
        mask = None if mask is None else mask.expand(len(q), -1, -1, -1).contiguous()
        if torch.compiler.is_compiling():
            return _operator(q, k, v, mask, causal, window)[0]
        return _Attention.apply(q, k, v, mask, causal, window)  # type: ignore[no-any-return]
    if (mask is not None and causal) or window:
        seen = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
        if window:
            seen = seen.triu_(1 - window)
        mask = seen if mask is None else mask & seen
        causal = False
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1]
    )
