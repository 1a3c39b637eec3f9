"""Texts that are like those of a domain: importance resampling by hashed words (Xie et al. 2023).

Words and pairs of words fall into buckets; two distributions over the buckets, of the texts and of
the examples, give every text a log-likelihood ratio. Texts are drawn without replacement by it, so
that what is kept has the examples' distribution rather than only their likeliest kind ("DSIR").
"""

import re
import zlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from playout.errors import ConfigError, DataError

__all__ = ["drawn_like", "log_ratios"]

BUCKETS = 10_000
_WORD = re.compile(r"\w+|[^\w\s]")


def _buckets(text: str) -> NDArray[np.int64]:
    words = _WORD.findall(text.lower())
    pairs = [f"{first} {second}" for first, second in pairwise(words)]
    return np.array([zlib.crc32(one.encode()) % BUCKETS for one in [*words, *pairs]], np.int64)


def _log_shares(rows: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Logarithm of each bucket's share, as if each had been seen once more than it was."""
    counts = np.ones(BUCKETS)
    for row in rows:
        counts += np.bincount(row, minlength=BUCKETS)
    found: NDArray[np.float64] = np.log(counts / counts.sum())
    return found


def log_ratios(texts: Sequence[str], examples: Sequence[str]) -> NDArray[np.float64]:
    """How much likelier each text is among the examples than among the texts, in nats; [N].

    Raises:
        DataError: There are no examples.
    """
    if not examples:
        raise DataError("there are no examples of the domain")
    rows = [_buckets(text) for text in texts]
    gain = _log_shares([_buckets(text) for text in examples]) - _log_shares(rows)
    return np.array([gain[row].sum() for row in rows])


def drawn_like(
    texts: Sequence[str], examples: Sequence[str], share: float, *, seed: int = 0
) -> NDArray[np.bool_]:
    """Which texts are drawn, bool [N]: a share of them, each by how like the examples it is.

    Args:
        texts: To draw from.
        examples: Of the domain.
        share: Above 0 and at most 1.
        seed: Of the draw.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"a share of texts is above 0 and at most 1, not {share:g}")
    # The largest of the ratios with Gumbel noise are a draw without replacement.
    noise = np.random.default_rng([seed, 21]).gumbel(size=len(texts))
    count = max(1, round(share * len(texts)))
    order = np.argsort(-(log_ratios(texts, examples) + noise), kind="stable")
    kept = np.zeros(len(texts), np.bool_)
    kept[order[:count]] = True
    return kept
