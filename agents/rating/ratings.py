"""Ratings from results: Bradley-Terry with draws and an advantage of the first move.

Davidson's model. With x = strength(first) - strength(second) + advantage, in natural units,
    win : draw : loss of the first player  =  exp(x / 2) : exp(draw) : exp(-x / 2),
an exponential family, so that the likelihood has one maximum. 400 Elo are a factor of ten in wins
to losses. A weak prior keeps ratings finite when somebody won every game. Sequential tests stand in
sprt.py; nothing here plays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from playout.errors import DataError

ELO = 400 / math.log(10)  # Elo of one natural unit
_PRIOR_SD = 1500 / ELO  # of every strength: pulls 100 even games by less than a hundredth of an Elo
_EXTRA_SD = 3.0  # of the advantage and of the draw parameter, natural units
_NO_DRAWS = -20.0

Floats = npt.NDArray[np.float64]


class Result(NamedTuple):
    """Games of one player moving first against another."""

    first: str
    second: str
    wins: int
    """Games that the first player won."""
    draws: int
    losses: int


@dataclass(frozen=True, slots=True)
class Rating:
    """One player's rating in Elo with its interval."""

    name: str
    elo: float
    low: float
    high: float
    games: int
    score: float
    """Points out of games, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Ratings:
    """A fitted model.

    Attributes:
        players: Ratings, highest first.
        advantage: Elo that moving first is worth, with its interval.
        draw_share: Share of draws expected between equals, the advantage left aside.
        covariance: [n, n] of the Elo numbers, in the order of `names`.
        names: Players in the order of the covariance.
        anchor: The player whose rating was given, or None: the mean is.
    """

    players: tuple[Rating, ...]
    advantage: tuple[float, float, float]
    draw_share: float
    covariance: Floats
    names: tuple[str, ...]
    anchor: str | None

    def __getitem__(self, name: str) -> Rating:
        for rating in self.players:
            if rating.name == name:
                return rating
        raise KeyError(name)

    def spread(self, a: str, b: str) -> float:
        """The standard error of the difference of two ratings, in Elo."""
        i, j = self.names.index(a), self.names.index(b)
        cov = self.covariance
        return math.sqrt(max(float(cov[i, i] + cov[j, j] - 2 * cov[i, j]), 1e-12))

    def superiority(self, a: str, b: str) -> float:
        """The probability that `a` is the stronger, by the normal approximation."""
        return _normal_cdf((self[a].elo - self[b].elo) / self.spread(a, b))


def rate(
    results: Iterable[Result | Sequence[object]],
    *,
    anchor: str | None = None,
    anchor_elo: float = 0.0,
    confidence: float = 0.95,
    intervals: Literal["profile", "normal"] = "profile",
    prior: bool = True,
    weight: float = 1.0,
) -> Ratings:
    """Fits ratings by maximum likelihood.

    Args:
        results: What was played; several entries of one pair add up.
        anchor: The player whose rating is `anchor_elo`; without one the mean is.
        anchor_elo: That rating.
        confidence: Of the intervals.
        intervals: "profile" follows the likelihood (right also where somebody won nearly all),
            "normal" its curvature.
        prior: Off gives plain maximum likelihood, which exists only if no group won everything
            against the rest.
        weight: Of a result: less than 1 where results come from the same games and tell less than
            as many games would, see `weight_at_tables`.

    Raises:
        DataError: No games, unknown anchor, or no maximum without a prior.
    """
    model = _Model([_checked(result) for result in results], anchor, prior, weight)
    theta = model.fit()
    covariance = np.asarray(np.linalg.pinv(model.hessian(theta)), np.float64)
    spread = model.basis @ covariance @ model.basis.T * ELO**2
    base = anchor_elo
    elos = model.basis @ theta * ELO
    bounds = [model.interval(theta, row, covariance, confidence, intervals) for row in model.basis]
    players = []
    for i, name in enumerate(model.names):
        low, high = (edge * ELO + base for edge in bounds[i])
        games, points = model.games[i], model.points[i]
        players.append(Rating(name, float(elos[i] + base), low, high, int(games), points / games))
    players.sort(key=lambda rating: -rating.elo)
    direction = np.zeros(len(theta))
    direction[-2] = 1.0
    low, high = model.interval(theta, direction, covariance, confidence, intervals)
    nu = math.exp(theta[-1])
    return Ratings(
        players=tuple(players),
        advantage=(float(theta[-2] * ELO), low * ELO, high * ELO),
        draw_share=nu / (2 + nu),
        covariance=spread,
        names=tuple(model.names),
        anchor=anchor,
    )


def weight_at_tables(num_players: int) -> float:
    """The weight of a result of two players among all at a table.

    An order of P players tells P - 1 things, and has P (P - 1) / 2 pairs. With two players it is 1.
    """
    return 2 / max(num_players, 2)


def expected_score(elo_difference: float) -> float:
    """The share of points that a difference in Elo promises where draws count half."""
    return 1 / (1 + 10 ** (-elo_difference / 400))


def elo_of_score(score: float) -> float:
    """The difference in Elo that a share of points shows; infinite at 0 and 1."""
    if not 0 <= score <= 1:
        raise DataError(f"a score must be from 0 to 1, not {score}")
    if score in (0, 1):
        return math.copysign(math.inf, score - 0.5)
    return 400 * math.log10(score / (1 - score))


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _checked(result: Result | Sequence[object]) -> Result:
    found = Result(*result)  # type: ignore[arg-type]
    counts = (found.wins, found.draws, found.losses)
    if any(isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0 for n in counts):
        raise DataError(f"results must be whole numbers from 0 up, got {counts}")
    if found.first == found.second:
        raise DataError(f"{found.first} cannot be rated by games against itself")
    return found


class _Model:
    """The likelihood over theta: strengths but for their common shift, advantage, draw."""

    def __init__(
        self, results: list[Result], anchor: str | None, prior: bool, weight: float
    ) -> None:
        results = [result for result in results if result.wins + result.draws + result.losses]
        if not results:
            raise DataError("there are no games to rate")
        self.names = list(dict.fromkeys(name for result in results for name in result[:2]))
        count = len(self.names)
        if anchor is not None and anchor not in self.names:
            raise DataError(
                f"the anchor {anchor!r} played no games; players are {', '.join(self.names)}"
            )
        index = {name: i for i, name in enumerate(self.names)}
        counts = np.array([result[2:] for result in results], float)
        first = [index[result.first] for result in results]
        second = [index[result.second] for result in results]
        self.games, self.points = np.zeros(count), np.zeros(count)
        np.add.at(self.games, first + second, np.tile(counts.sum(1), 2))
        np.add.at(self.points, first, counts[:, 0] + counts[:, 1] / 2)
        np.add.at(self.points, second, counts[:, 2] + counts[:, 1] / 2)
        # Strengths as a linear map of free numbers: the anchor's is 0, or they add up to 0.
        if anchor is None:
            shift = np.full((count, count), -1 / count) + np.eye(count)
            strengths = np.linalg.svd(shift)[0][:, : count - 1]
        else:
            strengths = np.delete(np.eye(count), index[anchor], axis=1)
        self.basis = np.hstack([strengths, np.zeros((count, 2))])  # [n, parameters]
        design = np.zeros((len(results), count))
        design[np.arange(len(results)), first] += 1
        design[np.arange(len(results)), second] -= 1
        self.design = design @ self.basis
        self.design[:, -2] = 1.0
        self.counts = counts * weight
        free = self.basis.shape[1]
        self.precision, self.centre = np.zeros((free, free)), np.zeros(free)
        if prior:
            self.precision = self.basis.T @ self.basis / _PRIOR_SD**2
            self.precision[-2, -2] = self.precision[-1, -1] = 1 / _EXTRA_SD**2
            if not counts[:, 1].any():  # a game that has shown no draws is taken to have none
                self.precision[-1, -1], self.centre[-1] = 1e4, _NO_DRAWS
        else:
            self._must_have_maximum(np.array(first), np.array(second))

    def _must_have_maximum(
        self, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]
    ) -> None:
        """Without a prior everybody must have scored against the rest, and draws be there."""
        from scipy.sparse.csgraph import connected_components

        scored = np.zeros((len(self.names), len(self.names)))
        np.add.at(scored, (first, second), self.counts[:, 0] + self.counts[:, 1])
        np.add.at(scored, (second, first), self.counts[:, 2] + self.counts[:, 1])
        if connected_components(scored, directed=True, connection="strong")[0] > 1:
            raise DataError(
                "no maximum of the likelihood: some won everything against the rest; use a prior"
            )
        if not (self.counts.sum(0) > 0).all():
            raise DataError(
                "no maximum of the likelihood without wins, draws and losses; use a prior"
            )

    def loss(self, theta: Floats) -> tuple[float, Floats]:
        """Minus the log-likelihood (with prior) and its gradient."""
        x = self.design @ theta
        shares, log_sum = self._shares(x, theta[-1])
        won, drawn, lost = self.counts.T
        total = self.counts.sum(1)
        value = -((won - lost) * x / 2 + drawn * theta[-1] - total * log_sum).sum()
        by_x = -((won - lost) / 2 - total * (shares[0] - shares[2]) / 2)
        gradient = self.design.T @ by_x
        gradient[-1] -= (drawn - total * shares[1]).sum()
        away = theta - self.centre
        pull = self.precision @ away
        return float(value + away @ pull / 2), gradient + pull

    def hessian(self, theta: Floats) -> Floats:
        """Of minus the log-likelihood: the covariance of the statistics."""
        win, draw, loss = self._shares(self.design @ theta, theta[-1])[0]
        total = self.counts.sum(1)
        half = (win - loss) / 2
        weight = total * ((win + loss) / 4 - half**2)
        matrix: Floats = self.design.T @ (self.design * weight[:, None])
        cross = self.design.T @ (-total * half * draw)
        matrix[:, -1] += cross
        matrix[-1, :] += cross
        matrix[-1, -1] += (total * draw * (1 - draw)).sum()
        return matrix + self.precision

    @staticmethod
    def _shares(x: Floats, draw: float) -> tuple[Floats, Floats]:
        logits = np.stack([x / 2, np.full_like(x, draw), -x / 2])
        log_sum = np.logaddexp.reduce(logits, axis=0)
        return np.exp(logits - log_sum), log_sum

    def fit(
        self, *, along: Floats | None = None, at: float = 0.0, start: Floats | None = None
    ) -> Floats:
        """The maximum, or the maximum among theta with along @ theta = at."""
        from scipy.optimize import minimize

        size = self.design.shape[1]
        origin, frame = np.zeros(size), np.eye(size)
        if along is not None:
            origin = along * at / (along @ along)
            frame = np.linalg.svd(along[None, :])[2][1:].T
        first = frame.T @ ((self.centre if start is None else start) - origin)

        def loss(free: Floats) -> tuple[float, Floats]:
            value, gradient = self.loss(origin + frame @ free)
            return value, frame.T @ gradient

        def curvature(free: Floats) -> Floats:
            return frame.T @ self.hessian(origin + frame @ free) @ frame

        found = minimize(
            loss, first, jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-8}
        )
        return np.asarray(origin + frame @ found.x)

    def interval(
        self,
        theta: Floats,
        direction: Floats,
        covariance: Floats,
        confidence: float,
        kind: str,
    ) -> tuple[float, float]:
        """The interval of direction @ theta."""
        from scipy.optimize import brentq
        from scipy.stats import chi2, norm

        centre = float(direction @ theta)
        sigma = math.sqrt(max(float(direction @ covariance @ direction), 0.0))
        if sigma < 1e-12:
            return centre, centre
        spread = float(norm.ppf(0.5 + confidence / 2)) * sigma
        if kind == "normal":
            return centre - spread, centre + spread
        lowest, limit = self.loss(theta)[0], float(chi2.ppf(confidence, 1)) / 2

        def excess(value: float) -> float:
            return self.loss(self.fit(along=direction, at=value, start=theta))[0] - lowest - limit

        edges = []
        for sign in (-1, 1):
            reach = spread
            while excess(centre + sign * reach) < 0:
                reach *= 1.6
            edges.append(float(brentq(excess, centre, centre + sign * reach, xtol=1e-5)))
        return edges[0], edges[1]
