"""Power laws of loss: fitted to runs, in size, text and compute, and asked about a larger one.

`a + b * x ** -c` of one thing, or of parameters and tokens together, by a sum (Hoffmann et al.
2022) or a product; ranges come from leaving runs out. The runs and the page are scaling.py's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

FLOORED = 5
"""Runs from which on a law's floor is fitted: one more than its numbers, and one left out."""


@dataclass(frozen=True, slots=True)
class Law:
    """`floor + scale * x ** -power`."""

    floor: float
    scale: float
    power: float

    def __call__(self, x: float) -> float:
        """The loss at x."""
        return self.floor + self.scale * float(x) ** -self.power


def fit(x: Sequence[float], y: Sequence[float], *, floor: float | None = None) -> Law:
    """The law nearest to points in the logarithm, by least squares.

    Args:
        x: parameters, tokens or operations.
        y: losses, above the floor.
        floor: what more of x never reaches; None lets it be found.
    """
    from scipy.optimize import least_squares

    xs, ys = np.log(np.asarray(x, float)), np.asarray(y, float)
    free = floor is None
    slope, start = np.polyfit(xs, np.log(ys), 1)
    guess = [start, max(0.05, -slope), *([0.3 * ys.min()] if free else [])]

    def miss(p: Floats) -> Floats:
        bottom = p[2] if free else floor
        found = bottom + np.exp(p[0] - p[1] * xs)
        return np.log(np.maximum(found, 1e-9)) - np.log(ys)

    low, high = [-50.0, 0.0], [50.0, 5.0]
    if free:
        low, high = [*low, 0.0], [*high, float(ys.min())]
    found = least_squares(miss, guess, bounds=(low, high)).x
    return Law(
        float(found[2]) if free else float(floor or 0.0), float(np.exp(found[0])), float(found[1])
    )


SUM, PRODUCT = FORMS = ("a sum of powers", "a product of powers")
"""Of what a surface is made, besides its floor."""


@dataclass(frozen=True, slots=True)
class Surface:
    """The loss by parameters and tokens.

    `floor + a * parameters ** -alpha + b * tokens ** -beta` (Hoffmann et al. 2022, eq. 2): what is
    lost to a model's size stays, whatever it reads. Or, as a product, `floor + a * parameters **
    -alpha * b * tokens ** -beta`: large models also learn faster, as where training is short.
    """

    form: str
    floor: float
    a: float
    alpha: float
    b: float
    beta: float

    def __call__(self, parameters: float, tokens: float) -> float:
        """The loss of a model of a size after so much text."""
        x, y = self.a * parameters**-self.alpha, self.b * tokens**-self.beta
        return self.floor + (x + y if self.form == SUM else x * y)


def fit_surface(
    rows: Sequence[dict[str, Any]], form: str = SUM, near: Surface | None = None
) -> Surface:
    """The surface nearest to runs in the logarithm, by Huber's loss, from six beginnings.

    Args:
        rows: with `parameters`, `tokens` and `held-out loss`; at least six.
        form: SUM, or PRODUCT, whose `b` is 1.
        near: where to begin, instead.
    """
    from scipy.optimize import least_squares
    from scipy.special import logsumexp

    n, d, y = (
        np.array([float(row[key]) for row in rows])
        for key in ("parameters", "tokens", "held-out loss")
    )

    def miss(p: Floats) -> Floats:
        """By the logarithms of floor and a, both powers, and of a sum the logarithm of b."""
        floor, size, text = np.full(len(n), p[0]), p[1] - p[2] * np.log(n), -p[3] * np.log(d)
        terms = (floor, size, p[4] + text) if form == SUM else (floor, size + text)
        found: Floats = logsumexp(np.stack(terms), axis=0) - np.log(y)
        return found

    low = [-10.0, -20.0, 0.0, 0.0, -20.0]
    high = [float(np.log(y.min())), 50.0, 2.0, 2.0, 50.0]
    best, cost, used = np.zeros(5), np.inf, 5 if form == SUM else 4
    sizes = np.log(n.mean()), np.log(d.mean())
    guesses = [
        [np.log(floor * y.min()), power * (sizes[0] if form == SUM else sum(sizes)), power, power,
         power * sizes[1]]
        for floor in (0.2, 0.5, 0.8)
        for power in (0.25, 0.6)
    ]  # fmt: skip
    if near is not None:
        logs = [float(np.log(x)) for x in (near.floor, near.a, near.b)]
        guesses = [[logs[0], logs[1], near.alpha, near.beta, logs[2]]]
    lower, upper = np.array(low[:used]), np.array(high[:used])
    for guess in guesses:
        start = np.clip(guess[:used], lower + 1e-6, upper - 1e-6)
        found = least_squares(miss, start, bounds=(lower, upper), loss="huber", f_scale=1e-2)
        if found.cost < cost:
            best[:used], cost = found.x, found.cost
    floor, a, alpha, beta, b = best
    return Surface(form, *(float(x) for x in (np.exp(floor), np.exp(a), alpha, np.exp(b), beta)))


