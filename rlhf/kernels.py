"""Inner operations of the Transformer with hand-written gradients: few passes over memory.

RMS normalisation without gain, rotary positions with the split into heads, SwiGLU and short-
sequence attention. Each runs in the data type of its input; under `torch.compile` the plain
formulas are traced instead and fused by the compiler. Parameters, masks and shapes of whole layers
are transformer.py's; the vocabulary is vocabulary.py's.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

__all__ = ["attention", "rms_normalize", "rotary_heads", "swiglu"]

# Up to this many tokens a row the full score matrix beats the tiled kernel on a CPU in bfloat16.
MAX_MATERIALIZED = 512


class _RMSNormalize(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        y = torch.empty_like(x, dtype=dtype)
        torch.mul(x, scale, out=y)
        ctx.save_for_backward(y, scale)
        ctx.input_dtype = x.dtype
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        y, scale = ctx.saved_tensors
        along = (grad * y).mean(dim=-1, keepdim=True, dtype=torch.float32)
        out = torch.addcmul(grad.to(along.dtype), y, along, value=-1).mul_(scale)
        return out.to(ctx.input_dtype), None, None


def rms_normalize(x: Tensor, eps: float, dtype: torch.dtype | None = None) -> Tensor:
    """`x / sqrt(mean(x²) + eps)` over the last axis, returned in `dtype` (the input's if None).

    The gain of an RMSNorm is not applied here: it is folded into the weight of the next projection,
    which is smaller than the activations.
    """
    dtype = dtype or x.dtype
    if torch.compiler.is_compiling():
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(dtype)
    return _RMSNormalize.apply(x, eps, dtype)  # type: ignore[no-any-return]


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """Write the rotation of `x` [..., D] by the angles of `cos, sin` [..., D/2] into `out`."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out[..., half:]).addcmul_(first, sin)


class _RotaryHeads(Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, num_heads: int, num_kv_heads: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows, length, width = qkv.shape
        size = width // (num_heads + 2 * num_kv_heads)
        turned = num_heads + num_kv_heads
        x = qkv.view(rows, length, turned + num_kv_heads, size).transpose(1, 2)
        q = x.new_empty(rows, num_heads, length, size)
        k, v = (x.new_empty(rows, num_kv_heads, length, size) for _ in range(2))
        _rotate(x[:, :num_heads], cos, sin, q)
        _rotate(x[:, num_heads:turned], cos, sin, k)
        v.copy_(x[:, turned:])
        ctx.save_for_backward(cos, sin)
        return q, k, v

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, grad_q: Tensor, grad_k: Tensor, grad_v: Tensor
    ) -> tuple[Tensor, None, None, None, None]:
        cos, sin = ctx.saved_tensors
        rows, num_heads, length, size = grad_q.shape
        kv = grad_k.shape[1]
        grad = grad_q.new_empty(rows, length, num_heads + 2 * kv, size)
        view = grad.transpose(1, 2)
        # The inverse of a rotation is the rotation by the opposite angle.
        _rotate(grad_q, cos, -sin, view[:, :num_heads])
        _rotate(grad_k, cos, -sin, view[:, num_heads : num_heads + kv])
        view[:, num_heads + kv :].copy_(grad_v)
        return grad.view(rows, length, -1), None, None, None, None


def rotary_heads(
    qkv: Tensor, cos: Tensor, sin: Tensor, *, num_heads: int, num_kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Split a fused projection into heads and turn queries and keys by their positions.

    Args:
        qkv: [B, L, (num_heads + 2 * num_kv_heads) * D].
        cos: Cosines of the angles, [L, D/2] or [B, 1, L, D/2], in the type of `qkv`.
        sin: Sines likewise.
        num_heads: Query heads.
        num_kv_heads: Key and value heads.

    Returns:
        Queries [B, num_heads, L, D], keys and values [B, num_kv_heads, L, D].
    """
    if not torch.compiler.is_compiling():
        return _RotaryHeads.apply(qkv, cos, sin, num_heads, num_kv_heads)  # type: ignore[no-any-return]
    heads = num_heads + 2 * num_kv_heads
    x = qkv.view(*qkv.shape[:2], heads, qkv.shape[-1] // heads).transpose(1, 2)
    q, k, v = x.split([num_heads, num_kv_heads, num_kv_heads], dim=1)
    return _rotated(q, cos, sin), _rotated(k, cos, sin), v


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class _SwiGLU(Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        out = torch.empty_like(gate_up)
        grad_gate, grad_up = out.chunk(2, dim=-1)
        torch.mul(F.silu(gate), grad, out=grad_up)
        grad_gate.copy_(torch.ops.aten.silu_backward(grad * up, gate))
        return out


def swiglu(gate_up: Tensor) -> Tensor:
    """`silu(gate) * up` of a fused projection [..., 2 * I]; returns [..., I]."""
    if torch.compiler.is_compiling():
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up
    return _SwiGLU.apply(gate_up)  # type: ignore[no-any-return]


class _Attention(Function):
    """Attention by whole blocks of the score matrix; a causal block stops at its last query."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool
    ) -> Tensor:
        rows, heads, length, size = q.shape
        kv_heads = k.shape[1]
        k, v = k.reshape(-1, length, size), v.reshape(-1, length, size)
        out = torch.empty_like(q)
        weights = []
        for start, stop, limit in _query_blocks(length, causal):
            # The query heads that share a key head are more rows of the same product.
            block = _grouped(q[:, :, start:stop], kv_heads).mul(size**-0.5)
            scores = torch.bmm(block, k[:, :limit].transpose(1, 2))
            view = scores.view(rows, kv_heads, -1, stop - start, limit)
            if causal:
                future = torch.ones(stop - start, limit, dtype=torch.bool, device=q.device)
                view.masked_fill_(future.triu_(start + 1), _HIDDEN)
            if mask is not None:
                seen = mask[:, :, start:stop] if mask.shape[2] > 1 else mask
                view.masked_fill_(~seen[..., :limit].unsqueeze(2), _HIDDEN)
            weight = torch.softmax(scores, dim=-1)
            weights.append(weight)
            out[:, :, start:stop] = torch.bmm(weight, v[:, :limit]).view(
                rows, heads, stop - start, size
            )
        ctx.save_for_backward(q, k, v, *weights)
        ctx.causal = causal
        ctx.kv_heads = kv_heads
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q, k, v, *weights = ctx.saved_tensors
        rows, heads, length, size = q.shape
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        blocks = _query_blocks(length, ctx.causal)
        for (start, stop, limit), weight in zip(blocks, weights, strict=True):
            out = _grouped(grad[:, :, start:stop], ctx.kv_heads)
            grad_v[:, :limit] += torch.bmm(weight.transpose(1, 2), out)
            inner = torch.bmm(out, v[:, :limit].transpose(1, 2))
            inner = torch._softmax_backward_data(inner, weight, -1, weight.dtype).mul_(size**-0.5)
            grad_q[:, :, start:stop] = torch.bmm(inner, k[:, :limit]).view(
                rows, heads, stop - start, size
            )
            block = _grouped(q[:, :, start:stop], ctx.kv_heads)
            grad_k[:, :limit] += torch.bmm(inner.transpose(1, 2), block)
        shape = rows, ctx.kv_heads, length, size
        return grad_q, grad_k.view(shape), grad_v.view(shape), None, None


# Finite, so that a fully masked padding row gives a mean of values instead of NaN.
_HIDDEN = -30000.0
_BLOCK = 64


def _query_blocks(length: int, causal: bool) -> list[tuple[int, int, int]]:
    """(first query, end of queries, end of keys) of each block."""
    if not causal:
        return [(0, length, length)]
    stops = [*range(_BLOCK, length, _BLOCK), length]
    return [(max(0, start), stop, stop) for start, stop in zip([0, *stops], stops, strict=False)]


def _grouped(x: Tensor, kv_heads: int) -> Tensor:
    """[B, H, L, D] as [B * kv_heads, H / kv_heads * L, D]."""
    return x.reshape(x.shape[0] * kv_heads, -1, x.shape[-1])


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool, mask: Tensor | None = None
) -> Tensor:
    """Softmax attention with grouped key heads.

    Args:
        q: [B, H, L, D].
        k: [B, H', L, D] with H' dividing H.
        v: Like `k`.
        causal: A query sees no later key.
        mask: bool, [B, 1, L, L] or [B, 1, 1, L], True where a query may look; joined with `causal`.

    Returns:
        [B, H, L, D].
    """
    length = q.shape[2]
    if q.device.type == "cpu" and length <= MAX_MATERIALIZED and not torch.compiler.is_compiling():
        return _Attention.apply(q, k, v, mask, causal)  # type: ignore[no-any-return]
    if mask is not None and causal:
        mask = mask & torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
        causal = False
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1]
    )
