"""Intervals of shares (of moves, games, whatever is right or not) and of means."""

import math
from collections.abc import Sequence


def share_interval(successes: float, trials: float, *, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson's score, which behaves near 0 and 1.

    `successes` may count halves, and both less than there were where those tell less.
    """
    if not 0 <= successes <= trials or trials <= 0:
        raise ValueError(f"{successes} of {trials} is no share")
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    # The share itself lies inside; at 0 and 1 the last bit of a sum may say otherwise.
    low, high = min(share, (centre - spread) / scale), max(share, (centre + spread) / scale)
    return max(0.0, low), min(1.0, high)


def format_share(share: float, interval: Sequence[float]) -> str:
    """A share and its interval for people, in per cent: "67.1 % (65.0 .. 69.1)"."""
    return f"{100 * share:.1f} % ({100 * interval[0]:.1f} .. {100 * interval[1]:.1f})"


def format_number(value: float) -> str:
    """A result for people, to three digits or more: "0.25", "1,090"."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def format_mean(mean: float, interval: Sequence[float]) -> str:
    """A mean and its interval for people: "1,090 (1,050 .. 1,130)"."""
    low, high = (format_number(end) for end in interval)
    return f"{format_number(mean)} ({low} .. {high})"


def mean_interval(values: Sequence[float], *, z: float = 1.959964) -> tuple[float, float, float]:
    """The mean of some numbers and its 95 % interval, by the spread of the mean.

    One number alone has the interval of itself: nothing is known of its spread.
    """
    count = len(values)
    mean = sum(values) / count
    if count < 2:
        return mean, mean, mean
    variance = sum((value - mean) ** 2 for value in values) / (count - 1)
    spread = z * math.sqrt(variance / count)
    return mean, mean - spread, mean + spread
