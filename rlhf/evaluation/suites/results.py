"""What the answers to a suite come to: a value with its interval, chance and calibration.

Beside a value stand what is clean of it (contamination.py) and the difference to another model that
was asked the same. Asking is score.py's, showing evaluate.py's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playout.errors import DataError
from playout.rlhf.evaluation.statistics import (
    calibration_error,
    paired_test,
    ratio_interval,
    reliability,
    wilson,
)
from playout.rlhf.evaluation.suites.contamination import contamination
from playout.rlhf.evaluation.suites.score import Answers
from playout.rlhf.evaluation.suites.suite import Choice, Passage, Program, Suite, Written

__all__ = [
    "calibration",
    "clean_part",
    "compared",
    "examples_read",
    "headline",
    "interval",
    "seen_part",
    "summary",
]

_LEAST_CLEAN = 10  # questions, of which a share says something
Floats = NDArray[np.float64]
_MEASURES = {Passage: "bits_per_byte", Program: "passed", Written: "exact", Choice: "accuracy"}


def summary(suite: Suite, answers: Answers, *, shots: int = 0) -> dict[str, Any]:
    """What a suite's answers come to.

    Args:
        suite: The questions.
        answers: What a model made of them.
        shots: Examples before each question.

    Returns:
        `measure` (accuracy, exact, passed or bits_per_byte), `value` with its 95 % `interval`,
        `items`; of choices `random` (what chance gives), `other` (options compared the other way),
        and, where each has one right option, `calibration`; `groups` where there are several;
        `shots` where examples were shown; `cut` where the context does not hold some questions
        whole, and with it `shots_read`, how many examples were read whole before these, at least
        and at most.
    """
    first = suite.items[0]
    values = headline(suite, answers)
    low, high = interval(values, answers.num_bytes)
    row: dict[str, Any] = {
        "kind": type(first).__name__.lower(),
        "about": suite.about,
        "items": len(suite.items),
        "sha256": suite.digest,
        "measure": _MEASURES[type(first)],
        "value": _ratio(values, answers.num_bytes),
        "interval": [low, high],
    }
    if answers.by_length is not None and answers.random is not None:
        other = answers.values if suite.by_length else answers.by_length
        row |= {
            "random": float(answers.random.mean()),
            "other": float(other.mean()),
        }
        if suite.by_length:
            row["measure"] = "accuracy by length"
    if answers.confidence is not None:
        row["calibration"] = calibration(answers.confidence, values)
    if shots and not isinstance(first, Passage):
        row["shots"] = shots
    if answers.cut:
        row["cut"] = answers.cut
        if answers.fit is not None:
            row["shots_read"] = list(answers.fit)
    groups = [item.group for item in suite.items]
    if len(set(groups)) > 1:
        row["groups"] = {}
        for group in sorted(set(groups)):
            part = _part(values, answers.num_bytes, _where(groups, group))
            row["groups"][group] = {
                "items": groups.count(group),
                "value": _ratio(*part),
                "interval": list(interval(*part)) if len(part[0]) > 1 else None,  # of one, none
            }
    return row


def examples_read(row: Mapping[str, Any]) -> str:
    """What a row of results says of examples that the context does not hold; empty if nothing."""
    if "shots_read" not in row:
        return ""
    least, most = row["shots_read"]
    if row["shots"] == 1:
        fits = "does not fit" if not most else "fits" if least else "fits before some only"
        return f"the example before each of them {fits}"
    fit = "none" if not most else str(most) if least == most else f"{least} to {most}"
    verb = "fits" if most < 2 and least == most else "fit"
    return f"of the {row['shots']} examples before each of them {fit} {verb}"


def calibration(confidence: Floats, values: Floats) -> dict[str, Any]:
    """How far a model is right as often as it is sure.

    Args:
        confidence: float64 [N], probability of the chosen option among those offered.
        values: float64 [N], whether it is right.

    Returns:
        `error` (ECE over ten bins), `brier`, mean `confidence`, and `bins`: count, mean confidence
        and mean value each.
    """
    return {
        "error": calibration_error(confidence, values),
        "brier": float(np.mean((confidence - values) ** 2)),
        "confidence": float(confidence.mean()),
        "bins": [list(part) for part in reliability(confidence, values)],
    }


def headline(suite: Suite, answers: Answers) -> Floats:
    """float64 [N]: what a suite's value is the mean of."""
    by_length = suite.by_length and answers.by_length is not None
    return answers.by_length if by_length else answers.values  # type: ignore[return-value]


def _where(groups: Sequence[str], group: str) -> NDArray[np.bool_]:
    return np.array([one == group for one in groups])


def _part(
    values: Floats, weights: Floats | None, rows: NDArray[np.bool_]
) -> tuple[Floats, Floats | None]:
    return values[rows], None if weights is None else weights[rows]


def _ratio(values: Floats, weights: Floats | None) -> float:
    return float(values.sum() / (len(values) if weights is None else weights.sum()))


def interval(values: Floats, weights: Floats | None = None) -> tuple[float, float]:
    """95 % interval of the mean of values [N], or of their sum over that of weights [N]."""
    if weights is None and set(np.unique(values)) <= {0.0, 1.0}:
        return wilson(float(values.sum()), len(values))
    return ratio_interval(values, weights)[1:]


def clean_part(suite: Suite, answers: Answers, training: Sequence[str]) -> dict[str, Any]:
    """`seen_part` of a suite's questions."""
    bare = ["" if isinstance(item, Passage) else item.question for item in suite.items]
    texts = [item.text for item in suite.items]
    return seen_part(texts, bare, training, headline(suite, answers), answers.num_bytes)


def seen_part(
    texts: Sequence[str],
    bare: Sequence[str],
    training: Sequence[str],
    values: Floats,
    weights: Floats | None = None,
) -> dict[str, Any]:
    """How many questions stand in the training text, and the value on the others.

    Args:
        texts: N questions with their answers.
        bare: N questions alone; "" where that is the same.
        training: Texts that were learned from.
        values: float64 [N], whose mean is the value; of another length, it is not told.
        weights: float64 [N], by whose sum the sum of values is divided; 1 each if None.

    Returns:
        Counts `leaked`, `near`, `untold` (too short) and `texts`; with both sorts of questions also
        `value` and `interval` of the clean ones.
    """
    found = contamination(texts, training, bare=bare)
    row: dict[str, Any] = {
        "leaked": int(found.leaked.sum()),
        "near": int((found.near & ~found.leaked).sum()),
        "untold": int((~found.told).sum()),
        "texts": found.texts,
    }
    clean = ~found.dirty
    if len(values) == len(clean) and _LEAST_CLEAN <= clean.sum() < len(clean):
        parts = _part(values, weights, clean)
        row |= {"value": _ratio(*parts), "interval": list(interval(*parts))}
    return row


def compared(first: Floats, second: Floats, weights: Floats | None = None) -> dict[str, Any]:
    """The second model's value and the difference to it, question by question."""
    if len(first) != len(second):
        raise DataError("the two models were not asked the same questions")
    found = paired_test(first, second, weights)
    return {
        "value": _ratio(second, weights),
        "difference": found.difference,
        "interval": list(found.interval),
        "p": found.p,
    }