def predict_largest(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a surface without the dearest run says of it, and the range without any other.

    The form is that which tells each of the other runs best when it is left out in its turn.
    """
    ordered = sorted(rows, key=lambda row: row["operations"])
    known, last = ordered[:-1], ordered[-1]

    def asked(surface: Surface, row: dict[str, Any]) -> float:
        return surface(row["parameters"], row["tokens"])

    def off_by(without: Sequence[Surface]) -> float:
        """How far each run is off by the surface that has not seen it: root of the mean square."""
        pairs = zip(without, known, strict=True)
        ratios = [asked(one, row) / row["held-out loss"] for one, row in pairs]
        return float(np.sqrt(np.mean(np.square(np.log(ratios)))))

    wholes = {form: fit_surface(known, form) for form in FORMS}
    rests = [[*known[:i], *known[i + 1 :]] for i in range(len(known))]
    without = {
        form: [fit_surface(rest, form, whole) for rest in rests] for form, whole in wholes.items()
    }
    off = {form: off_by(fits) for form, fits in without.items()}
    best = min(FORMS, key=lambda form: off[form])
    surface, others = wholes[best], [asked(one, last) for one in without[best]]
    predicted, measured = asked(surface, last), float(last["held-out loss"])
    return {
        "form": surface.form,
        "off, of left out": off,
        "alpha": surface.alpha,
        "beta": surface.beta,
        "floor": surface.floor,
        "predicted": predicted,
        "range": (min(others), max(others)),
        "measured": measured,
        "off by": abs(predicted - measured) / measured,
    }


def jackknife(
    x: Sequence[float], y: Sequence[float], *, floor: float | None = None
) -> tuple[float, float]:
    """The range of the exponent when each point is left out once."""
    powers = [
        fit([*x[:i], *x[i + 1 :]], [*y[:i], *y[i + 1 :]], floor=floor).power for i in range(len(x))
    ]
    return min(powers), max(powers)


def study(
    rows: list[dict[str, Any]], x: str, y: str, *, floor: float | None = None
) -> dict[str, Any]:
    """The law without the last row, its exponent's range, and how far off it is there.

    Fewer than FLOORED rows to fit cannot tell a floor from a power: the floor is zero then.
    """
    xs, ys = [float(row[x]) for row in rows], [float(row[y]) for row in rows]
    if floor is None and len(rows) - 1 < FLOORED:
        floor = 0.0
    law = fit(xs[:-1], ys[:-1], floor=floor)
    return {"law": law, "exponent": law.power, "range": jackknife(xs[:-1], ys[:-1], floor=floor),
            "predicted": law(xs[-1]), "measured": ys[-1],
            "off by": abs(law(xs[-1]) - ys[-1]) / ys[-1]}  # fmt: skip


def frontier(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of all runs those that no cheaper run beats, cheapest first."""
    found: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda row: row["operations"]):
        if not found or row["held-out loss"] < found[-1]["held-out loss"]:
            found.append(row)
    return found


def cost_of(law: Law, loss: float) -> float:
    """Where a law reaches a loss; infinite where it falls too slowly for that, or never does."""
    if loss <= law.floor or law.scale <= 0:
        return math.inf
    steps = math.log(law.scale / (loss - law.floor))
    return math.exp(steps / law.power) if steps < 700 * law.power else math.inf
