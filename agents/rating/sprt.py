"""Sequential tests: play until it is clear which of two players is better, and no longer.

The generalised sequential probability ratio test on the multinomial of results: of single games
(loss, draw, win), or of pairs that share an opening with colours swapped (five results, from two
losses to two wins), which needs fewer games because the opening's own luck cancels. The likelihoods
are maximised exactly under each hypothesis' mean score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from playout.agents.rating.ratings import elo_of_score, expected_score
from playout.errors import ConfigError, DataError

MAX_ELO = 3000  # a loss in thirty million games; from 6,400 on an expected score rounds to 1


@dataclass(frozen=True, slots=True)
class SprtConfig:
    """Hypotheses and error rates.

    Attributes:
        elo0: H0: the difference is at most this, from -MAX_ELO.
        elo1: H1: it is at least this, up to MAX_ELO.
        alpha: Chance to accept H1 although H0 holds.
        beta: Chance to accept H0 although H1 holds.
    """

    elo0: float = 0.0
    elo1: float = 20.0
    alpha: float = 0.05
    beta: float = 0.05

    def __post_init__(self) -> None:
        if not -MAX_ELO <= self.elo0 < self.elo1 <= MAX_ELO:  # nor NaN
            raise ConfigError(
                f"SPRT needs elo0 < elo1, both from {-MAX_ELO} to {MAX_ELO}, got {self.elo0:g} and "
                f"{self.elo1:g}"
            )
        if not (0 < self.alpha < 0.5 and 0 < self.beta < 0.5):
            raise ConfigError(
                f"SPRT needs alpha and beta between 0 and 0.5, got {self.alpha} and {self.beta}"
            )

    @classmethod
    def parse(cls, text: str) -> SprtConfig:
        """Reads "elo0,elo1", such as "0,20"."""
        try:
            elo0, elo1 = (float(part) for part in text.split(","))
        except ValueError:
            raise ConfigError(f"SPRT is given as elo0,elo1, such as 0,20; got {text!r}") from None
        return cls(elo0, elo1)


@dataclass(frozen=True, slots=True)
class Sprt:
    """Where a test stands.

    Attributes:
        llr: The log-likelihood ratio of H1 to H0.
        lower: At or below it H0 is accepted.
        upper: At or above it H1 is accepted.
        elo: The difference that the score so far shows.
        trials: Results counted.
    """

    llr: float
    lower: float
    upper: float
    elo: float
    trials: int

    @property
    def decision(self) -> str:
        """What is accepted: "H0", "H1", or nothing yet: "open"."""
        return "H1" if self.llr >= self.upper else "H0" if self.llr <= self.lower else "open"


def sprt(counts: Sequence[int], config: SprtConfig | None = None) -> Sprt:
    """The state of the test.

    Args:
        counts: How often each result came, from worst to best with equal steps: [loss, draw, win],
            or [0, 1/2, 1, 3/2, 2 points] of pairs.
        config: The hypotheses.
    """
    config = config if config is not None else SprtConfig()
    seen = np.asarray(counts, float)
    if seen.ndim != 1 or len(seen) not in (3, 5) or (seen < 0).any() or not np.isfinite(seen).all():
        raise DataError(f"expected three or five counts from 0 up, got {list(counts)}")
    total = int(seen.sum())
    lower, upper = (
        math.log(config.beta / (1 - config.alpha)),
        math.log((1 - config.beta) / config.alpha),
    )
    if not total:
        return Sprt(0.0, lower, upper, 0.0, 0)
    points = np.linspace(0, 1, len(seen))
    # A thousandth of a game in every class: results that have not come yet are not impossible.
    share = np.maximum(seen, 1e-3) / np.maximum(seen, 1e-3).sum()
    null, alternative = (
        _at_mean(share, points, expected_score(elo)) for elo in (config.elo0, config.elo1)
    )
    llr = float((np.maximum(seen, 1e-3) * np.log(alternative / null)).sum())
    return Sprt(llr, lower, upper, elo_of_score(float(seen @ points) / total), total)


def _at_mean(share: np.ndarray, points: np.ndarray, mean: float) -> np.ndarray:
    """The likeliest distribution with this mean: share / (1 + t (points - mean))."""
    from scipy.optimize import brentq

    away = points - mean
    low, high = -1 / away.max(), -1 / away.min()  # beyond these a share turns negative

    def slope(t: float) -> float:
        return float((share * away / (1 + t * away)).sum())

    margin = 1e-12  # the ends are many powers of ten apart where the mean is near 0 or 1
    t = float(brentq(slope, low * (1 - margin), high * (1 - margin), xtol=1e-13))
    found: np.ndarray = share / (1 + t * away)
    return found
