"""What lm_eval's samples tell of each document: its question and answer, how sure a model is of it.

A sample holds a row of the data (`doc`), what was asked (`arguments`: a context with a continuation
or settings, or a whole text), what came of it (`filtered_resps`: of a continuation its
log-probability and whether it is the likeliest), and the right answer (`target`: an option's number
or a text). Asking is harness.py's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playout.rlhf.evaluation.suites.contamination import SHORTEST

__all__ = ["Sureness", "questions", "sureness"]

Sample = Mapping[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sureness:
    """Of N questions with options, float64 [N] each.

    Attributes:
        confidence: Probability of the likeliest option among those offered.
        right: 1 where that is the right one, else 0.
    """

    confidence: Floats
    right: Floats


def questions(samples: Sequence[Sample], *, examples: bool) -> tuple[list[str], list[str]]:
    """Each document's question with its answer, and its question alone; "" for what is not told.

    Args:
        samples: One a document.
        examples: Whether others stand before each question. They differ from prompt to prompt, so
            that of a prompt only those texts count that the document itself holds.
    """
    whole, bare = [], []
    for sample in samples:
        text = _asked(sample)
        parts = _parts(sample.get("doc"), text)
        whole.append("\n".join(parts) if examples else text)
        # What is asked stands before its options, and some wording of the task around both.
        bare.append(next((part for part in parts if len(part.split()) >= SHORTEST), ""))
    return whole, bare


def _asked(sample: Sample) -> str:
    """The prompt with the right answer; of several prompts the first, where none is known right."""
    requests = _requests(sample)
    if not requests:
        return ""
    context, *rest = requests[_right(sample) or 0]
    if not rest:
        return context
    if isinstance(rest[0], str):
        return context + rest[0]
    target = sample.get("target")  # of what was to be written
    target = target[0] if isinstance(target, list) and target else target
    return f"{context} {target}" if isinstance(target, str) else context


def _requests(sample: Sample) -> list[tuple[Any, ...]]:
    """What was asked of a document, a context first; none where that is not told."""
    found = [tuple(one) for one in sample.get("arguments") or ()]
    if not all(one and isinstance(one[0], str) for one in found):
        return []
    half = len(found) // 2
    bare = [("", *one[1:]) for one in found[:half]]
    # For mutual information options are asked a second time, without the question.
    return found[:half] if half and found[half:] == bare != found[:half] else found


def _parts(doc: Any, asked: str) -> list[str]:
    """Texts of a document that stand in what was asked, in their order, none inside another."""
    kept: list[str] = []
    for text in sorted(set(_texts(doc)), key=len, reverse=True):
        if text in asked and not any(text in longer for longer in kept):
            kept.append(text)
    return sorted(kept, key=asked.rfind)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value.strip():
            yield value.strip()
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)


def _right(sample: Sample) -> int | None:
    """Which request holds the one right option; None where that is not told."""
    options = [one[1] if len(one) > 1 else None for one in _requests(sample)]
    target = sample.get("target")
    target = target[0] if isinstance(target, list) and len(target) == 1 else target
    if isinstance(target, str):
        same = [
            n for n, o in enumerate(options) if isinstance(o, str) and o.strip() == target.strip()
        ]
        return same[0] if len(same) == 1 else None
    if isinstance(target, Integral) and 0 <= int(target) < len(options):
        return int(target)
    return None


def sureness(samples: Sequence[Sample]) -> Sureness | None:
    """How sure a model is of its choices; None unless each has options and one right one."""
    rows = [_choice(sample) for sample in samples]
    known = [row for row in rows if row is not None]
    if not known or len(known) < len(rows):
        return None
    confidence, right = np.array(known, np.float64).T
    return Sureness(confidence, right)


def _choice(sample: Sample) -> tuple[float, float] | None:
    """The likeliest option's probability among all, and whether it is right."""
    requests = _requests(sample)
    answers = (sample.get("filtered_resps") or ())[: len(requests)]
    if len(requests) < 2 or len(answers) < len(requests):
        return None
    if not all(len(one) > 1 and isinstance(one[1], str) for one in requests):
        return None
    if not all(isinstance(a, tuple | list) and isinstance(a[0], Real) for a in answers):
        return None
    logprobs = np.array([float(answer[0]) for answer in answers])
    target, right = sample.get("target"), _right(sample)
    several = isinstance(target, list) and len(target) > 1
    # What the task itself says, of its own rules; a share of a point is no right or wrong.
    value = sample.get("acc", None if right is None else float(logprobs.argmax() == right))
    if several or not isinstance(value, Real) or float(value) not in (0.0, 1.0):
        return None
    shares = np.exp(logprobs - logprobs.max())
    return float(shares.max() / shares.sum()), float(value)
