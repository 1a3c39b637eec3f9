"""Inner operations of the Transformer with hand-written gradients: few passes over memory.

RMS normalisation without gain, rotary positions with the split into heads, SwiGLU, all in compiled
code, and attention on short sequences; and the linear map. On a GPU, in float64 and under
`torch.compile` the plain formulas are traced instead. Masks and blocks are transformer.py's, the
vocabulary is lm_head.py's.
"""

from typing import Any

import torch
from playout.agents.kernels.processor import openmp_team
from playout.rlhf.model import _elementwise as compiled
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

__all__ = [
    "Projection",
    "addresses",
    "attention",
    "fold_gain",
    "is_plain",
    "rms_normalize",
    "rotary_heads",
    "row_threads",
    "swiglu",
    "swiglu_back",
]

# Up to this many tokens a row the full score matrix beats the tiled kernel on a CPU in bfloat16.
MAX_MATERIALIZED = 512
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


class _Attention(Function):
    """Attention by whole blocks of the score matrix; a causal block stops at its last query."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, window: int
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
                every = torch.ones(stop - start, limit, dtype=torch.bool, device=q.device)
                if window:
                    view.masked_fill_(every.tril(start - window), _HIDDEN)
                view.masked_fill_(every.triu_(start + 1), _HIDDEN)
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
        return grad_q, grad_k.view(shape), grad_v.view(shape), None, None, None


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
    if q.device.type == "cpu" and length <= MAX_MATERIALIZED and not torch.compiler.is_compiling():
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


class Projection(nn.Module):
    """A linear map whose input may carry a gain [in], folded into the weight.

    Attributes:
        weight: [out, in].
        bias: [out], or None.
    """

    bias: nn.Parameter | None

    def __init__(self, in_features: int, out_features: int, *, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.register_parameter("bias", nn.Parameter(torch.empty(out_features)) if bias else None)

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return self.weight.shape[0], self.weight.shape[1]

    def dense(self) -> Tensor:
        """The weight as plain numbers, [out, in], however it is held."""
        return self.weight

    def replaced(self, weight: Tensor) -> "Projection":
        """A plain projection with another weight [out, in] and the same bias; both learn."""
        plain = Projection(weight.shape[1], weight.shape[0])
        plain.weight = nn.Parameter(weight)
        plain.bias = None if self.bias is None else nn.Parameter(self.bias.detach())
        return plain

    def effective(self, gain: Tensor | None = None) -> Tensor:
        """The weight that stands in for gain and map, [out, in]."""
        weight = self.dense()
        return weight if gain is None else weight * gain

    def forward(self, x: Tensor, gain: Tensor | None = None) -> Tensor:
        """[..., in] to [..., out] in the type of `x`."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        weight = self.dense()
        weight = weight.to(x.dtype) if gain is None else fold_gain(weight, gain, x.dtype)
        return F.linear(x, weight, bias)
