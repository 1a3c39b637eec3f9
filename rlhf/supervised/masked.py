"""Masked-token batches for encoders after BERT (Devlin et al. 2019), and their loss.

Of the chosen tokens (15 % in BERT), 80 % become the mask, 10 % a random token, 10 % stay. With
sentence pairs a row is two spans, `end A sep B sep`, and the second follows the first half of the
time. Masks differ each time a text is met (as in RoBERTa).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from playout.agents.runs.devices import pack_to_device
from playout.errors import ConfigError, DataError
from playout.rlhf.data.batches import Corpus, pad_right, target_places
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.heads import MaskedTokenHead
from playout.rlhf.model.layers.lm_head import IGNORE, cross_entropy
from playout.rlhf.model.transformer import Transformer
from torch import Tensor
from torch.nn import functional as F

__all__ = ["CHOSEN", "MaskedBatch", "MaskedBatches", "mask_tokens", "masked_loss"]

CHOSEN = 0.15
"""Share of the tokens that is chosen where nothing is said."""
_MASKED, _RANDOM = 0.8, 0.1


@dataclass(frozen=True, slots=True)
class MaskedBatch:
    """B rows of L tokens with some of them hidden."""

    ids: Tensor
    """int64 [B, L], as the encoder sees them."""
    targets: Tensor
    """int64 [B, L], the original token where it was chosen, else `IGNORE`."""
    lengths: Tensor
    """int64 [B]."""
    follows: Tensor | None
    """int64 [B], 1 where the second span follows the first, or None."""

    @property
    def num_targets(self) -> int:
        """Tokens that were chosen."""
        return int((self.targets != IGNORE).sum())

    def portions(self, size: int) -> "list[MaskedBatch]":
        """The rows in batches of at most `size`; all in one if that is 0."""
        if size <= 0 or size >= len(self.ids):
            return [self]
        return [self.rows(slice(at, at + size)) for at in range(0, len(self.ids), size)]

    def rows(self, chosen: slice) -> "MaskedBatch":
        """Some consecutive rows."""
        return MaskedBatch(
            self.ids[chosen],
            self.targets[chosen],
            self.lengths[chosen],
            None if self.follows is None else self.follows[chosen],
        )


def mask_tokens(
    ids: np.ndarray[Any, Any],
    maskable: np.ndarray[Any, Any],
    tokenizer: Tokenizer,
    rng: Any,
    *,
    share: float = CHOSEN,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Hide tokens.

    Args:
        ids: [B, L].
        maskable: bool [B, L], which tokens may be chosen.
        tokenizer: Gives the mask token and the vocabulary's size.
        rng: A NumPy generator.
        share: Of the maskable tokens, how many are chosen, 0 to 1.

    Returns:
        Ids with hidden tokens, and targets.
    """
    chosen = maskable & (rng.random(ids.shape) < share)
    fate = rng.random(ids.shape)
    random = rng.integers(tokenizer.separator_id + 1, tokenizer.vocab_size, ids.shape)
    hidden = np.where(chosen & (fate < _MASKED), tokenizer.mask_id, ids)
    hidden = np.where(chosen & (fate >= 1 - _RANDOM), random, hidden)
    return hidden, np.where(chosen, ids, IGNORE)


class MaskedBatches:
    """Batches as a pure function of step and seed."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        texts: list[str],
        *,
        length: int,
        pairs: bool = False,
        share: float = CHOSEN,
    ) -> None:
        if not 0 < share < 1:
            raise ConfigError(f"the share of masked tokens is {share:g}; it is between 0 and 1")
        if tokenizer.mask_id < 0 or tokenizer.separator_id < 0:
            raise ConfigError("the tokenizer has no mask or separator token; train one here")
        self.tokenizer, self.length, self.pairs, self.share = tokenizer, length, pairs, share
        self.tokens = Corpus.of(tokenizer, texts).tokens
        if len(self.tokens) < 2 * length:
            raise DataError(
                f"the text has {len(self.tokens)} tokens, fewer than two rows of {length}"
            )

    def batch(self, step: int, *, rows: int, seed: int) -> MaskedBatch:
        """The batch of a step."""
        rng = np.random.default_rng([seed, 13, step])
        tokenizer = self.tokenizer
        parts, follows = [], []
        for _ in range(rows):
            if self.pairs:
                row, following = self._pair(rng)
                follows.append(following)
            else:
                row = [tokenizer.end_id, *self._span(rng, self.length - 1)]
            parts.append(row)
        ids, lengths = pad_right(parts, tokenizer.pad_id)
        array = ids.numpy()
        special = (tokenizer.pad_id, tokenizer.end_id, tokenizer.separator_id)
        maskable = ~np.isin(array, special)
        hidden, targets = mask_tokens(array, maskable, tokenizer, rng, share=self.share)
        return MaskedBatch(
            torch.from_numpy(hidden),
            torch.from_numpy(targets),
            lengths,
            torch.tensor(follows) if self.pairs else None,
        )

    def _span(self, rng: np.random.Generator, size: int, start: int | None = None) -> list[int]:
        if start is None:
            start = int(rng.integers(len(self.tokens) - size + 1))
        return [int(token) for token in self.tokens[start : start + size]]

    def _pair(self, rng: np.random.Generator) -> tuple[list[int], int]:
        """A row of two spans and whether the second is the continuation of the first."""
        tokenizer = self.tokenizer
        size = self.length - 3
        first = size // 2
        start = int(rng.integers(len(self.tokens) - size + 1))
        following = int(rng.integers(2))
        head = self._span(rng, first, start)
        tail = self._span(rng, size - first, start + first if following else None)
        separator = [tokenizer.separator_id]
        return [tokenizer.end_id, *head, *separator, *tail, *separator], following


def masked_loss(
    model: Transformer, head: MaskedTokenHead, batch: MaskedBatch, *, pair_weight: float = 1.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean loss over the chosen tokens, plus that of the pairs; and what was right of each.

    Where no token was chosen, their loss and their share of right ones are 0.
    """
    parts = [batch.ids, batch.targets, batch.lengths, target_places(batch.targets)]
    parts += [] if batch.follows is None else [batch.follows]
    ids, targets, lengths, chosen, *follows = pack_to_device(parts, model.device)
    places = torch.arange(ids.shape[1], device=ids.device)
    mask = (places < lengths[:, None])[:, None, None, :]
    hidden = model(ids, mask=mask)
    states = head(hidden.flatten(0, 1)[chosen], model.norm)
    weight = model.output_embeddings.to(states.dtype)
    targets = targets.flatten()[chosen]
    everywhere = torch.arange(len(chosen), device=ids.device)
    loss, _ = cross_entropy(states, weight, targets, places=everywhere)
    with torch.no_grad():
        logits = F.linear(states, weight)
        right = (logits.argmax(-1) == targets).float().sum() / max(len(chosen), 1)
    metrics = {"masked_loss": loss.detach(), "masked_accuracy": right}
    for follows_ in follows:
        pair_logits = head.pair(hidden[:, 0], model.norm)
        pair_loss = F.cross_entropy(pair_logits, follows_)
        loss = loss + pair_loss * pair_weight
        metrics["pair_loss"] = pair_loss.detach()
        metrics["pair_accuracy"] = (pair_logits.argmax(-1) == follows_).float().mean()
    return loss, metrics
