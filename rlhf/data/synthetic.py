"""Made-up text with a known truth: reviews from a small grammar, rated by simulated raters.

Every stage runs on it without a network, in seconds, and whether it worked can be told exactly:
the judge that scores these sentences is the one the ratings were drawn from. It is a stand-in for
tests and first tries, and says nothing about how a model does on real text.
"""

from functools import cache

import numpy as np
from playout.rlhf.data.records import Demonstration, Labelled, Rated
from playout.rlhf.evaluation.valence import LexiconJudge

__all__ = ["demonstrations", "judge", "labelled", "rated", "reviews"]

_GOOD = {
    "pleasant": 1.5, "nice": 1.5, "good": 2.0, "clever": 2.0, "charming": 2.5, "lovely": 2.5,
    "delightful": 3.0, "wonderful": 3.5, "superb": 3.5, "brilliant": 3.5,
}  # fmt: skip
_BAD = {
    "dull": -1.5, "weak": -1.5, "bad": -2.5, "boring": -2.0, "clumsy": -2.0, "tedious": -2.5,
    "awful": -3.0, "dreadful": -3.5, "horrible": -3.5, "terrible": -3.5,
}  # fmt: skip
_VERBS = {"loved": 3.0, "enjoyed": 2.0, "liked": 1.5, "hated": -3.0, "regretted": -2.0}
_PLAIN = ("long", "short", "quiet", "loud", "modern", "old", "simple", "strange")
_THINGS = (
    "film", "story", "music", "acting", "ending", "plot", "cast", "script", "picture", "scene",
    "dialogue", "opening", "hero", "villain", "set", "camera",
)  # fmt: skip
_DEGREES = ("", "", "", "very ", "really ", "extremely ", "slightly ", "somewhat ")
_OPENINGS = ("the", "this", "its", "their", "the whole", "the second")


def lexicon() -> dict[str, float]:
    """The valence of every word that has one."""
    return {**_GOOD, **_BAD, **_VERBS}


@cache
def judge() -> LexiconJudge:
    """The truth about these sentences."""
    return LexiconJudge(lexicon())


def _clause(rng: np.random.Generator, mood: float) -> str:
    def pick(options: tuple[str, ...]) -> str:
        return options[int(rng.integers(len(options)))]

    happy = rng.random() < mood
    kind = rng.random()
    thing, opening = pick(_THINGS), pick(_OPENINGS)
    if kind < 0.2:
        verbs = tuple(verb for verb, value in _VERBS.items() if (value > 0) == happy)
        return f"i {pick(verbs)} {opening} {thing}"
    if kind < 0.35:
        return f"{opening} {thing} was {pick(_PLAIN)}"
    if kind < 0.5:
        # A negated word of the other mood.
        return f"{opening} {thing} was not {pick(tuple(_BAD if happy else _GOOD))}"
    return f"{opening} {thing} was {pick(_DEGREES)}{pick(tuple(_GOOD if happy else _BAD))}"


def reviews(count: int, *, seed: int = 0) -> list[str]:
    """Sentences of one to three clauses, of every mood."""
    rng = np.random.default_rng([seed, 1])
    found = []
    for _ in range(count):
        mood = float(rng.random())
        clauses = [_clause(rng, mood) for _ in range(int(rng.integers(1, 4)))]
        text = clauses[0]
        for clause in clauses[1:]:
            text += (" and ", " but ", " , ")[int(rng.integers(3))] + clause
        found.append(text + " .")
    return found


def rated(count: int, *, seed: int = 0, raters: int = 8) -> list[Rated]:
    """Reviews with whole ratings from -4 to 4 that scatter about the truth."""
    rng = np.random.default_rng([seed, 2])
    found = []
    for text in reviews(count, seed=seed):
        ratings = 4.0 * judge().score(text) + rng.normal(0.0, 1.0, raters)
        found.append(Rated(text, tuple(np.clip(np.round(ratings), -4, 4).tolist())))
    return found


def demonstrations(count: int, *, seed: int = 0) -> list[Demonstration]:
    """The first two or three words of a review, and how it goes on."""
    rng = np.random.default_rng([seed, 3])
    found = []
    for text in reviews(count, seed=seed + 1000):
        words = text.split()
        cut = int(rng.integers(2, 4))
        found.append(Demonstration(" ".join(words[:cut]), " " + " ".join(words[cut:])))
    return found


def labelled(count: int, *, seed: int = 0) -> list[Labelled]:
    """Short messages, some of which want to sell something."""
    rng = np.random.default_rng([seed, 4])
    friends = ("see you at {}", "are you home by {} ?", "dinner at {} tonight", "call me at {}")
    offers = ("call {} now for a free prize", "win {} pounds today", "free offer : text {} now")
    found = []
    for _ in range(count):
        spam = rng.random() < 0.3
        options = offers if spam else friends
        number = int(rng.integers(100, 9999) if spam else rng.integers(1, 13))
        text = options[int(rng.integers(len(options)))].format(number)
        # Some of either kind carry words of the other, so that no single word decides.
        tail = " " + reviews(1, seed=int(rng.integers(1 << 30)))[0] if rng.random() < 0.5 else ""
        found.append(Labelled(text + tail, "spam" if spam else "ham"))
    return found
