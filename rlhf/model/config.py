"""The shape of a Transformer: the Llama layout with the variants that its published relatives have.

Field names are Hugging Face's. Reading them from a config.json is checkpoints/configs.py's; here is
what makes a shape valid, and the table of rotary angles that it asks for.
"""

import math
from dataclasses import dataclass, replace

import torch
from playout.errors import ConfigError
from torch import Tensor

__all__ = ["RopeScaling", "TransformerConfig", "rotary_table"]

MAX_CONTEXT = 1 << 24
"""Tokens; the longest of published models is ten million, and a table of all positions is made."""


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary wavelengths were stretched to read texts longer than the first training's."""

    rope_type: str
    """`linear`, `dynamic`, `llama3` or `yarn`."""
    factor: float = 1.0
    """How many times longer."""
    original_max_position_embeddings: int = 0
    """Longest text of the first training (llama3, yarn)."""
    low_freq_factor: float = 1.0
    """llama3: wavelengths above original / this are stretched in full."""
    high_freq_factor: float = 4.0
    """llama3: wavelengths below original / this are left alone."""
    attention_factor: float | None = None
    """yarn: cosines and sines are multiplied by it; None derives it from the factor."""
    beta_fast: float = 32.0
    """yarn: what turns more often than this in the original length is left alone."""
    beta_slow: float = 1.0
    """yarn: what turns less often than this is stretched in full."""
    mscale: float = 0.0
    """yarn: with `mscale_all_dim`, another way to derive the attention factor."""
    mscale_all_dim: float = 0.0
    """See `mscale`."""
    truncate: bool = True
    """yarn: the bounds between the two are rounded to whole dimensions."""

    def __post_init__(self) -> None:
        if self.rope_type not in ("linear", "dynamic", "llama3", "yarn"):
            raise ConfigError(
                f"rotary scaling {self.rope_type!r} is not supported; linear, dynamic, llama3 and "
                "yarn are"
            )
        if not 1.0 <= self.factor < math.inf:
            raise ConfigError(f"rotary scaling by a factor of {self.factor} makes nothing longer")
        if self.rope_type in ("llama3", "yarn") and self.original_max_position_embeddings < 1:
            raise ConfigError(
                f"rotary scaling {self.rope_type} needs original_max_position_embeddings"
            )
        if self.rope_type == "llama3" and not 0 < self.low_freq_factor < self.high_freq_factor:
            raise ConfigError("rotary scaling llama3 needs 0 < low_freq_factor < high_freq_factor")
        if self.rope_type == "yarn" and not 0 < self.beta_slow < self.beta_fast:
            raise ConfigError("rotary scaling yarn needs 0 < beta_slow < beta_fast")


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """The shape of a Transformer, under Hugging Face's names for a Llama model."""

    vocab_size: int
    """Rows of the embedding table."""
    hidden_size: int = 256
    """Width of the residual stream."""
    intermediate_size: int = 688
    """Width inside the SwiGLU."""
    num_hidden_layers: int = 4
    """Blocks."""
    num_attention_heads: int = 4
    """Query heads."""
    num_key_value_heads: int = 4
    """Key and value heads; each serves an equal group of query heads."""
    head_dim: int = 0
    """Width of a head; 0 means hidden_size / num_attention_heads."""
    max_position_embeddings: int = 256
    """Longest sequence."""
    rope_theta: float = 10000.0
    """Base of the rotary wavelengths."""
    rms_norm_eps: float = 1e-5
    """Added to the mean square."""
    tie_word_embeddings: bool = True
    """Whether the output embeddings are the input embeddings."""
    causal: bool = True
    """True for a decoder, False for an encoder that sees both sides."""
    pad_token_id: int | None = None
    """Written into config.json for other programs."""
    bos_token_id: int | None = None
    """Likewise."""
    eos_token_id: int | None = None
    """Likewise; the first, where several tokens end a text."""
    model_type: str = "llama"
    """Under which name a decoder is saved; it also says how config.json words what follows."""
    eos_token_ids: tuple[int, ...] = ()
    """All tokens that end a text, where config.json lists several."""
    attention_bias: bool = False
    """Whether queries, keys and values have a bias."""
    output_bias: bool = False
    """Whether the attention's output projection has a bias."""
    mlp_bias: bool = False
    """Whether the projections of the SwiGLU have a bias."""
    qk_norm: bool = False
    """Whether every query and key head is normalised, with a gain, before it is rotated."""
    sliding_window: int = 0
    """How many tokens a query sees in `sliding_layers`, itself included."""
    sliding_layers: tuple[int, ...] = ()
    """Numbers of the layers whose attention is so limited."""
    nope_layers: tuple[int, ...] = ()
    """Numbers of the layers without rotary positions."""
    rope_scaling: RopeScaling | None = None
    """How rotary wavelengths are stretched; None leaves them."""
    num_experts: int = 0
    """SwiGLUs of `intermediate_size` in every block, of which a router chooses; 0 for one alone."""
    num_experts_per_tok: int = 0
    """How many of them a token goes to."""
    norm_topk_prob: bool = True
    """Whether the chosen experts' weights add up to 1."""
    router_aux_loss_coef: float = 0.01
    """Weight of the loss that spreads tokens evenly over experts."""
    router_z_loss_coef: float = 0.001
    """Weight of the loss that keeps the router's logits small."""

    def __post_init__(self) -> None:
        counts = "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"
        for name in (*counts, "max_position_embeddings"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.max_position_embeddings > MAX_CONTEXT:
            raise ConfigError(
                f"max_position_embeddings must be at most {MAX_CONTEXT:,}, not "
                f"{self.max_position_embeddings:,}"
            )
        if self.num_attention_heads < 1 or self.num_key_value_heads < 1:
            raise ConfigError("a Transformer needs at least one query head and one key head")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"{self.num_key_value_heads} key heads do not divide {self.num_attention_heads} "
                "query heads"
            )
        if not self.head_dim:
            if self.hidden_size % self.num_attention_heads:
                raise ConfigError(
                    f"hidden_size {self.hidden_size} is no multiple of {self.num_attention_heads} "
                    "heads; give head_dim"
                )
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_attention_heads)
        if self.head_dim % 2:
            raise ConfigError(f"rotary positions need an even head_dim, not {self.head_dim}")
        if self.sliding_window < 0 or (self.sliding_layers and not self.sliding_window):
            raise ConfigError(f"a sliding window holds at least 1 token, not {self.sliding_window}")
        for name in ("sliding_layers", "nope_layers"):
            if any(not 0 <= n < self.num_hidden_layers for n in getattr(self, name)):
                raise ConfigError(f"{name} names layers beyond the {self.num_hidden_layers}")
        if not self.causal and (self.sliding_layers or self.nope_layers):
            raise ConfigError("an encoder has neither sliding windows nor layers without positions")
        if self.num_experts or self.num_experts_per_tok:
            self._check_experts()

    def _check_experts(self) -> None:
        if not 1 <= self.num_experts_per_tok <= self.num_experts:
            raise ConfigError(
                f"a token cannot go to {self.num_experts_per_tok} of {self.num_experts} experts"
            )
        if not self.causal:
            raise ConfigError("a mixture of experts is a decoder; an encoder has none")
        if self.mlp_bias:
            raise ConfigError("experts have no biases")
        for name in ("router_aux_loss_coef", "router_z_loss_coef"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be 0 or more, not {getattr(self, name)}")

    @property
    def qkv_size(self) -> int:
        """Width of the fused query, key and value projection."""
        return (self.num_attention_heads + 2 * self.num_key_value_heads) * self.head_dim

    def window_of(self, layer: int) -> int:
        """How many tokens a query of a layer sees, itself included; 0 for all before it."""
        return self.sliding_window if layer in self.sliding_layers else 0

    def with_context(self, length: int) -> "TransformerConfig":
        """The same shape for texts of up to `length` tokens."""
        if length < 1:
            raise ConfigError(f"a context must hold at least 1 token, not {length}")
        return replace(self, max_position_embeddings=length)


def rotary_table(config: TransformerConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines of all positions, float32 [max_position_embeddings, head_dim / 2]."""
    half = config.head_dim // 2
    rates = config.rope_theta ** (-torch.arange(half, dtype=torch.float64) / half)
    gain = 1.0
    scaling = config.rope_scaling
    if scaling is not None:
        if scaling.rope_type == "linear":
            rates = rates / scaling.factor
        elif scaling.rope_type == "llama3":
            rates = _llama3(rates, scaling)
        elif scaling.rope_type == "yarn":
            rates, gain = _yarn(rates, config.rope_theta, scaling), _yarn_gain(scaling)
        # `dynamic` stretches texts longer than the context alone, and those are refused.
    angles = torch.arange(config.max_position_embeddings, dtype=torch.float64)[:, None] * rates
    return angles.cos().mul_(gain).float(), angles.sin().mul_(gain).float()


def _llama3(rates: Tensor, scaling: RopeScaling) -> Tensor:
    """Long waves by the factor, short ones not, those between by a share that grows linearly."""
    turns = scaling.original_max_position_embeddings * rates / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return rates * (kept + (1 - kept) / scaling.factor)


def _yarn(rates: Tensor, theta: float, scaling: RopeScaling) -> Tensor:
    """Like llama3, but the share grows with the dimension, between two that are counted in turns.

    Peng et al. 2023, "YaRN", section 3.2.
    """
    size = 2 * len(rates)

    def dimension(turns: float) -> float:
        length = scaling.original_max_position_embeddings / (2 * math.pi * turns)
        return size * math.log(length) / (2 * math.log(theta))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    width = high - low if high != low else 0.001
    stretched = ((torch.arange(len(rates), dtype=torch.float64) - low) / width).clamp(0, 1)
    return rates * (1 - stretched + stretched / scaling.factor)


def _yarn_gain(scaling: RopeScaling) -> float:
    """What keeps the entropy of attention as it was, on queries and keys alike."""
    if scaling.attention_factor is not None:
        return scaling.attention_factor

    def grown(scale: float) -> float:
        return 0.1 * scale * math.log(scaling.factor) + 1.0

    if scaling.mscale and scaling.mscale_all_dim:
        return grown(scaling.mscale) / grown(scaling.mscale_all_dim)
    return grown(1.0)
