"""Numbers about scores: ordered pairs, intervals, calibration, paired tests. No models, no torch.

Two models that were asked the same are compared item by item, which tells far smaller differences
apart than their two intervals do.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from playout.agents.rating.intervals import share_interval

__all__ = [
    "Paired",
    "bootstrap",
    "calibration_error",
    "corrected",
    "pair_accuracy",
    "paired_test",
    "ratio_interval",
    "reliability",
    "wilson",
]

Halves = NDArray[np.float32]
DRAWS = 2000
BLOCK = 4_000_000
"""Numbers of a table that are held at once: of 20,000 texts all pairs would take 3 GB a table."""


def pair_accuracy(scores: ArrayLike, truth: ArrayLike, *, gap: float = 0.0) -> float:
    """Share of pairs that the scores order as the truth does; equal scores are half right.

    Args:
        scores: [N].
        truth: [N]; pairs with equal truth do not count.
        gap: Only pairs whose truth differs by at least this.
    """
    found = total = 0.0
    for _, right, counted in _pairs(scores, truth, gap):
        found += float(right.sum(dtype=np.float64))
        total += float(counted.sum(dtype=np.float64))
    return found / total if total else math.nan


def _pairs(
    scores: ArrayLike, truth: ArrayLike, gap: float
) -> Iterator[tuple[slice, Halves, Halves]]:
    """Some rows at a time: how right each pair is (0, 1/2, 1) and whether it counts, [rows, N].

    The truer text of a pair is that of the row.
    """
    s, t = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    size = max(1, BLOCK // max(len(s), 1))
    for start in range(0, len(s), size):
        rows = slice(start, start + size)
        apart = t[rows, None] - t
        counted = (apart >= gap - 1e-9) & (apart > 0)
        higher, equal = s[rows, None] > s, s[rows, None] == s
        right = counted * (higher + 0.5 * equal)
        yield rows, right.astype(np.float32), counted.astype(np.float32)


def wilson(right: float, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; of nothing, all that a share can be."""
    return share_interval(min(right, total), total) if total else (0.0, 1.0)


def bootstrap(
    scores: Sequence[float], truth: Sequence[float], *, gap: float = 0.0, draws: int = 100
) -> tuple[float, float]:
    """95 % interval of `pair_accuracy` when the texts are drawn again with replacement."""
    rng, count = np.random.default_rng(0), len(scores)
    # A text drawn k times stands in k times as many pairs.
    drawn = [np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(draws)]
    times = np.stack(drawn).astype(np.float32)
    rights, counts = np.zeros_like(times), np.zeros_like(times)
    for rows, right, counted in _pairs(scores, truth, gap):
        rights += times[:, rows] @ right
        counts += times[:, rows] @ counted
    found = [
        float(right @ own) / max(float(counted @ own), 1.0)
        for right, counted, own in zip(rights, counts, times, strict=True)
    ]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def calibration_error(probabilities: ArrayLike, outcomes: ArrayLike, *, bins: int = 10) -> float:
    """Mean distance between predicted and observed shares over bins of equal width."""
    rows = reliability(probabilities, outcomes, bins=bins)
    total = sum(count for count, _, _ in rows)
    return sum(count / total * abs(said - seen) for count, said, seen in rows)


def reliability(
    probabilities: ArrayLike, outcomes: ArrayLike, *, bins: int = 10
) -> list[tuple[int, float, float]]:
    """Of every bin of equal width that holds something: count, mean prediction, mean outcome."""
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    place = np.minimum((p * bins).astype(int), bins - 1)
    found = []
    for index in range(bins):
        own = place == index
        if own.any():
            found.append((int(own.sum()), float(p[own].mean()), float(y[own].mean())))
    return found


def ratio_interval(
    values: ArrayLike, weights: ArrayLike | None = None
) -> tuple[float, float, float]:
    """The sum of values over the sum of weights (1 each if None), and its 95 % interval.

    The items are drawn again with replacement.
    """
    v = np.asarray(values, dtype=np.float64)
    w = np.ones(len(v)) if weights is None else np.asarray(weights, dtype=np.float64)
    ratios = np.concatenate([drawn @ v / (drawn @ w) for drawn in _resampled(len(v))])
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(v.sum() / w.sum()), float(low), float(high)


def _resampled(count: int) -> Iterator[NDArray[np.float64]]:
    """How often each of `count` items is drawn, float64 [draws, count], some draws at a time."""
    rng = np.random.default_rng(0)
    size = max(1, min(DRAWS, BLOCK // max(count, 1)))
    share = np.full(count, 1 / count)
    for start in range(0, DRAWS, size):
        yield rng.multinomial(count, share, min(size, DRAWS - start)).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Paired:
    """How two models differ on the same items, the first minus the second."""

    difference: float
    interval: tuple[float, float]
    """95 %, over the choice of the items."""
    p: float
    """Of a difference as large without there being any."""
    items: int


def paired_test(first: ArrayLike, second: ArrayLike, weights: ArrayLike | None = None) -> Paired:
    """Compares two models on the same items.

    Right and wrong answers (0 and 1) by McNemar's exact test on the items on which they differ,
    other values by turning the signs of their differences at random.

    Args:
        first: [N] values of one model.
        second: [N] of the other.
        weights: [N]; sums of values are divided by their sum, as bits by bytes. 1 each if None.
    """
    from scipy.stats import binomtest  # type: ignore[import-untyped]

    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    apart = a - b
    difference, low, high = ratio_interval(apart, weights)
    better, worse = int((apart > 0).sum()), int((apart < 0).sum())
    if weights is None and set(np.unique(np.concatenate([a, b]))) <= {0.0, 1.0}:
        p = float(binomtest(better, better + worse).pvalue) if better + worse else 1.0
        return Paired(difference, (low, high), p, len(a))
    rng, as_far = np.random.default_rng(1), 0
    seen = abs(apart.sum()) * (1 - 1e-12)
    for _ in range(DRAWS):
        signs = rng.integers(0, 2, len(a)) * 2 - 1
        as_far += bool(abs(float(signs @ apart)) >= seen)
    return Paired(difference, (low, high), (1 + as_far) / (1 + DRAWS), len(a))


def corrected(ps: Sequence[float]) -> list[float]:
    """The p values of several tests by Holm's rule, which keeps the chance of any false one."""
    order = sorted(range(len(ps)), key=lambda n: ps[n])
    found, largest = [0.0] * len(ps), 0.0
    for place, number in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - place) * ps[number]))
        found[number] = largest
    return found
