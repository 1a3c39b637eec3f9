"""Suites out of plain texts: which word was left out, and how many bits a byte the texts take.

A cloze question leaves one longer word of a sentence out and offers it among three others of about
the same frequency in the same texts; an option is the word with the rest of the sentence, so that
what follows counts as well as what stands before.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from playout.errors import DataError
from playout.rlhf.evaluation.suites.suite import Choice, Passage, Suite

__all__ = ["cloze", "passages"]

QUESTIONS = 400
OTHERS = 3
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]?")
_WORD = re.compile(r"[^\W\d_]{4,}")
_SHORTEST, _LONGEST = 6, 40  # words of a sentence
_NEAR = 12  # other words are among so many neighbours by frequency, on either side


def passages(name: str, texts: Mapping[str, Sequence[str]]) -> Suite:
    """A suite of texts as they are, by the data set that they are of; empty ones are left out."""
    kept = tuple(
        Passage(text, group=group) for group, own in texts.items() for text in own if text.strip()
    )
    return Suite(name=name, items=kept, about="bits that a byte of the text takes")


def cloze(name: str, texts: Sequence[str], *, count: int = QUESTIONS, seed: int = 0) -> Suite:
    """Questions for a left-out word, at most one a sentence.

    Args:
        name: Of the suite.
        texts: Where sentences come from.
        count: Questions, at most.
        seed: Which sentences, words and other words.

    Raises:
        DataError: There is no sentence of 6 to 40 words, or there are too few different words.
    """
    words = Counter(word for text in texts for word in _WORD.findall(text))
    # By frequency, then by spelling; a word has its neighbours in this order.
    ranked = sorted(words, key=lambda word: (-words[word], word))
    places = {word: place for place, word in enumerate(ranked)}
    if len(ranked) <= OTHERS:
        raise DataError(f"{name}: the text has only {len(ranked)} words of four letters and more")
    sentences = list(
        dict.fromkeys(
            found.strip()
            for text in texts
            for found in _SENTENCE.findall(text)
            if _SHORTEST <= len(found.split()) <= _LONGEST
        )
    )
    rng = np.random.default_rng([seed, 54])
    items: list[Choice] = []
    for row in rng.permutation(len(sentences)):
        sentence = sentences[row]
        # Not at the beginning, where nothing stands before it.
        spots = [found for found in _WORD.finditer(sentence) if found.start() > 10]
        if not spots:
            continue
        spot = spots[int(rng.integers(len(spots)))]
        place = places[spot[0]]
        near = [
            ranked[n]
            for n in range(max(0, place - _NEAR), min(len(ranked), place + _NEAR + 1))
            if ranked[n].lower() != spot[0].lower()
        ]
        if len(near) < OTHERS:
            continue
        options = [spot[0], *(near[n] for n in rng.permutation(len(near))[:OTHERS])]
        head, tail = sentence[: spot.start()], sentence[spot.end() :]
        before, blank = head.rstrip(), head[len(head.rstrip()) :]
        order = rng.permutation(len(options))
        items.append(
            Choice(
                before,
                tuple(f"{blank}{options[n]}{tail}" for n in order),
                tuple(float(n == 0) for n in order),
            )
        )
        if len(items) == count:
            break
    if not items:
        raise DataError(f"{name}: the text has no sentence of {_SHORTEST} to {_LONGEST} words")
    return Suite(
        name=name,
        items=tuple(items),
        about="of four words of like frequency, the one that was left out is likeliest",
    )
