"""Numbers about scores: ordered pairs, intervals, calibration. No models, no torch."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["bootstrap", "calibration_error", "pair_accuracy", "wilson"]

Floats = NDArray[np.float64]


def pair_accuracy(scores: ArrayLike, truth: ArrayLike, *, gap: float = 0.0) -> float:
    """Share of pairs that the scores order as the truth does; equal scores are half right.

    Args:
        scores: [N].
        truth: [N]; pairs with equal truth do not count.
        gap: Only pairs whose truth differs by at least this.
    """
    s, t = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    right, total = 0.0, 0
    for index in range(len(s)):
        apart = t[index] - t
        above = (apart >= gap - 1e-9) & (apart > 0)
        difference = s[index] - s[above]
        right += float((difference > 0).sum()) + 0.5 * float((difference == 0).sum())
        total += int(above.sum())
    return right / total if total else math.nan


def wilson(right: float, total: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    if not total:
        return 0.0, 1.0
    share = right / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    half /= 1 + z * z / total
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(
    scores: Sequence[float], truth: Sequence[float], *, gap: float = 0.0, draws: int = 100
) -> tuple[float, float]:
    """95 % interval of `pair_accuracy` when the texts are drawn again with replacement."""
    s, t = np.asarray(scores), np.asarray(truth)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        index = rng.integers(0, len(s), len(s))
        found.append(pair_accuracy(s[index], t[index], gap=gap))
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
