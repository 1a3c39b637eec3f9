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

import numpy as np
from numpy.typing import NDArray

__all__ = ["Contamination", "contamination"]

GRAM = 13
"""Words in a row that no two texts share by chance."""
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


def contamination(questions: Sequence[str], training: Iterable[str]) -> Contamination:
    """Looks for questions in the texts that a model has learned from.

    Args:
        questions: Each with its right answer.
        training: Texts, a document each.
    """
    numbers: dict[str, int] = {}
    rows = []
    for question in questions:
        own = _WORD.findall(question.lower())
        rows.append(np.array([numbers.setdefault(w, len(numbers)) for w in own], np.int64))
    told = np.array([len(row) >= SHORTEST for row in rows], np.bool_)
    # How long a run is looked for -> the runs of that length and the questions that hold them.
    by_length: dict[int, list[int]] = defaultdict(list)
    for number in np.flatnonzero(told).tolist():
        by_length[min(GRAM, len(rows[number]))].append(number)
    owners = {n: _owners(rows, those, n, len(rows)) for n, those in by_length.items()}
    shingled = [n for n in range(len(rows)) if len(rows[n]) >= 2 * SHINGLE - 1]
    shingles = _owners(rows, shingled, SHINGLE, len(rows))
    sizes = Counter(number for those in shingles.values() for number in those)
    leaked, near = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
    known = {n: np.sort(np.fromiter(found, np.uint64)) for n, found in owners.items()}
    parts = np.sort(np.fromiter(shingles, np.uint64))
    count = 0
    for words, ends in _pieces(training, numbers):
        count += len(ends)
        for length, found in owners.items():
            for _, run in _matches(words, length, known[length]):
                leaked[list(found[run])] = True
        held: dict[tuple[int, int], set[int]] = defaultdict(set)
        for place, run in _matches(words, SHINGLE, parts):
            text = int(np.searchsorted(ends, place, side="right"))
            for number in shingles[run]:
                held[text, number].add(run)
        for (_, number), runs in held.items():
            near[number] |= len(runs) >= NEAR * sizes[number] and sizes[number] >= SHINGLE
    return Contamination(leaked, near, told, count)


def _owners(
    rows: Sequence[Words], chosen: Sequence[int], length: int, count: int
) -> dict[int, frozenset[int]]:
    """Hash of each run of words -> the questions that hold it; what many share is left out."""
    found: dict[int, set[int]] = defaultdict(set)
    for number in chosen:
        for run in _hashes(rows[number], length)[0].tolist():
            found[run].add(number)
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
