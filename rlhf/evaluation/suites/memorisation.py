"""How much of its training text a model can be made to recite.

A stretch of a text is given and the likeliest continuation written; it is memorised if it is the
text's own, token for token (Carlini et al. 2023). The same is asked about texts that were held out:
what a model continues rightly there, it foresaw and did not remember.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from playout.errors import DataError
from playout.rlhf.evaluation.statistics import wilson
from playout.rlhf.generation.generate import generate
from playout.rlhf.generation.sampling import SamplingConfig
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.transformer import Transformer

__all__ = ["memorisation", "recited"]

GIVEN, ASKED = 32, 32
"""Tokens that are given, and tokens that are to follow."""


@dataclass(frozen=True, slots=True)
class Recited:
    """Of some stretches of text, how many a model goes on with word for word."""

    stretches: int
    right: int
    tokens: float
    """Mean share of the tokens that are right up to the first wrong one."""

    def measures(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "stretches": self.stretches,
            "rate": self.right / self.stretches,
            "interval": list(wilson(self.right, self.stretches)),
            "tokens": self.tokens,
        }


def recited(
    model: Transformer,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    count: int,
    given: int = GIVEN,
    asked: int = ASKED,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Recited:
    """Lets a model go on with stretches of texts.

    Args:
        model: A decoder.
        tokenizer: Its own.
        texts: Those shorter than a stretch are left out.
        count: Stretches, at most one a text while there are enough texts.
        given: Tokens that it sees.
        asked: Tokens that it is to write.
        seed: Which stretches.
        dtype: Of weights while decoding.

    Raises:
        DataError: No text is long enough.
    """
    room = model.config.max_position_embeddings
    given, asked = min(given, room // 2), min(asked, room // 2)
    rows = [ids for ids in tokenizer.encode_batch(texts) if len(ids) >= given + asked]
    if not rows:
        raise DataError(
            f"every text is too short: asking for memorised text takes {given + asked} tokens"
        )
    rng = np.random.default_rng([seed, 57])
    order = rng.permutation(len(rows)).tolist()
    prompts, ends = [], []
    for number in range(count):
        ids = rows[order[number % len(order)]]
        start = int(rng.integers(len(ids) - given - asked + 1))
        prompts.append(ids[start : start + given])
        ends.append(ids[start + given : start + given + asked])
    out = generate(
        model,
        prompts,
        max_new_tokens=asked,
        pad=tokenizer.pad_id,
        sampling=SamplingConfig(0.0),
        dtype=dtype,
    )
    lengths = []
    for row, wanted in enumerate(ends):
        written = out.response(row)
        alike = [a == b for a, b in zip(written, wanted, strict=False)]
        lengths.append(alike.index(False) if False in alike else len(alike))
    return Recited(count, sum(n == asked for n in lengths), float(np.mean(lengths)) / asked)


def memorisation(
    model: Transformer,
    tokenizer: Tokenizer,
    train: Sequence[str],
    heldout: Sequence[str],
    *,
    count: int,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Any]:
    """The rate on training texts, and beside it that on held-out ones where there are any."""
    found = {
        "training": recited(model, tokenizer, train, count=count, seed=seed, dtype=dtype).measures()
    }
    if heldout:
        try:
            held = recited(model, tokenizer, heldout, count=count, seed=seed, dtype=dtype)
        except DataError:  # all too short; the rate on training texts stands alone
            return found
        found["held out"] = held.measures()
    return found
