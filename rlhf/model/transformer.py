"""The Transformer of every language stage: a Llama-shaped decoder or an encoder of its blocks.

RMSNorm, rotary positions, grouped-query attention, SwiGLU, tied or free output embeddings; biases,
normalised heads, sliding windows and experts where a shape asks for them. The model maps token ids
to hidden states; what is made of them (next token, masked token, value, class) is heads.py's and
lm_head.py's. Cached decoding is generation/decoder.py's, files are huggingface.py's.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from playout.agents.runs.devices import resolve_dtype
from playout.errors import ConfigError
from playout.rlhf.model.config import TransformerConfig, rotary_table
from playout.rlhf.model.experts.layer import Experts
from playout.rlhf.model.layers.attention import attention
from playout.rlhf.model.layers.elementwise import fold_gain, rms_normalize, rotary_heads, swiglu
from playout.rlhf.model.layers.projection import Projection
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

__all__ = [
    "SIZES",
    "Projection",
    "Transformer",
    "TransformerConfig",
    "autocast",
    "packed_mask",
    "pick_dtype",
    "sized_config",
]


# name -> hidden, intermediate, layers, heads, key heads, context
SIZES: dict[str, tuple[int, int, int, int, int, int]] = {
    "tiny": (128, 344, 2, 4, 2, 128),
    "small": (256, 688, 4, 4, 2, 256),
    "base": (384, 1024, 6, 6, 2, 512),
    "large": (576, 1536, 12, 9, 3, 1024),
    "games-tiny": (128, 344, 4, 4, 2, 1536),
    "games-small": (256, 688, 6, 8, 4, 1536),
}


def sized_config(size: str, vocab_size: int, **changes: Any) -> TransformerConfig:
    """The configuration behind a `--size`; `changes` replaces single fields."""
    if size not in SIZES:
        raise ConfigError(f"there is no size {size!r}; choose from {', '.join(SIZES)}")
    hidden, inner, layers, heads, kv_heads, context = SIZES[size]
    config = TransformerConfig(vocab_size, hidden, inner, layers, heads, kv_heads, 0, context)
    return replace(config, **changes)


def pick_dtype(name: str, device: torch.device | None = None) -> torch.dtype:
    """The type of matrix products that `--dtype` names; auto takes bfloat16 where it is fast.

    Raises:
        ConfigError: the type is none of ours, or the device offers torch no autocast for it.
    """
    if name == "float16":
        raise ConfigError("language models compute in float32 or bfloat16, not in float16")
    device = torch.device("cpu") if device is None else device
    if resolve_dtype(name, device) == "float32":
        return torch.float32
    try:
        autocast(torch.bfloat16, device)
    except (RuntimeError, AssertionError):
        raise ConfigError(
            f"device {device.type!r} offers torch no autocast to bfloat16; use --dtype float32"
        ) from None
    return torch.bfloat16


def autocast(
    dtype: torch.dtype, device: torch.device | None = None
) -> AbstractContextManager[object]:
    """Matrix products in `dtype` (bfloat16) with float32 weights; float32 switches it off."""
    kind = "cpu" if device is None else device.type
    enabled = dtype == torch.bfloat16
    if not enabled and not torch.is_autocast_enabled(kind):
        return nullcontext()  # a device without autocast is asked for none
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=enabled)


def compute_dtype(x: Tensor) -> torch.dtype:
    """The type in which a layer computes for input `x`: autocast's when that is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def packed_mask(segments: Tensor) -> Tensor:
    """Mask [B, 1, L, L]: a token sees the tokens of its own segment; segment 0 is padding."""
    return (segments[:, None, :, None] == segments[:, None, None, :]) & (
        segments[:, None, None, :] != 0
    )


