"""Element-wise operations of the Transformer with hand-written gradients, each in one pass.

RMS normalisation without gain, rotary positions with the split into heads, SwiGLU, a gain folded
into a weight. On a GPU, in float64 and under `torch.compile` the plain formulas are traced instead,
which a compiler joins with what stands around them.
"""

from typing import Any

import torch
from playout.agents.kernels.processor import openmp_team
from playout.rlhf.model.layers import _elementwise as compiled
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

__all__ = [
    "addresses",
    "fold_gain",
    "is_plain",
    "rms_normalize",
    "rotary_heads",
    "row_threads",
    "swiglu",
    "swiglu_back",
]

# Fewer numbers than this are not worth another thread.
MIN_SHARED = 1 << 18
BF16 = torch.bfloat16

compiled.use_team(*openmp_team())


def row_threads(rows: int, width: int) -> int:
    """How many of torch's threads share so many rows."""
    return max(1, min(torch.get_num_threads(), rows * width // MIN_SHARED))


def is_plain(*tensors: Tensor) -> bool:
    """Whether the compiled functions cannot take these tensors."""
    return torch.compiler.is_compiling() or any(
        x.device.type != "cpu" or x.dtype not in (torch.float32, BF16) for x in tensors
    )


def addresses(*tensors: Tensor | None) -> tuple[int, ...]:
    """Where contiguous tensors lie, for compiled functions; 0 for none."""
    return tuple(0 if tensor is None else tensor.data_ptr() for tensor in tensors)


class _RMSNormalize(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, dtype: torch.dtype) -> Tensor:  # type: ignore[override]
        x = x.contiguous()
        width = x.shape[-1]
        rows = x.numel() // width
        y = torch.empty(x.shape, dtype=dtype)
        scale = torch.empty(rows)
        kinds = x.dtype == BF16, dtype == BF16
        where = x.data_ptr(), y.data_ptr(), scale.data_ptr()
        compiled.rms(*where, width, eps, *kinds, rows, row_threads(rows, width))
        ctx.save_for_backward(y, scale)
        ctx.input_dtype = x.dtype
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        y, scale = ctx.saved_tensors
        grad = grad.contiguous()
        rows, width = len(scale), y.shape[-1]
        out = torch.empty(y.shape, dtype=ctx.input_dtype)
        kinds = out.dtype == BF16, y.dtype == BF16
        where = grad.data_ptr(), y.data_ptr(), scale.data_ptr(), out.data_ptr()
        compiled.rms_back(*where, width, *kinds, rows, row_threads(rows, width))
        return out, None, None


def rms_normalize(x: Tensor, eps: float, dtype: torch.dtype | None = None) -> Tensor:
    """`x / sqrt(mean(x²) + eps)` over the last axis, returned in `dtype` (the input's if None).

    The gain of an RMSNorm is not applied here: it is folded into the weight of the next projection,
    which is smaller than the activations.
    """
    dtype = dtype or x.dtype
    if is_plain(x) or (x.dtype == BF16 and dtype != BF16) or dtype not in (torch.float32, BF16):
        wide = x if x.dtype == torch.float64 else x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(dtype)
    return _RMSNormalize.apply(x, eps, dtype)  # type: ignore[no-any-return]


class _FoldGain(Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, gain: Tensor, dtype: torch.dtype) -> Tensor:  # type: ignore[override]
        rows, width = weight.shape
        out = torch.empty(weight.shape, dtype=dtype)
        where = weight.data_ptr(), gain.data_ptr(), out.data_ptr()
        compiled.fold(*where, width, dtype == BF16, rows, row_threads(rows, width))
        ctx.save_for_backward(weight, gain)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        weight, gain = ctx.saved_tensors
        grad = grad.contiguous()
        rows, width = weight.shape
        out, sums = torch.empty_like(weight), torch.empty(-(-rows // compiled.FOLD), width)
        found = out.data_ptr(), sums.data_ptr()
        where = grad.data_ptr(), weight.data_ptr(), gain.data_ptr(), *found
        compiled.fold_back(*where, width, grad.dtype == BF16, rows, row_threads(rows, width))
        return out, sums.sum(0), None


def fold_gain(weight: Tensor, gain: Tensor, dtype: torch.dtype) -> Tensor:
    """`weight * gain` in `dtype`: a norm's gain [in] folded into the map [out, in] that follows."""
    usual = weight.dtype == gain.dtype == torch.float32 and dtype in (torch.float32, BF16)
    if not usual or is_plain(weight, gain) or not weight.is_contiguous():
        return (weight * gain).to(dtype)
    return _FoldGain.apply(weight, gain, dtype)  # type: ignore[no-any-return]


class _RotaryHeads(Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, num_heads: int, num_kv_heads: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows, length, width = qkv.shape
        size = width // (num_heads + 2 * num_kv_heads)
        q = qkv.new_empty(rows, num_heads, length, size)
        k, v = (qkv.new_empty(rows, num_kv_heads, length, size) for _ in range(2))
        ctx.save_for_backward(cos, sin)
        ctx.shape = length, num_heads, num_kv_heads, size // 2, cos.numel() // (size // 2)
        _rotate(ctx.shape, qkv.contiguous(), q, k, v, cos, sin, back=False)
        return q, k, v

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, grad_q: Tensor, grad_k: Tensor, grad_v: Tensor
    ) -> tuple[Tensor, None, None, None, None]:
        rows, num_heads, length, size = grad_q.shape
        width = (num_heads + 2 * grad_k.shape[1]) * size
        grad = grad_q.new_empty(rows, length, width)
        q, k, v = (part.contiguous() for part in (grad_q, grad_k, grad_v))
        _rotate(ctx.shape, grad, q, k, v, *ctx.saved_tensors, back=True)
        return grad, None, None, None, None


def _rotate(
    shape: tuple[int, int, int, int, int],
    qkv: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    back: bool,
) -> None:
    """Compute the parts from the whole, or back; rows are tokens."""
    q_at, k_at, v_at = q.data_ptr(), k.data_ptr(), v.data_ptr()
    rows = qkv.shape[0] * qkv.shape[1]
    compiled.rotary(
        qkv.data_ptr(),
        q_at,
        k_at,
        v_at,
        cos.data_ptr(),
        sin.data_ptr(),
        shape,
        qkv.dtype == BF16,
        back,
        rows,
        row_threads(rows, qkv.shape[2]),
    )


def rotary_heads(
    qkv: Tensor, cos: Tensor, sin: Tensor, *, num_heads: int, num_kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Split a fused projection into heads and rotate queries and keys by their positions.

    Args:
        qkv: [B, L, (num_heads + 2 * num_kv_heads) * D].
        cos: Cosines of the angles, float32 [L, D/2] or [B, 1, L, D/2].
        sin: Sines likewise.
        num_heads: Query heads.
        num_kv_heads: Key and value heads.

    Returns:
        Queries [B, num_heads, L, D], keys and values [B, num_kv_heads, L, D].
    """
    if not is_plain(qkv, cos):
        tables = cos.contiguous(), sin.contiguous()
        return _RotaryHeads.apply(qkv, *tables, num_heads, num_kv_heads)  # type: ignore[no-any-return]
    heads = num_heads + 2 * num_kv_heads
    x = qkv.view(*qkv.shape[:2], heads, qkv.shape[-1] // heads).transpose(1, 2)
    q, k, v = x.split([num_heads, num_kv_heads, num_kv_heads], dim=1)
    return _rotated(q, cos, sin), _rotated(k, cos, sin), v


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return rotated.to(x.dtype)


class _SwiGLU(Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:  # type: ignore[override]
        gate_up = gate_up.contiguous()
        ctx.save_for_backward(gate_up)
        inner = gate_up.shape[-1] // 2
        out = gate_up.new_empty(*gate_up.shape[:-1], inner)
        where = gate_up.data_ptr(), out.data_ptr()
        rows = out.numel() // inner
        threads = row_threads(rows, 2 * inner)
        compiled.swiglu(*where, inner, gate_up.dtype == BF16, rows, threads)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return swiglu_back(grad.contiguous(), *ctx.saved_tensors)


def swiglu(gate_up: Tensor) -> Tensor:
    """`silu(gate) * up` of a fused projection [..., 2 * I]; returns [..., I]."""
    if is_plain(gate_up):
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up
    return _SwiGLU.apply(gate_up)  # type: ignore[no-any-return]


def swiglu_back(grad: Tensor, gate_up: Tensor) -> Tensor:
    """The gradient [..., 2 * I] of what `swiglu` was given, from that of its result [..., I]."""
    if is_plain(grad, gate_up):
        gate, up = gate_up.chunk(2, dim=-1)
        sigmoid = torch.sigmoid(gate)
        by_gate = grad * up * sigmoid * (1 + gate * (1 - sigmoid))
        return torch.cat([by_gate, grad * gate * sigmoid], dim=-1)
    inner = grad.shape[-1]
    out, rows = torch.empty_like(gate_up), grad.numel() // inner
    where = grad.data_ptr(), gate_up.data_ptr(), out.data_ptr()
    threads = row_threads(rows, 2 * inner)
    compiled.swiglu_back(*where, inner, grad.dtype == BF16, rows, threads)
    return out
