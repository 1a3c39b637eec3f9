"""Which questions of a suite stand in the training text: 13-grams, and near duplicates.

A question is contaminated if 13 words of it in a row, or all of it where it is shorter, occur in a
text that was learned from (Brown et al. 2020, appendix C); a near duplicate if one text holds four
fifths of its runs of five words. Words that many questions share (a game's rules, a task's wording)
say nothing of a single one and do not count. The training text is read once, in pieces.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["GRAM", "Contamination", "contamination"]

GRAM = 13
"""Words in a row that no two texts share by chance; of a shorter question all are looked for."""
SHORTEST = 5
"""Questions of fewer words are not looked for: they would be found anywhere."""
SHINGLE = 5
NEAR = 0.8
_SHARED = 0.05  # of the questions may hold a run of words before it counts as wording
_PIECE = 200_000  # words that are looked through at once
_WORD = re.compile(r"\w+")
_BASE = np.uint64(0x9E3779B97F4A7C15)

Words = NDArray[np.int64]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Contamination:
    """What was found of N questions, bool [N] each.

    Attributes:
        leaked: A run of words stands in the training text.
        near: One training text holds nearly all of it.
        told: Long enough to be looked for.
        texts: Training texts that were read.
    """

    leaked: NDArray[np.bool_]
    near: NDArray[np.bool_]
    told: NDArray[np.bool_]
    texts: int

    @property
    def dirty(self) -> NDArray[np.bool_]:
        """Found either way."""
        return self.leaked | self.near


def contamination(
    questions: Sequence[str], training: Iterable[str], *, bare: Sequence[str] = ()
) -> Contamination:
    """Looks for questions in the texts that a model has learned from.

    Args:
        questions: Each with its right answer.
        training: Texts, a document each.
        bare: Each as other texts hold it, without a suite's own wording; "" where that is the same.
    """
    numbers: dict[str, int] = {}
    rows: list[_Row] = []
    for number, text in [*enumerate(questions), *enumerate(bare)]:
        own = [numbers.setdefault(w, len(numbers)) for w in _WORD.findall(text.lower())]
        rows.append(_Row(number, np.array(own, np.int64)))
    count = len(questions)
    told = np.array([len(row.words) >= SHORTEST for row in rows[:count]], np.bool_)
    # How long a run is looked for -> the runs of that length and the questions that hold them.
    by_length: dict[int, list[_Row]] = defaultdict(list)
    for row in rows:
        if len(row.words) >= SHORTEST:
            by_length[min(GRAM, len(row.words))].append(row)
    owners = {n: _owners(those, n, count) for n, those in by_length.items()}
    shingled = [row for row in rows[:count] if len(row.words) >= 2 * SHINGLE - 1]
    shingles = _owners(shingled, SHINGLE, count)
    sizes = Counter(number for those in shingles.values() for number in those)
    leaked, near = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    known = {n: np.sort(np.fromiter(found, np.uint64)) for n, found in owners.items()}
    parts = np.sort(np.fromiter(shingles, np.uint64))
    texts = 0
    for words, ends in _pieces(training, numbers):
        texts += len(ends)
        for length, found in owners.items():
            for _, run in _matches(words, length, known[length]):
                leaked[list(found[run])] = True
        held: dict[tuple[int, int], set[int]] = defaultdict(set)
        for place, run in _matches(words, SHINGLE, parts):
            where = int(np.searchsorted(ends, place, side="right"))
            for number in shingles[run]:
                held[where, number].add(run)
        for (_, number), runs in held.items():
            near[number] |= len(runs) >= NEAR * sizes[number] and sizes[number] >= SHINGLE
    return Contamination(leaked, near, told, texts)


class _Row(NamedTuple):
    """A text of a question."""

    number: int
    words: Words


def _owners(rows: Sequence[_Row], length: int, count: int) -> dict[int, frozenset[int]]:
    """Hash of each run of words -> the questions that hold it; what many share is left out."""
    found: dict[int, set[int]] = defaultdict(set)
    for row in rows:
        for run in _hashes(row.words, length)[0].tolist():
            found[run].add(row.number)
    most = max(2.0, _SHARED * count)
    return {run: frozenset(those) for run, those in found.items() if len(those) <= most}


def _pieces(
    training: Iterable[str], numbers: dict[str, int]
) -> Iterator[tuple[Words, NDArray[np.int64]]]:
    """Texts as numbers of words, -1 for unknown ones and between texts; and where texts end."""
    words: list[int] = []
    ends: list[int] = []
    for text in training:
        words += [numbers.get(word, -1) for word in _WORD.findall(text.lower())]
        words.append(-1)
        ends.append(len(words))
        if len(words) >= _PIECE:
            yield np.array(words, np.int64), np.array(ends, np.int64)
            words, ends = [], []
    if ends:
        yield np.array(words, np.int64), np.array(ends, np.int64)


def _hashes(words: Words, length: int) -> tuple[Hashes, NDArray[np.bool_]]:
    """A number for each run of so many words, and whether all its words are known."""
    count = len(words) - length + 1
    if count < 1:
        return np.zeros(0, np.uint64), np.zeros(0, np.bool_)
    found, good = np.zeros(count, np.uint64), np.ones(count, np.bool_)
    with np.errstate(over="ignore"):
        for shift in range(length):
            part = words[shift : shift + count]
            found = found * _BASE + (part + 2).astype(np.uint64)
            good &= part >= 0
    return found, good


def _matches(words: Words, length: int, known: Hashes) -> Iterator[tuple[int, int]]:
    """(place, hash) of the runs that are among the known ones."""
    if not len(known):
        return
    found, good = _hashes(words, length)
    near = np.minimum(np.searchsorted(known, found), len(known) - 1)
    for place in np.flatnonzero(good & (known[near] == found)):
        yield int(place), int(found[place])
