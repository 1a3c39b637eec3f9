"""A layer's weights as decoding wants them, with all that can be folded in.

That is norm gains, adapters and the attention's scale. Queries and keys are interleaved, so that a
rotation is one product of complex numbers. Weights stay as they were when they were folded. The
cache and the products are generation/decoder.py's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from playout.rlhf.model.adapters.held import QuantizedProjection
from playout.rlhf.model.transformer import Block
from torch import Tensor

__all__ = ["LayerWeights", "fold", "step_array", "step_arrays"]


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """A layer's weights in the type of products; biases likewise."""

    qkv: Tensor  # [(heads + 2 * kv heads) * D, H]
    out: Tensor  # [H, heads * D]
    gate_up: Tensor  # [2 * I, H]
    down: Tensor  # [H, I]
    qkv_bias: Tensor | None
    out_bias: Tensor | None
    gate_up_bias: Tensor | None
    down_bias: Tensor | None
    gains: Tensor | None  # float32 [heads + kv heads, D], if heads are normalised
    window: int  # tokens that a query sees, itself included; 0 for all
    rotates: bool
    router: Tensor | None  # float32 [E, H] of a mixture; its gate_up is [E, 2 * I, H], down alike
    integers: Mapping[str, Tensor] | None  # of a layer held in int8: what the compiled step reads


def step_array(weight: Tensor) -> NDArray[Any]:
    """A weight as NumPy sees it: bfloat16 by its bits."""
    plain = weight.contiguous()
    return (plain.view(torch.uint16) if plain.dtype == torch.bfloat16 else plain).numpy()


def step_arrays(weights: LayerWeights) -> dict[str, Any]:
    """A layer as the compiled step takes it: biases, gains and router in float32."""
    found: dict[str, Any] = {"window": weights.window, "rotates": weights.rotates}
    for name in ("qkv", "out", "gate_up", "down"):
        found[name] = step_array(getattr(weights, name))
    for name in ("qkv_bias", "out_bias", "gate_up_bias", "down_bias", "gains", "router"):
        bias = getattr(weights, name)
        found[name] = None if bias is None else bias.float().contiguous().numpy()
    found["input_gain"] = found["inner_gain"] = None
    return found | {name: array.numpy() for name, array in (weights.integers or {}).items()}


def fold(block: Block, dtype: torch.dtype) -> LayerWeights:
    """The weights of a layer with norm gains, adapters and the attention's scale folded in.

    The two halves of each query and key head are interleaved, so that a rotation is one product of
    complex numbers; keys are stored in that order, and products of queries and keys are the same.
    """
    config = block.config
    queries = config.num_attention_heads * config.head_dim
    rotated = queries + config.num_key_value_heads * config.head_dim
    scale, gains = config.head_dim**-0.5, None
    if block.q_norm is not None and block.k_norm is not None:
        # The norm would undo a scale in the weights, so that it lies in the gain.
        q_gain = _interleaved(block.q_norm.float() * scale, config.head_dim)
        k_gain = _interleaved(block.k_norm.float(), config.head_dim)
        heads = config.num_attention_heads, config.num_key_value_heads
        gains = torch.cat([q_gain.expand(heads[0], -1), k_gain.expand(heads[1], -1)])
        scale = 1.0

    def arranged(rows: Tensor) -> Tensor:
        return torch.cat([_interleaved(rows[:rotated], config.head_dim), rows[rotated:]])

    def folded(weight: Tensor, kind: torch.dtype = dtype) -> Tensor:
        weight = weight.float().clone()
        if scale != 1.0:
            weight[:queries] *= scale
        return arranged(weight).to(kind)

    def integers() -> dict[str, Tensor] | None:
        if block.experts is not None:
            return None
        parts = block.qkv_proj, block.o_proj, block.gate_up_proj, block.down_proj
        found = {
            "input_gain": block.input_layernorm.detach().float(),
            "inner_gain": block.post_attention_layernorm.detach().float(),
        }
        for name, part in zip(("qkv", "out", "gate_up", "down"), parts, strict=True):
            if not isinstance(part, QuantizedProjection) or part.codes.dtype != torch.int8:
                return None
            first = name == "qkv"
            scales = folded(part.scales, torch.float32) if first else part.scales
            found[name] = arranged(part.codes) if first else part.codes
            found[f"{name}_scales"] = scales[:, 0].contiguous()
        return found

    def plain(bias: Tensor | None) -> Tensor | None:
        return None if bias is None else bias.to(dtype)

    gain, experts = block.post_attention_layernorm, block.experts
    if experts is None:
        gate_up, down = block.gate_up_proj.effective(gain), block.down_proj.effective()
        inner_bias, down_bias = block.gate_up_proj.bias, block.down_proj.bias
    else:
        shape = config.num_experts, -1
        gate_up = experts.gate_up_proj.effective(gain).unflatten(0, shape)
        down = experts.down_proj.effective().unflatten(0, shape)
        inner_bias = down_bias = None
    bias = block.qkv_proj.bias
    return LayerWeights(
        qkv=folded(block.qkv_proj.effective(block.input_layernorm)),
        out=block.o_proj.effective().to(dtype),
        gate_up=gate_up.to(dtype),
        down=down.to(dtype),
        qkv_bias=None if bias is None else folded(bias),
        out_bias=plain(block.o_proj.bias),
        gate_up_bias=plain(inner_bias),
        down_bias=plain(down_bias),
        gains=gains,
        window=block.window,
        rotates=block.rotates,
        router=None if experts is None else experts.router.effective(gain).float(),
        integers=integers(),
    )


def _interleaved(rows: Tensor, size: int) -> Tensor:
    """Rows [heads * D, ...] with the two halves of each head interleaved."""
    return rows.unflatten(0, (-1, 2, size // 2)).transpose(1, 2).flatten(0, 2).clone()
