"""Comparisons for the reward model: votes between pairs of texts, from votes or from ratings.

Two rated texts are compared as their raters would compare them: the share of rater pairs in which
one rating is above, below or equal to the other, so real disagreement stays in. Every two texts of
a batch are a pair, which costs no more than reading the texts. Files are records.py's.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from playout.errors import DataError
from playout.rlhf.data.batches import batch_of
from playout.rlhf.data.messages import Prompt
from playout.rlhf.data.records import Preference, Rated, prompt_key
from torch import Tensor

__all__ = ["Comparisons", "Pairs", "RatedPairs", "VotedPairs", "compare"]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Comparisons among N texts; P pairs."""

    texts: list[int]
    """Which texts of the source, N indices."""
    first: Tensor
    """int64 [P], places in `texts`."""
    second: Tensor
    """int64 [P]."""
    votes: Tensor
    """float32 [P, 3]: for the first, for the second, for neither."""
    margins: Tensor
    """float32 [P], by how much the winner should lead."""


class Comparisons(Protocol):
    """A source of comparisons."""

    @property
    def texts(self) -> Sequence[Prompt]:
        """Plain texts, or whole conversations."""

    @property
    def where(self) -> Sequence[str]:
        """File and line of each text, for errors; empty where all are plain."""

    def batch(self, size: int, step: int, *, seed: int) -> Pairs:
        """Comparisons for a step, about `size` texts read."""

    def most_texts(self, size: int) -> int:
        """How many texts a step of that size reads at most."""

    def all_pairs(self) -> Pairs:
        """Everything, for measuring (at most a fixed number of pairs)."""

    def without(self, texts: Collection[int]) -> "Comparisons":
        """The same without those of some texts, given by their numbers."""


def compare(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """Shares of rater pairs in which a is above, below and equal to b."""
    x, y = np.asarray(a)[:, None], np.asarray(b)[None]
    return float((x > y).mean()), float((x < y).mean()), float((x == y).mean())


def answered(prompt: Prompt, answer: str) -> Prompt:
    """A prompt with its answer: joined, or as one more message."""
    if isinstance(prompt, str):
        return prompt + answer
    return (*prompt, {"role": "assistant", "content": answer})


class RatedPairs:
    """Comparisons of rated texts."""

    def __init__(self, items: Sequence[Rated]) -> None:
        if len({item.mean for item in items}) < 2:
            raise DataError("all texts are rated alike; there is nothing to learn an order from")
        self.items = list(items)
        self.texts, self.where = [item.text for item in items], list[str]()
        self.means = np.array([item.mean for item in items])
        levels = sorted({rating for item in items for rating in item.ratings})
        if len(levels) > 64:
            # Ratings on a fine scale: ties are chance, and the nearest of 64 levels will do.
            levels = np.quantile(
                [r for item in items for r in item.ratings], np.linspace(0, 1, 64)
            ).tolist()
        edges = np.asarray(levels)
        self.shares = np.zeros((len(items), len(edges)), dtype=np.float32)
        for row, item in enumerate(items):
            place = np.abs(edges[None] - np.asarray(item.ratings)[:, None]).argmin(1)
            np.add.at(self.shares[row], place, 1.0 / len(place))

    def batch(self, size: int, step: int, *, seed: int) -> Pairs:
        """All pairs among `size` texts."""
        return self._among(batch_of(len(self.texts), size, step, seed=seed))

    def most_texts(self, size: int) -> int:
        """As many as that, where there are so many."""
        return min(size, len(self.texts))

    def all_pairs(self) -> Pairs:
        """Every text with a few others: 20 fixed random partners each."""
        count = len(self.texts)
        rng = np.random.default_rng(0)
        first = np.repeat(np.arange(count), min(20, count - 1))
        second = (first + rng.integers(1, count, len(first))) % count
        return self._pairs(list(range(count)), first, second)

    def without(self, texts: Collection[int]) -> "RatedPairs":
        """The same without some texts."""
        gone = set(texts)
        return RatedPairs([item for n, item in enumerate(self.items) if n not in gone])

    def _among(self, chosen: list[int]) -> Pairs:
        first, second = np.triu_indices(len(chosen), 1)
        return self._pairs(chosen, first, second)

    def _pairs(
        self, chosen: list[int], first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> Pairs:
        shares = self.shares[chosen]
        below = np.cumsum(shares, 1) - shares
        a, b = shares[first], shares[second]
        wins, losses = (a * below[second]).sum(1), (b * below[first]).sum(1)
        votes = np.stack([wins, losses, (a * b).sum(1)], 1)
        return Pairs(
            chosen,
            torch.from_numpy(first),
            torch.from_numpy(second),
            torch.from_numpy(votes),
            torch.zeros(len(first)),
        )


class VotedPairs:
    """Comparisons that people made, one pair of answers each."""

    def __init__(self, items: Sequence[Preference]) -> None:
        self.items = [item for item in items if item.wins + item.losses + item.ties > 0]
        if not self.items:
            raise DataError("there is no vote to learn from")
        places: dict[str, int] = {}
        self.texts: list[Prompt] = []
        self.where: list[str] = []
        rows = []
        for item in self.items:
            row = []
            for answer in (item.first, item.second):
                text = answered(item.prompt, answer)
                key = prompt_key(text)
                if key not in places:
                    places[key] = len(places)
                    self.texts.append(text)
                    self.where.append(item.where)
                row.append(places[key])
            rows.append(row)
        self.pairs = np.array(rows)
        self.votes = np.array([[i.wins, i.losses, i.ties] for i in self.items], dtype=np.float32)
        self.margins = np.array([item.margin for item in self.items], dtype=np.float32)

    def batch(self, size: int, step: int, *, seed: int) -> Pairs:
        """`size // 2` pairs, each text once."""
        chosen = batch_of(len(self.items), max(1, size // 2), step, seed=seed)
        return self._pairs(np.asarray(chosen))

    def most_texts(self, size: int) -> int:
        """Two a pair; pairs that share texts have fewer."""
        return min(2 * max(1, size // 2), len(self.texts))

    def all_pairs(self) -> Pairs:
        """All of them."""
        return self._pairs(np.arange(len(self.items)))

    def without(self, texts: Collection[int]) -> "VotedPairs":
        """The same without the pairs that some texts stand in."""
        gone = set(texts)
        pairs = zip(self.items, self.pairs.tolist(), strict=True)
        return VotedPairs([item for item, pair in pairs if not gone.intersection(pair)])

    def _pairs(self, chosen: NDArray[np.int64]) -> Pairs:
        texts, places = np.unique(self.pairs[chosen], return_inverse=True)
        places = places.reshape(-1, 2)
        return Pairs(
            texts.tolist(),
            torch.from_numpy(places[:, 0]),
            torch.from_numpy(places[:, 1]),
            torch.from_numpy(self.votes[chosen]),
            torch.from_numpy(self.margins[chosen]),
        )
