"""How texts are worded: distinct words, and phrases that come again. No models, no torch.

A policy that exploits its reward shows it here first: its likeliest answers say few things over and
over, whatever the reward says.
"""

from collections.abc import Sequence
from itertools import pairwise

__all__ = ["distinct_share", "repeated_share"]


def _words(text: str) -> list[str]:
    return [word.strip(".,;:!?\"'()").lower() for word in text.split()]


def distinct_share(texts: Sequence[str]) -> float:
    """Different words over all words of the texts together, 0 to 1; 0 where there are no words."""
    words = [word for text in texts for word in _words(text)]
    return len(set(words)) / len(words) if words else 0.0


def repeated_share(texts: Sequence[str]) -> float:
    """Share of pairs of words that stood in the same text before, 0 to 1."""
    pairs = again = 0
    for text in texts:
        words = _words(text)
        own = list(pairwise(words))
        pairs += len(own)
        again += len(own) - len(set(own))
    return again / pairs if pairs else 0.0
