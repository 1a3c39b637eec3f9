"""Texts that say again what an earlier one says: exactly, or nearly.

Exact duplicates have the same words in the same order. Near ones share most of their runs of five
words: MinHash (Broder 1997) with bands finds candidates, and the exact Jaccard index of the two
sets of runs decides, so that nothing is lost by chance. Of each group the first text stays.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from playout.errors import ConfigError

__all__ = ["Words", "exact_duplicates", "jaccard", "near_duplicates", "shingles"]

SHINGLE = 5
"""Words in a run; a shorter text is one run."""
HASHES = 128
RECALL = 0.999
"""Probability with which two texts that are just alike enough become candidates."""
_PIECE = 1 << 16  # runs hashed at once
_WORD = re.compile(r"\w+")
_BASE = np.uint64(0x9E3779B97F4A7C15)

Hashes = NDArray[np.uint64]


def _key(text: str) -> bytes:
    return hashlib.blake2b(" ".join(text.lower().split()).encode(), digest_size=16).digest()


def exact_duplicates(texts: Sequence[str], known: Iterable[str] = ()) -> NDArray[np.bool_]:
    """Which texts an earlier text, or one of `known`, equals but for case and spaces; bool [N]."""
    seen = {_key(text) for text in known}
    found = np.zeros(len(texts), np.bool_)
    for number, text in enumerate(texts):
        key = _key(text)
        found[number] = key in seen
        seen.add(key)
    return found


class Words:
    """A number for every word, the same in every process."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def of(self, text: str) -> Hashes:
        """The words of a text in their order, as uint64."""
        found = []
        for word in _WORD.findall(text.lower()):
            number = self.numbers.get(word)
            if number is None:
                digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
                number = self.numbers[word] = int.from_bytes(digest, "little")
            found.append(number)
        return np.array(found, np.uint64)


def shingles(text: str, words: Words | None = None) -> Hashes:
    """The distinct runs of words of a text as numbers, ascending; none of a text without words."""
    numbers = (words or Words()).of(text)
    if not len(numbers):
        return numbers
    length = min(SHINGLE, len(numbers))
    count = len(numbers) - length + 1
    found = np.zeros(count, np.uint64)
    with np.errstate(over="ignore"):
        for shift in range(length):
            found = (found + numbers[shift : shift + count]) * _BASE
            found ^= found >> np.uint64(29)
    return np.unique(found)


def jaccard(first: Hashes, second: Hashes) -> float:
    """What two sets of runs have in common, as a share of what either has."""
    common = len(np.intersect1d(first, second, assume_unique=True))
    return common / max(1, len(first) + len(second) - common)


def rows_a_band(threshold: float) -> int:
    """The longest band that still finds nearly all pairs that are as alike as `threshold`."""
    for rows in (16, 8, 4, 2):
        if 1 - (1 - threshold**rows) ** (HASHES // rows) >= RECALL:
            return rows
    return 1


def _signature(runs: Hashes, multipliers: Hashes, shifts: Hashes) -> NDArray[np.uint32]:
    """The least of each hash over the runs, uint32 [HASHES]."""
    least = np.full(HASHES, np.iinfo(np.uint32).max, np.uint32)
    with np.errstate(over="ignore"):
        for start in range(0, len(runs), _PIECE // HASHES):
            part = runs[None, start : start + _PIECE // HASHES]
            mixed = (part * multipliers[:, None] + shifts[:, None]) >> np.uint64(32)
            least = np.minimum(least, mixed.min(axis=1).astype(np.uint32))
    return least


def near_duplicates(
    texts: Sequence[str], threshold: float = 0.8, known: Iterable[str] = ()
) -> NDArray[np.bool_]:
    """Which texts are nearly an earlier one that stays, or one of `known`; bool [N].

    Args:
        texts: Texts without words are never duplicates.
        threshold: Jaccard index of the runs of words from which on two texts are alike.
        known: Texts that are not judged, such as held-out ones.

    Raises:
        ConfigError: The threshold is not above 0 and at most 1.
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"texts are alike from above 0 to 1, not {threshold:g}")
    rng = np.random.default_rng(20)
    multipliers, shifts = rng.integers(0, 1 << 64, (2, HASHES), np.uint64)
    multipliers |= np.uint64(1)
    band, words = rows_a_band(threshold), Words()
    buckets: dict[bytes, list[int]] = defaultdict(list)
    kept: list[Hashes] = []

    def keys(runs: Hashes) -> list[bytes]:
        signature = _signature(runs, multipliers, shifts).reshape(-1, band)
        return [
            number.to_bytes(2, "little") + row.tobytes() for number, row in enumerate(signature)
        ]

    def keep(runs: Hashes, places: list[bytes]) -> None:
        for place in places:
            buckets[place].append(len(kept))
        kept.append(runs)

    for text in known:
        if len(runs := shingles(text, words)):
            keep(runs, keys(runs))
    found = np.zeros(len(texts), np.bool_)
    for number, text in enumerate(texts):
        runs = shingles(text, words)
        if not len(runs):
            continue
        places = keys(runs)
        candidates = sorted({other for place in places for other in buckets.get(place, ())})
        found[number] = any(jaccard(runs, kept[other]) >= threshold for other in candidates)
        if not found[number]:
            keep(runs, places)
    return found
