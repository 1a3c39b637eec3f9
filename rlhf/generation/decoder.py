"""Cached decoding: a copy of a Transformer's weights made for one token at a time, and its cache.

Norm gains and adapters are folded into the weights once, the cache is allocated once, and every
row keeps its keys and values from column 0 on, however long the prompts beside it are. Choosing
tokens is sampling.py's, the loop over them cached_rows.py's. Gradients are left out.
"""

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from playout.agents.kernels.processor import fuses_multiply_add, openmp_team
from playout.agents.runs.devices import pack_to_device, to_device
from playout.errors import ConfigError
from playout.rlhf.generation._decode import MAX_ROWS, SmallDecoder, use_team
from playout.rlhf.model.adapters.folded import LayerWeights, fold, step_array, step_arrays
from playout.rlhf.model.experts.mixing import mix
from playout.rlhf.model.experts.routing import route
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from torch import Tensor
from torch.nn import functional as F

__all__ = ["MAX_ROWS", "Decoder"]

Lengths = NDArray[np.int64]

use_team(*openmp_team())

_HIDDEN = -30000.0
# Attention scores held at once while prompts are read.
_SCORES = 1 << 24


class StepThreads:
    """How many threads a compiled step takes: torch's, or one where that was faster lately.

    On a busy machine a step waits again and again for a thread that does not run. The clock may
    choose, since no bit of a step depends on its threads.
    """

    PERIOD = 128

    def __init__(self) -> None:
        self._steps = 0
        self._fastest = {False: math.inf, True: math.inf}  # seconds alone and shared

    def run(self, step: Callable[[int], None]) -> None:
        """Take a step, which is told its threads."""
        threads, turn = torch.get_num_threads(), self._steps % self.PERIOD
        if threads == 1:
            return step(1)
        if turn == 0:
            self._fastest = {False: math.inf, True: math.inf}
        shared = turn < 2 or (turn >= 4 and self._fastest[True] <= self._fastest[False])
        begun = time.perf_counter()
        step(threads if shared else 1)
        if turn < 4:
            self._fastest[shared] = min(self._fastest[shared], time.perf_counter() - begun)
        self._steps += 1


