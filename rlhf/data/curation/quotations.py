"""Texts that hold a sentence which must not be learned from, as one by which rewards are judged.

A sentence is held where most of its runs of five words stand in the text, whatever the case, the
punctuation and what is around it: reviews quote each other and are sold in pieces. Sentences of
few words are said by chance and are not looked for.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from playout.rlhf.data.curation.duplicates import Words, shingles

__all__ = ["quoting"]

FEWEST_RUNS = 3
"""Runs of five words in a sentence that is looked for: it has seven words or more."""


def quoting(
    texts: Sequence[str], sentences: Sequence[str], share: float = 0.8
) -> NDArray[np.bool_]:
    """Which texts hold one of the sentences; bool [N].

    Args:
        texts: N documents.
        sentences: What must not be in them; those of fewer than seven words are passed over.
        share: Of a sentence's runs of five words from which on it is held.
    """
    words = Words()
    sizes: list[int] = []
    owners: defaultdict[int, list[int]] = defaultdict(list)
    for sentence in sentences:
        runs = shingles(sentence, words).tolist()
        if len(runs) >= FEWEST_RUNS:
            for run in runs:
                owners[run].append(len(sizes))
            sizes.append(len(runs))
    found = np.zeros(len(texts), np.bool_)
    for number, text in enumerate(texts):
        hits = [run for run in shingles(text, words).tolist() if run in owners]
        counts = Counter(owner for run in hits for owner in owners[run])
        found[number] = any(count >= share * sizes[owner] for owner, count in counts.items())
    return found
