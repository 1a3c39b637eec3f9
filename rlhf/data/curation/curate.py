"""Texts go through filters one after another; what each takes away is counted.

Quality first, then duplicates, exact before near, then likeness to a domain: cheap ones before dear
ones, and no text is drawn twice. Held-out texts are left as they are, and what nearly equals one of
them is not learned from. The filters themselves stand beside this file.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playout.errors import ConfigError, DataError
from playout.rlhf.data.curation.duplicates import exact_duplicates, near_duplicates
from playout.rlhf.data.curation.likeness import drawn_like
from playout.rlhf.data.curation.quality import LANGUAGES, fault_of

__all__ = ["Curation", "Filters", "apart", "curate"]


@dataclass(frozen=True, slots=True)
class Filters:
    """Which texts are kept."""

    min_words: int = 0
    """Texts of fewer words go; 0 keeps them."""
    max_words: int = 0
    """Texts of more words go; 0 keeps them."""
    quality: str = "none"
    """`any` or `english` applies the rules of quality.py; `none` does not."""
    dedup: str = "none"
    """`exact` or `near` (which is exact, too) removes duplicates; `none` does not."""
    near: float = 0.8
    """Jaccard index from which on texts are near duplicates."""
    like_share: float = 0.5
    """Share that is drawn by likeness, where there are examples."""

    def __post_init__(self) -> None:
        if self.quality not in ("none", *LANGUAGES):
            raise ConfigError(f"quality is none, any or english, not {self.quality!r}")
        if self.dedup not in ("none", "exact", "near"):
            raise ConfigError(f"dedup is none, exact or near, not {self.dedup!r}")
        if self.max_words and self.max_words < self.min_words:
            raise ConfigError(f"no text has {self.min_words} words or more and {self.max_words}")
        if not 0 < self.near <= 1 or not 0 < self.like_share <= 1:
            raise ConfigError("the share of --near and of --like-share is above 0 and at most 1")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Filters":
        """Those that a command or a run has among its settings; what it does not name is off."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: settings[name] for name in names if name in settings})

    @property
    def take_nothing(self) -> bool:
        """Whether every text passes; likeness is asked only where there are examples."""
        return self == Filters(near=self.near, like_share=self.like_share)


@dataclass(frozen=True, slots=True)
class Curation:
    """What was kept of N texts, and why the others were not."""

    kept: NDArray[np.bool_]
    """[N]."""
    taken: dict[str, int]
    """How many texts each reason took, in the order of the filters."""
    size_before: int
    """Bytes of UTF-8."""
    size_after: int
    """Likewise."""

    def sentence(self) -> str:
        """What happened, for people."""
        reasons = ", ".join(f"{count:,} {name}" for name, count in self.taken.items())
        share = 100 * self.size_after / max(1, self.size_before)
        return (
            f"{int(self.kept.sum()):,} of {len(self.kept):,} texts are learned from ({share:.0f} % "
            f"of the text); left out: {reasons or 'none'}"
        )


def curate(
    texts: Sequence[str],
    filters: Filters,
    *,
    heldout: Sequence[str] = (),
    examples: Sequence[str] = (),
    seed: int = 0,
) -> Curation:
    """Which texts to learn from.

    Args:
        texts: All there are.
        filters: Which of them go.
        heldout: With duplicates removed, what equals one of these goes as well.
        examples: Of a domain; texts are drawn by likeness to them where there are any.
        seed: Of that draw.

    Raises:
        DataError: Nothing is left.
    """
    kept = np.ones(len(texts), np.bool_)
    taken: Counter[str] = Counter()

    def apply(reasons: Sequence[str]) -> None:
        """Reasons stand for the texts kept so far, empty for those that stay."""
        places = np.flatnonzero(kept)
        taken.update(reason for reason in reasons if reason)
        kept[places[[bool(reason) for reason in reasons]]] = False
        if not kept.any():
            why = ", ".join(f"{count} {name}" for name, count in taken.items())
            raise DataError(f"none of {len(texts)} texts is left to learn from: {why}")

    def left() -> list[str]:
        return [text for text, stays in zip(texts, kept, strict=True) if stays]

    if filters.min_words or filters.max_words:
        apply([_length_fault(text, filters) for text in left()])
    if filters.quality != "none":
        apply([fault_of(text, filters.quality) for text in left()])
    if filters.dedup != "none":
        apply(_named(exact_duplicates(left(), heldout), "exact duplicates"))
    if filters.dedup == "near":
        apply(_named(near_duplicates(left(), filters.near, heldout), "near duplicates"))
    if examples:
        drawn = drawn_like(left(), examples, filters.like_share, seed=seed)
        apply(_named(~drawn, "unlike the examples"))
    sizes = np.array([len(text.encode()) for text in texts], np.int64)
    return Curation(kept, dict(taken), int(sizes.sum()), int(sizes[kept].sum()))


def apart(heldout: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Held-out texts without those of a handful that serves for both, which are no duplicates."""
    learned = set(texts)
    return [text for text in heldout if text not in learned]


def _named(found: NDArray[np.bool_], reason: str) -> list[str]:
    return [reason if one else "" for one in found]


def _length_fault(text: str, filters: Filters) -> str:
    count = len(text.split())
    if count < filters.min_words:
        return "too short"
    return "too long" if filters.max_words and count > filters.max_words else ""
