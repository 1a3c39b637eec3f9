"""Weights as codes of few bits: int8 with a scale a row, NF4 with a scale for every 64 weights.

NF4 (Dettmers et al. 2023) has sixteen numbers, quantiles of a normal distribution, two codes a
byte. What holds codes, and what is made of them, is said where they are held (rlhf's
model/adapters/held.py, boards/smaller/held.py). Left out: products of codes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["CODES", "NF4_BLOCK", "from_codes", "nf4_values", "to_codes"]

CODES = ("int8", "nf4")
"""What weights can be held in."""
NF4_BLOCK = 64


def nf4_values() -> Tensor:
    """The 16 numbers of NF4, float32, ascending from -1 to 1.

    Eight quantiles of the normal distribution above zero, seven below, and zero itself, scaled to
    end at 1; the outermost quantile is the mean of those of 1/32 and 1/30 of the mass.
    """
    edge = 1 - (1 / 32 + 1 / 30) / 2
    above, below = (
        torch.special.ndtri(torch.linspace(edge, 0.5, count + 1, dtype=torch.float64)[:-1])
        for count in (8, 7)
    )
    values = torch.cat([-below, torch.zeros(1, dtype=torch.float64), above.flip(0)])
    return (values / values.max()).float()


def to_codes(weight: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Codes and scales of a matrix.

    Args:
        weight: float32 [out, in]; of nf4 a multiple of 64 numbers.
        kind: one of `CODES`.

    Returns:
        int8 [out, in] and float32 [out, 1]; or uint8 [out * in / 2], of two codes the first above,
        and float32 [out * in / 64].
    """
    if kind == "int8":
        scales = weight.abs().amax(1, keepdim=True).clamp(min=1e-30) / 127
        return (weight / scales).round().to(torch.int8), scales
    values = nf4_values().to(weight.device)
    blocks = weight.reshape(-1, NF4_BLOCK)
    scales = blocks.abs().amax(1)
    scaled = blocks / scales.clamp(min=1e-30)[:, None]
    # The nearest of sixteen: how many of the fifteen middles between neighbours lie below.
    codes = torch.bucketize(scaled, (values[1:] + values[:-1]) / 2).to(torch.uint8).view(-1, 2)
    return codes[:, 0] << 4 | codes[:, 1], scales


def from_codes(codes: Tensor, scales: Tensor) -> Tensor:
    """What `to_codes` made codes of, nearly: float32 [out, in] of int8, [out * in] of nf4."""
    if codes.dtype == torch.int8:
        return codes * scales
    both = functional.embedding(codes.int(), _pairs(codes.device))
    return (both.view(-1, NF4_BLOCK) * scales[:, None]).flatten()


_tables: dict[torch.device, Tensor] = {}


def _pairs(device: torch.device) -> Tensor:
    """What each byte stands for, float32 [256, 2]."""
    if device not in _tables:
        values = nf4_values()
        _tables[device] = torch.cartesian_prod(values, values).to(device)
    return _tables[device]
