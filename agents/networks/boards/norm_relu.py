"""Batch normalisation, an optional addition and ReLU as one layer, for networks that learn.

A small residual network spends as much time between its convolutions as in them when each of these
is an operation of its own. In bfloat16 on a CPU they are one compiled function forward and one
backward; anywhere else, and in evaluation, the plain operations do the same.
"""

from __future__ import annotations

from typing import Any

import torch
from playout.agents.kernels import _norm_relu as compiled
from playout.agents.kernels.processor import fuses_multiply_add
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

VECTOR_CHANNELS = 16  # the compiled functions take multiples of this


def norm_relu(x: Tensor, norm: nn.BatchNorm2d, residual: Tensor | None = None) -> Tensor:
    """`relu(norm(x) + residual)`; in training it also updates the running statistics.

    Args:
        x: [M, C, H, W].
        norm: with weights and running statistics.
        residual: of a shape that broadcasts to that of x; None adds nothing.
    """
    if not (
        norm.training
        and x.dtype == torch.bfloat16
        and norm.weight.dtype == torch.float32
        and x.device.type == "cpu"
        and x.shape[1] % VECTOR_CHANNELS == 0
        and fuses_multiply_add()
        and not torch.compiler.is_compiling()
    ):
        y = norm(x)
        return functional.relu(y if residual is None else y + residual, inplace=True)
    if residual is not None:
        residual = residual.to(x.dtype).expand_as(x)
    y, mean, variance = _NormReLU.apply(x, residual, norm.weight, norm.bias, norm.eps)
    update_running_statistics(norm, mean, variance, x.numel() // x.shape[1])
    return y  # type: ignore[no-any-return]


@torch.no_grad()
def update_running_statistics(
    norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int
) -> None:
    """Moves them towards those of a batch of `count` values a channel, as torch does.

    Args:
        norm: whose statistics they are.
        mean: [C].
        variance: [C], biased; the running one is unbiased.
        count: values a channel, M * H * W.
    """
    rate = norm.momentum
    assert rate is not None and norm.running_mean is not None and norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.running_mean.lerp_(mean, rate)
    norm.running_var.lerp_(variance * (count / max(count - 1, 1)), rate)
    norm.num_batches_tracked.add_(1)


class _NormReLU(Function):
    """The compiled pair of functions as an operation that autograd knows."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        layout = torch.channels_last
        x = x.contiguous(memory_format=layout)
        if residual is not None:
            residual = residual.contiguous(memory_format=layout)
        channels = x.shape[1]
        rows = x.numel() // channels
        y = torch.empty_like(x)
        mean, variance, *work = torch.empty(4, channels)
        compiled.forward(
            x.data_ptr(),
            0 if residual is None else residual.data_ptr(),
            y.data_ptr(),
            weight.data_ptr(),
            bias.data_ptr(),
            mean.data_ptr(),
            variance.data_ptr(),
            work[0].data_ptr(),
            eps,
            rows,
            channels,
        )
        ctx.save_for_backward(x, y, weight, mean, variance)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, y, weight, mean, variance = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        channels = x.shape[1]
        rows = x.numel() // channels
        grad_x = torch.empty_like(x)
        grad_residual = torch.empty_like(x) if ctx.needs_input_grad[1] else None
        # Three rows of work, which have to lie side by side.
        buffers = torch.empty(5, channels)
        grad_weight, grad_bias, work = buffers[0], buffers[1], buffers[2:]
        compiled.backward(
            grad.data_ptr(),
            x.data_ptr(),
            y.data_ptr(),
            weight.data_ptr(),
            mean.data_ptr(),
            variance.data_ptr(),
            grad_x.data_ptr(),
            0 if grad_residual is None else grad_residual.data_ptr(),
            grad_weight.data_ptr(),
            grad_bias.data_ptr(),
            work.data_ptr(),
            ctx.eps,
            rows,
            channels,
        )
        return grad_x, grad_residual, grad_weight, grad_bias, None