class Block(nn.Module):
    """Pre-norm attention and SwiGLU, each added to the residual stream.

    Attributes:
        experts: What stands in place of the SwiGLU in a mixture of experts; None where none does.
        window: Tokens that a query sees, itself included; 0 for all.
        rotates: Whether queries and keys are rotated by their positions.
        q_norm: Gain [D] of the query heads' norm; None where heads are not normalised.
        k_norm: Likewise of the key heads'.
    """

    q_norm: nn.Parameter | None
    k_norm: nn.Parameter | None

    def __init__(self, config: TransformerConfig, index: int = 0) -> None:
        super().__init__()
        hidden, inner, size = config.hidden_size, config.intermediate_size, config.head_dim
        self.config = config
        self.window = config.window_of(index)
        self.rotates = index not in config.nope_layers
        self.input_layernorm = nn.Parameter(torch.empty(hidden))
        self.qkv_proj = Projection(hidden, config.qkv_size, bias=config.attention_bias)
        for name in ("q_norm", "k_norm"):
            gain = nn.Parameter(torch.empty(size)) if config.qk_norm else None
            self.register_parameter(name, gain)
        mixed = config.num_attention_heads * size
        self.o_proj = Projection(mixed, hidden, bias=config.output_bias)
        self.post_attention_layernorm = nn.Parameter(torch.empty(hidden))
        self.experts = Experts(config) if config.num_experts else None
        if self.experts is None:
            self.gate_up_proj = Projection(hidden, 2 * inner, bias=config.mlp_bias)
            self.down_proj = Projection(inner, hidden, bias=config.mlp_bias)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        """[B, L, H] to [B, L, H]."""
        x = x + self.attend(x, cos, sin, mask)
        return x + self.feed_forward(x)

    def normalize(self, x: Tensor) -> Tensor:
        """What both halves see of the stream, in the type in which they compute."""
        return rms_normalize(x, self.config.rms_norm_eps, compute_dtype(x))

    def attend(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        """What attention adds to the stream, [B, L, H]."""
        config = self.config
        qkv = self.qkv_proj(self.normalize(x), self.input_layernorm)
        if self.q_norm is not None and self.k_norm is not None:
            qkv = self._normalized(qkv, self.q_norm, self.k_norm)
        if not self.rotates:
            cos, sin = torch.ones_like(cos), torch.zeros_like(sin)
        q, k, v = rotary_heads(
            qkv,
            cos,
            sin,
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_key_value_heads,
        )
        mixed = attention(q, k, v, causal=config.causal, mask=mask, window=self.window)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def feed_forward(self, x: Tensor) -> Tensor:
        """What the SwiGLU, or the experts, add to the stream, [B, L, H]."""
        normed = self.normalize(x)
        if self.experts is not None:
            return self.experts(normed, self.post_attention_layernorm)
        gated = swiglu(self.gate_up_proj(normed, self.post_attention_layernorm))
        return self.down_proj(gated)

    def _normalized(self, qkv: Tensor, q_norm: Tensor, k_norm: Tensor) -> Tensor:
        """The projection [B, L, (heads + 2 * kv heads) * D] with queries and keys normalised."""
        config = self.config
        sizes = config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads
        q, k, v = qkv.unflatten(-1, (-1, config.head_dim)).split(sizes, dim=2)
        q = rms_normalize(q, config.rms_norm_eps) * q_norm.to(q.dtype)
        k = rms_normalize(k, config.rms_norm_eps) * k_norm.to(k.dtype)
        return torch.cat([q, k, v], dim=2).flatten(2)


class Transformer(nn.Module):
    """Token ids to hidden states.

    In the shapes, B are rows, L tokens, H the hidden size, V the vocabulary.

    Attributes:
        lm_head: Output embeddings [V, H], a projection while they are adapted; None where they are
            the input embeddings.
        recompute: What blocks compute is not kept for the backward pass but computed again there:
            less memory for a third more time.
    """

    lm_head: nn.Parameter | Projection | None
    cos: Tensor
    sin: Tensor

    def __init__(self, config: TransformerConfig, *, seed: int | None = 0) -> None:
        """Build the model.

        Args:
            config: Its shape.
            seed: Of the initial weights; None leaves them unset, for a checkpoint to fill.
        """
        super().__init__()
        self.config, self.recompute = config, False
        self.embed_tokens = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))
        self.layers = nn.ModuleList(
            Block(config, index) for index in range(config.num_hidden_layers)
        )
        self.norm = nn.Parameter(torch.empty(config.hidden_size))
        self.lm_head = (
            None
            if config.tie_word_embeddings
            else nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))
        )
        cos, sin = rotary_table(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        if seed is not None:
            self.reset(seed)

    @torch.no_grad()
    def reset(self, seed: int) -> None:
        """Draw all weights: normal with deviation 0.02, less where a block adds to the stream."""
        generator = torch.Generator().manual_seed(seed)
        small = 0.02 / math.sqrt(2 * self.config.num_hidden_layers)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            else:
                std = small if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.02
                parameter.normal_(0.0, std, generator=generator)

    @property
    def device(self) -> torch.device:
        """Where the weights are; what computes with the model brings its data there."""
        return self.embed_tokens.device

    @property
    def blocks(self) -> list[Block]:
        """The layers, typed."""
        return [layer for layer in self.layers if isinstance(layer, Block)]

    @property
    def output_embeddings(self) -> Tensor:
        """[V, H]; with adapters, what these make of them."""
        head = self.embed_tokens if self.lm_head is None else self.lm_head
        return head.dense() if isinstance(head, Projection) else head

    def forward(
        self, ids: Tensor, *, positions: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Hidden states [B, L, H] after the last norm.

        Args:
            ids: int64 [B, L]. A causal model needs no mask for padding on the right.
            positions: int64 [B, L]; 0, 1, 2, ... if None.
            mask: bool [B, 1, L, L] or [B, 1, 1, L], True where a token may look; see `packed_mask`.
        """
        length = ids.shape[1]
        if length > self.config.max_position_embeddings:
            raise ConfigError(
                f"{length} tokens are more than the context of "
                f"{self.config.max_position_embeddings}; shorten the text"
            )
        x = F.embedding(ids, self.embed_tokens).float()
        dtype = compute_dtype(x)
        if positions is None:
            cos, sin = self.cos[:length], self.sin[:length]
        else:
            cos, sin = self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1)
        again = self.recompute and torch.is_grad_enabled()
        for block in self.layers:
            if again:
                x = checkpoint(block, x, cos, sin, mask, use_reentrant=False)
            else:
                x = block(x, cos, sin, mask)
        return rms_normalize(x, self.config.rms_norm_eps, dtype)

    def head_weight(self, dtype: torch.dtype) -> Tensor:
        """Output embeddings [V, H] in `dtype` with the last norm's gain folded in."""
        return fold_gain(self.output_embeddings, self.norm, dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., H] to [..., V], in float32."""
        return F.linear(hidden, self.head_weight(hidden.dtype)).float()
