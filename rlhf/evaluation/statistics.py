"""Numbers about scores: ordered pairs, intervals, calibration. No models, no torch."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from playout.agents.rating.intervals import share_interval

__all__ = ["bootstrap", "calibration_error", "pair_accuracy", "wilson"]

Halves = NDArray[np.float32]


def pair_accuracy(scores: ArrayLike, truth: ArrayLike, *, gap: float = 0.0) -> float:
    """Share of pairs that the scores order as the truth does; equal scores are half right.

    Args:
        scores: [N].
        truth: [N]; pairs with equal truth do not count.
        gap: Only pairs whose truth differs by at least this.
    """
    right, counted = _pairs(scores, truth, gap)
    total = float(counted.sum(dtype=np.float64))
    return float(right.sum(dtype=np.float64)) / total if total else math.nan


def _pairs(scores: ArrayLike, truth: ArrayLike, gap: float) -> tuple[Halves, Halves]:
    """How right each pair is (0, 1/2, 1) and whether it counts, [N, N], the truer text first."""
    s, t = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    apart = t[:, None] - t
    counted = (apart >= gap - 1e-9) & (apart > 0)
    higher, equal = s[:, None] > s, s[:, None] == s
    right = counted * (higher + 0.5 * equal)
    return right.astype(np.float32), counted.astype(np.float32)


def wilson(right: float, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; of nothing, all that a share can be."""
    return share_interval(min(right, total), total) if total else (0.0, 1.0)


def bootstrap(
    scores: Sequence[float], truth: Sequence[float], *, gap: float = 0.0, draws: int = 100
) -> tuple[float, float]:
    """95 % interval of `pair_accuracy` when the texts are drawn again with replacement."""
    right, counted = _pairs(scores, truth, gap)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        # A text drawn k times stands in k times as many pairs.
        times = np.bincount(rng.integers(0, len(right), len(right)), minlength=len(right))
        drawn = times.astype(np.float32)
        found.append(float(drawn @ right @ drawn) / max(float(drawn @ counted @ drawn), 1.0))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def calibration_error(probabilities: ArrayLike, outcomes: ArrayLike, *, bins: int = 10) -> float:
    """Mean distance between predicted and observed shares over bins of equal width."""
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    place = np.minimum((p * bins).astype(int), bins - 1)
    error = 0.0
    for index in range(bins):
        own = place == index
        if own.any():
            error += float(own.mean()) * abs(float(p[own].mean()) - float(y[own].mean()))
    return error
