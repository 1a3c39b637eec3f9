"""Cached decoding: a copy of a Transformer's weights made for one token at a time, and its cache.

Norm gains and adapters are folded into the weights once, the cache is allocated once, and every
row keeps its keys and values from column 0 on, however long the prompts beside it are. Choosing
tokens is sampling.py's, the loop over them generate.py's. Gradients are left out.
"""

from dataclasses import dataclass

import torch
from playout.errors import ConfigError
from playout.rlhf.transformer import Transformer, TransformerConfig
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Decoder"]

# A float32 product of fewer rows may take another path through the library and end in other bits.
MIN_ROWS_FLOAT32 = 8
_HIDDEN = -30000.0


@dataclass(frozen=True, slots=True)
class _LayerWeights:
    qkv: Tensor  # [(heads + 2 * kv heads) * D, H]
    out: Tensor  # [H, heads * D]
    gate_up: Tensor  # [2 * I, H]
    down: Tensor  # [H, I]


class Decoder:
    """A model frozen for decoding up to `max_rows` rows of `max_length` tokens.

    In the shapes, B are rows, P prompt tokens, V the vocabulary.
    """

    def __init__(self, model: Transformer, *, dtype: torch.dtype, max_rows: int, max_length: int):
        config = model.config
        if not config.causal:
            raise ConfigError("an encoder cannot generate text")
        if max_length > config.max_position_embeddings:
            raise ConfigError(
                f"prompt and answer need {max_length} positions; the model's context is "
                f"{config.max_position_embeddings}"
            )
        self.config: TransformerConfig = config
        self.dtype = dtype
        self.min_rows = MIN_ROWS_FLOAT32 if dtype == torch.float32 else 1
        with torch.no_grad():
            self._layers = [
                _LayerWeights(
                    qkv=block.qkv_proj.effective(block.input_layernorm).to(dtype),
                    out=block.o_proj.effective().to(dtype),
                    gate_up=block.gate_up_proj.effective(block.post_attention_layernorm).to(dtype),
                    down=block.down_proj.effective().to(dtype),
                )
                for block in model.blocks
            ]
            self._head = model.head_weight(dtype)
            self._embed = model.embed_tokens.detach()
        self._cos, self._sin = model.cos, model.sin
        shape = max_rows, config.num_key_value_heads, max_length, config.head_dim
        device = self._embed.device
        # Float32 also for bfloat16 weights: one query against many keys is bound by memory, and the
        # library's bfloat16 kernels for that shape are slower than its float32 ones.
        self._cache = [torch.zeros(2, *shape, device=device) for _ in self._layers]
        self.lengths = torch.zeros(max_rows, dtype=torch.long, device=device)

    @torch.no_grad()
    def prefill(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Read prompts [B, P], padded on the right; gives logits [B, V] after their last tokens."""
        rows, width = ids.shape
        self._rows = torch.arange(rows, device=ids.device)
        self.lengths = lengths.clone()
        positions = torch.arange(width, device=ids.device)
        cos, sin = self._cos[:width, None], self._sin[:width, None]
        x = self._embed[ids]
        for index, weights in enumerate(self._layers):
            q, k, v = self._heads(x, weights, cos, sin)
            cache = self._cache[index]
            cache[0, :rows, :, :width] = k.transpose(1, 2)
            cache[1, :rows, :, :width] = v.transpose(1, 2)
            mixed = self._attend(q, index, width, positions[:, None] < positions)
            x = self._finish(x, mixed, weights)
        last = x[self._rows, lengths - 1]
        return self._logits(last)

    @torch.no_grad()
    def step(self, ids: Tensor) -> Tensor:
        """Append one token a row, int64 [B]; returns logits [B, V] of the next."""
        places = self.lengths
        longest = int(places.max()) + 1
        hidden = None
        if int(places.min()) + 1 < longest:
            hidden = (torch.arange(longest, device=ids.device) > places[:, None])[:, None]
        cos, sin = self._cos[places][:, None, None], self._sin[places][:, None, None]
        x = self._embed[ids][:, None]
        for index, weights in enumerate(self._layers):
            q, k, v = self._heads(x, weights, cos, sin)
            cache = self._cache[index]
            cache[0, self._rows, :, places] = k[:, 0]
            cache[1, self._rows, :, places] = v[:, 0]
            mixed = self._attend(q, index, longest, hidden)
            x = self._finish(x, mixed, weights)
        self.lengths = places + 1
        return self._logits(x[:, 0])

    @torch.no_grad()
    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only, in this order."""
        longest = int(self.lengths[rows].max())
        for cache in self._cache:
            cache[:, : len(rows), :, :longest] = cache[:, rows, :, :longest]
        self.lengths = self.lengths[rows]
        self._rows = torch.arange(len(rows), device=rows.device)

    def _normalize(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(self.config.rms_norm_eps).rsqrt_()
        return (x * scale).to(self.dtype)

    def _heads(
        self, x: Tensor, weights: _LayerWeights, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, L, heads, D] in float32, queries and keys turned."""
        config = self.config
        queries, keys = config.num_attention_heads, config.num_key_value_heads
        qkv = F.linear(self._normalize(x), weights.qkv).float()
        qkv = qkv.view(*x.shape[:2], queries + 2 * keys, config.head_dim)
        turned = qkv[:, :, : queries + keys]
        first, second = turned.chunk(2, dim=-1)
        turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
        return turned[:, :, :queries], turned[:, :, queries:], qkv[:, :, queries + keys :]

    def _attend(self, q: Tensor, index: int, longest: int, hidden: Tensor | None) -> Tensor:
        """Mix the first `longest` cached values; `hidden` [B or 1, L, longest] may not be seen."""
        rows, length, heads, size = q.shape
        kv_heads = self.config.num_key_value_heads
        k, v = self._cache[index][:, :rows].flatten(1, 2)[:, :, :longest]
        # Query heads that share a key head are more rows of the same product.
        q = q.view(rows, length, kv_heads, -1, size).permute(0, 2, 3, 1, 4)
        q = q.reshape(rows * kv_heads, -1, size) * size**-0.5
        scores = torch.bmm(q, k.transpose(1, 2))
        if hidden is not None:
            view = scores.view(rows, kv_heads, -1, length, longest)
            view.masked_fill_(hidden.view(-1, 1, 1, length, longest), _HIDDEN)
        mixed = torch.bmm(torch.softmax(scores, dim=-1), v)
        mixed = mixed.view(rows, kv_heads, -1, length, size).permute(0, 3, 1, 2, 4)
        return mixed.reshape(rows, length, heads * size)

    def _finish(self, x: Tensor, mixed: Tensor, weights: _LayerWeights) -> Tensor:
        x = x + F.linear(mixed.to(self.dtype), weights.out)
        gate, up = F.linear(self._normalize(x), weights.gate_up).chunk(2, dim=-1)
        return x + F.linear(F.silu(gate).mul_(up), weights.down)

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(self._normalize(x), self._head).float()