class Decoder:
    """A model frozen for decoding; it keeps the weights as they were when it was made.

    In the shapes, B are rows, P prompt tokens, V the vocabulary.

    Attributes:
        compiled: Steps of a few rows go through compiled code on a CPU, several times faster than a
            step of torch; its last bits are its own.
        uses: How often rows were read anew or put into another order; what somebody knows of what
            they hold is true while it stays.
    """

    def __init__(self, model: Transformer, *, dtype: torch.dtype) -> None:
        config = model.config
        if not config.causal:
            raise ConfigError("an encoder cannot generate text")
        self.config: TransformerConfig = config
        self.dtype = dtype
        with torch.no_grad():
            self._layers = [fold(block, dtype) for block in model.blocks]
            self._head = model.head_weight(dtype)
            self._embed = model.embed_tokens.detach()
            self._rotations = torch.complex(model.cos, model.sin)
        # Where one query against many keys is bound by memory and the library's kernels for
        # bfloat16 are slower than its float32 ones: on a processor.
        self._plain = self.device.type == "cpu"
        self._cache_dtype = torch.float32 if self._plain else dtype
        self._cache: list[Tensor] = []
        self._small: SmallDecoder | None = None
        self._threads = StepThreads()
        self.compiled, self.uses = False, 0
        self._rows = self.lengths = torch.zeros(0, dtype=torch.long, device=self.device)
        self._known: Lengths = np.zeros(0, np.int64)  # `lengths` on the host, which never asks

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._embed.device

    def allocate(self, max_rows: int, max_length: int) -> None:
        """Make room for so many rows and tokens, prompt and answer together."""
        config = self.config
        if max_length > config.max_position_embeddings:
            raise ConfigError(
                f"prompt and answer need {max_length} positions; the model's context is "
                f"{config.max_position_embeddings}"
            )
        shape = 2, max_rows, config.num_key_value_heads, max_length, config.head_dim
        if not self._cache or any(
            have < need for have, need in zip(self._cache[0].shape, shape, strict=True)
        ):
            self._cache = [
                torch.zeros(shape, dtype=self._cache_dtype, device=self.device)
                for _ in self._layers
            ]
            if self._small is not None:
                self._small.attach([cache.numpy() for cache in self._cache])

    @torch.no_grad()
    def grow(self, length: int) -> None:
        """Make room for so many tokens a row; what the rows hold stays."""
        have = self._cache[0].shape[3]
        if length > have:
            before = self._cache
            most = self.config.max_position_embeddings
            self.allocate(before[0].shape[1], max(length, min(have + have // 2, most)))
            for old, new in zip(before, self._cache, strict=True):
                new[:, :, :, :have] = old

    @torch.no_grad()
    def prefill(self, ids: Tensor, lengths: Tensor, *, min_rows: int = 1) -> Tensor:
        """Read prompts, each that several rows have once; gives logits [B, V] after their ends.

        Args:
            ids: int64 [B, P] on the processor, padded on the right.
            lengths: int64 [B] on the processor.
            min_rows: So many rows at least are read together, if there are so many.
        """
        count, width = ids.shape
        self.uses += 1
        self._known = lengths.numpy().copy()
        places, copied = _distinct(ids, lengths, min_rows)
        reading = [ids[places], lengths[places], lengths, copied]
        ids, lengths, whole, copied = pack_to_device(reading, self.device)
        self._rows = torch.arange(count, device=self.device)
        self.lengths = whole.clone()
        each = max(1, _SCORES // (self.config.num_attention_heads * width * width))
        last = [
            self._read(ids[start : start + each], lengths[start : start + each], start)
            for start in range(0, len(ids), each)
        ]
        logits = self._logits(torch.cat(last))
        if len(ids) == count:
            return logits
        for cache in self._cache:
            cache[:, :count, :, :width] = cache[:, copied, :, :width]
        return logits[copied]

    def _read(self, ids: Tensor, lengths: Tensor, start: int) -> Tensor:
        """Fill the cache of rows from `start` on; their states after the last token, [B, H]."""
        rows, width = ids.shape
        own = slice(start, start + rows)
        positions = torch.arange(width, device=ids.device)
        # The scores of a long text are not held all at once.
        block = max(1, _SCORES // (rows * self.config.num_attention_heads * width))
        x = self._embed[ids].float()
        for index, weights in enumerate(self._layers):
            q, kv = self._heads(x, weights, self._rotations[:width, None])
            self._cache[index][:, own, :, :width] = kv.permute(2, 0, 3, 1, 4).to(self._cache_dtype)
            mixed = []
            for first in range(0, width, block):
                end = min(width, first + block)
                columns = _columns(weights.window, first, end)
                hidden = _unseen(positions[None, first:end], columns, weights.window)
                mixed.append(self._attend(q[:, first:end], index, own, columns, hidden))
            x = self._finish(x, mixed[0] if len(mixed) == 1 else torch.cat(mixed, 1), weights)
        return x[torch.arange(rows, device=ids.device), lengths - 1]

    @torch.no_grad()
    def extend(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Append tokens of different number to the rows; gives logits [B, V] after their last ones.

        Args:
            ids: int64 [B, E] on the processor, padded on the right.
            lengths: int64 [B] on the processor, at least 1 each.
        """
        rows, width = ids.shape
        starts, known = self._known, self._known + lengths.numpy()
        longest = int(known.max())
        each = max(1, _SCORES // (self.config.num_attention_heads * width * longest))
        last = []
        for first in range(0, rows, each):
            own = slice(first, min(first + each, rows))
            places = torch.from_numpy(starts[own, None] + np.arange(width))
            # Beyond its own tokens a row is padded; padding is read as some last place, seen by
            # nobody, and not written.
            own_tokens = (torch.arange(width) < lengths[own, None]).nonzero()
            parts = [ids[own], places.clamp_(max=longest - 1), own_tokens, lengths[own]]
            last.append(self._append(pack_to_device(parts, self.device), own, longest))
        self._known, self.lengths = known, to_device(known.copy(), self.device)
        return self._logits(torch.cat(last))

    def _append(self, parts: list[Tensor], own: slice, longest: int) -> Tensor:
        """Tokens of rows `own`, at places behind those that they hold; their last states [b, H].

        The parts are ids and places [b, E], row and column [N, 2] of what is not padding, and
        lengths [b].
        """
        ids, places, own_tokens, lengths = parts
        row, column = own_tokens.unbind(1)
        columns = slice(0, longest)
        rotations = self._rotations[places][:, :, None]
        x = self._embed[ids].float()
        for index, weights in enumerate(self._layers):
            q, kv = self._heads(x, weights, rotations)
            cache = self._cache[index][:, own]
            cache[:, row, :, places[row, column]] = kv[row, column].to(self._cache_dtype)
            hidden = _unseen(places, columns, weights.window)
            x = self._finish(x, self._attend(q, index, own, columns, hidden), weights)
        return x[torch.arange(len(ids), device=ids.device), lengths - 1]

    @torch.no_grad()
    def arrange(self, order: Tensor, lengths: Tensor, active: int) -> None:
        """Put the cached rows into another order and go on with the first `active` of them.

        The others keep what they hold and wait behind, until an `arrange` brings them forward.

        Args:
            order: int64 [A] on the processor, places of rows as they lie now; none is lost if it
                names all. A place that never held a row is as good as any for scratch.
            lengths: int64 [A] on the processor, tokens of each row in the new order.
            active: How many of them `step` and `extend` work on.
        """
        self.uses += 1
        longest = int(lengths.max())
        if not torch.equal(order, torch.arange(len(order))):
            rows = to_device(order, self.device)
            for cache in self._cache:
                cache[:, : len(rows), :, :longest] = cache[:, rows, :, :longest]
        self._known = lengths.numpy()[:active].copy()
        self.lengths = to_device(lengths[:active].clone(), self.device)
        self._rows = torch.arange(active, device=self.device)

    @torch.no_grad()
    def step(self, ids: Tensor) -> Tensor:
        """Append a token a row, int64 [B] where the weights are; logits [B, V] of the next."""
        places, known = self.lengths, self._known
        self._known = known + 1
        if self.compiled and self._plain and len(ids) <= MAX_ROWS and fuses_multiply_add():
            logits = torch.empty(len(ids), self.config.vocab_size)
            arrays = ids.numpy(), places.numpy(), logits.numpy()
            small = self._compiled()
            self._threads.run(lambda threads: small.step(*arrays, threads))
            self.lengths = places + 1
            return logits
        shortest, longest = int(known.min()) + 1, int(known.max()) + 1
        rotations = self._rotations[places][:, None, None]
        x = self._embed[ids].float()[:, None]
        rows = slice(0, len(places))
        for index, weights in enumerate(self._layers):
            q, kv = self._heads(x, weights, rotations)
            self._cache[index][:, self._rows, :, places] = kv[:, 0].to(self._cache_dtype)
            columns = _columns(weights.window, shortest - 1, longest)
            hidden = None
            if shortest < longest:
                hidden = _unseen(places[:, None], columns, weights.window)
            x = self._finish(x, self._attend(q, index, rows, columns, hidden), weights)
        self.lengths = places + 1
        return self._logits(x[:, 0])

    def _compiled(self) -> SmallDecoder:
        """The compiled step, made when it is first used."""
        if self._small is None:
            config = self.config
            self._small = SmallDecoder(
                [step_arrays(weights) for weights in self._layers],
                step_array(self._head),
                step_array(self._embed.float()),
                torch.view_as_real(self._rotations).contiguous().numpy(),
                heads=config.num_attention_heads,
                kv_heads=config.num_key_value_heads,
                eps=config.rms_norm_eps,
                active=config.num_experts_per_tok if config.num_experts else 0,
                normalise=config.norm_topk_prob,
            )
            self._small.attach([cache.numpy() for cache in self._cache])
        return self._small

    def _normalize(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], None, self.config.rms_norm_eps).to(self.dtype)

    def _heads(self, x: Tensor, weights: LayerWeights, rotations: Tensor) -> tuple[Tensor, Tensor]:
        """Rotated queries [B, L, heads, D], keys with values [B, L, 2, kv heads, D]; float32."""
        config = self.config
        queries, keys = config.num_attention_heads, config.num_key_value_heads
        qkv = F.linear(self._normalize(x), weights.qkv, weights.qkv_bias).float()
        qkv = qkv.view(*x.shape[:2], queries + 2 * keys, config.head_dim)
        rotated = qkv[:, :, : queries + keys]
        if weights.gains is not None:
            eps = config.rms_norm_eps
            rotated.copy_(F.rms_norm(rotated, rotated.shape[-1:], None, eps).mul_(weights.gains))
        if weights.rotates:
            torch.view_as_complex(rotated.unflatten(-1, (-1, 2))).mul_(rotations)
        return qkv[:, :, :queries], qkv[:, :, queries:].unflatten(2, (2, keys))

    def _attend(
        self, q: Tensor, index: int, own: slice, columns: slice, hidden: Tensor | None
    ) -> Tensor:
        """Mix the cached values of rows `own` in some columns.

        `hidden`, bool [B or 1, L, columns], says what may not be seen.
        """
        rows, length, heads, size = q.shape
        kv_heads = self.config.num_key_value_heads
        if not self._plain:
            keys, values = self._cache[index][:, own, :, columns]
            mixed = F.scaled_dot_product_attention(
                q.transpose(1, 2).to(keys.dtype),
                keys,
                values,
                attn_mask=None if hidden is None else ~hidden[:, None],
                scale=1.0,  # it lies in the weights
                enable_gqa=heads != kv_heads,
            )
            return mixed.transpose(1, 2).reshape(rows, length, heads * size)
        k, v = self._cache[index][:, own].flatten(1, 2)[:, :, columns]
        # Query heads that share a key head are more rows of the same product.
        q = q.unflatten(2, (kv_heads, -1)).permute(0, 2, 3, 1, 4)
        scores = torch.bmm(q.reshape(rows * kv_heads, -1, size), k.transpose(1, 2))
        if hidden is not None:
            view = scores.view(rows, kv_heads, -1, length, scores.shape[-1])
            view.masked_fill_(hidden[:, None, None], _HIDDEN)
        mixed = torch.bmm(torch.softmax(scores, dim=-1), v)
        mixed = mixed.view(rows, kv_heads, -1, length, size).permute(0, 3, 1, 2, 4)
        return mixed.reshape(rows, length, heads * size)

    def _finish(self, x: Tensor, mixed: Tensor, weights: LayerWeights) -> Tensor:
        x = x + F.linear(mixed.to(self.dtype), weights.out, weights.out_bias)
        if weights.router is not None:
            return x + self._experts(self._normalize(x), weights, weights.router)
        inner = F.linear(self._normalize(x), weights.gate_up, weights.gate_up_bias)
        gate, up = inner.chunk(2, dim=-1)
        return x + F.linear(F.silu(gate).mul_(up), weights.down, weights.down_bias)

    def _experts(self, x: Tensor, weights: LayerWeights, router: Tensor) -> Tensor:
        config, rows = self.config, x.flatten(0, -2)
        shares, chosen = route(
            F.linear(rows.float(), router),
            config.num_experts_per_tok,
            normalise=config.norm_topk_prob,
        )
        return mix(rows, shares, chosen, weights.gate_up, weights.down).view_as(x)

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(self._normalize(x), self._head).float()


def _distinct(ids: Tensor, lengths: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """Places of rows that are all different, and which of them each row is; int64.

    Of `least` rows or fewer, and where all are different, every row is its own.
    """
    found: dict[tuple[int, bytes], int] = {}
    rows = enumerate(zip(lengths.tolist(), ids.numpy(), strict=True))
    firsts = [(row, found.setdefault((length, own.tobytes()), row)) for row, (length, own) in rows]
    kept = sorted(found.values())
    others = [row for row, first in firsts if row != first]
    kept = sorted(kept + others[: max(0, least - len(kept))])
    place = {row: number for number, row in enumerate(kept)}
    return torch.tensor(kept), torch.tensor([place.get(row, place[first]) for row, first in firsts])


def _columns(window: int, first: int, end: int) -> slice:
    """The cache columns that queries at places from `first` to before `end` may see."""
    return slice(max(0, first + 1 - window) if window else 0, end)


def _unseen(places: Tensor, columns: slice, window: int) -> Tensor:
    """Bool [B or 1, L, columns]: what queries at `places`, int64 [B or 1, L], do not see."""
    column = torch.arange(columns.start, columns.stop, device=places.device)
    hidden = column > places[..., None]
    return hidden | (column <= places[..., None] - window) if window else hidden
