"""Minimal pairs of English sentences: one is grammatical, the other differs in one point.

Made of word lists, so that they need no file and stand in nobody's training text: agreement over an
attractor, determiners, reflexives, negative polarity, participles, auxiliaries, case, articles, and
word order (the phenomena of BLiMP, Warstadt et al. 2020, in sentences of our own).
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from playout.rlhf.evaluation.suites.suite import Choice, Suite

__all__ = ["minimal_pairs"]

A_PHENOMENON = 50

_NOUNS = (
    ("teacher", "teachers"), ("farmer", "farmers"), ("doctor", "doctors"), ("child", "children"),
    ("sailor", "sailors"), ("woman", "women"), ("king", "kings"), ("painter", "painters"),
    ("dog", "dogs"), ("horse", "horses"), ("soldier", "soldiers"), ("singer", "singers"),
)  # fmt: skip
_THINGS = (
    ("house", "houses"), ("box", "boxes"), ("book", "books"), ("tree", "trees"),
    ("letter", "letters"), ("garden", "gardens"), ("picture", "pictures"), ("river", "rivers"),
    ("knife", "knives"), ("window", "windows"), ("ship", "ships"), ("chair", "chairs"),
)  # fmt: skip
_VERBS = (
    ("sings", "sing"), ("sleeps", "sleep"), ("walks", "walk"), ("laughs", "laugh"),
    ("waits", "wait"), ("works", "work"), ("listens", "listen"), ("dances", "dance"),
)  # fmt: skip
_PARTICIPLES = (
    ("eaten", "ate"), ("written", "wrote"), ("taken", "took"), ("broken", "broke"),
    ("stolen", "stole"), ("seen", "saw"), ("forgotten", "forgot"), ("drawn", "drew"),
)  # fmt: skip
_DONE = ("saw", "hurt", "asked", "blamed", "washed", "helped", "praised", "hid")
_PLACES = ("near", "behind", "beside", "in front of")
_COLOURS = ("red", "old", "small", "heavy", "white", "broken", "strange", "green")
_MALE, _FEMALE = ("king", "man", "boy", "brother"), ("queen", "woman", "girl", "sister")
_VOWELS = ("apple", "old house", "empty box", "island", "orange", "uncle", "evening", "answer")
_CONSONANTS = ("house", "red box", "river", "banana", "sister", "morning", "letter", "garden")

Pair = tuple[str, str]
T = TypeVar("T")
_Maker = Callable[[np.random.Generator], Pair]


def _pick(rng: np.random.Generator, options: tuple[T, ...]) -> T:
    return options[int(rng.integers(len(options)))]


def _agreement(rng: np.random.Generator) -> Pair:
    """The verb agrees with its subject, not with the noun between."""
    number = int(rng.integers(2))
    subject, attractor = _pick(rng, _NOUNS)[number], _pick(rng, _THINGS)[1 - number]
    head = f"the {subject} {_pick(rng, _PLACES)} the {attractor}"
    verb = _pick(rng, _VERBS)
    return f"{head} {verb[number]}.", f"{head} {verb[1 - number]}."


def _copula(rng: np.random.Generator) -> Pair:
    number = int(rng.integers(2))
    head, tail = f"the {_pick(rng, _THINGS)[number]}", f"very {_pick(rng, _COLOURS)}."
    right, wrong = ("is", "are") if number == 0 else ("are", "is")
    return f"{head} {right} {tail}", f"{head} {wrong} {tail}"


def _determiner(rng: np.random.Generator) -> Pair:
    number = int(rng.integers(2))
    word = _pick(rng, (("this", "these"), ("that", "those")))[number]
    thing = _pick(rng, _THINGS)
    head = f"the {_pick(rng, _NOUNS)[0]} saw {word}"
    return f"{head} {thing[number]}.", f"{head} {thing[1 - number]}."


def _reflexive(rng: np.random.Generator) -> Pair:
    words = ["himself", "herself"]
    who = int(rng.integers(2))
    name = _pick(rng, (_MALE, _FEMALE)[who])
    head = f"the {name} {_pick(rng, _DONE)}"
    return f"{head} {words[who]}.", f"{head} {words[1 - who]}."


def _reflexive_number(rng: np.random.Generator) -> Pair:
    name = _pick(rng, _NOUNS)[1]
    head = f"the {name} {_pick(rng, _DONE)}"
    return f"{head} themselves.", f"{head} {_pick(rng, ('himself', 'herself'))}."


def _polarity(rng: np.random.Generator) -> Pair:
    tail = f"has ever seen the {_pick(rng, _THINGS)[0]}."
    who = _pick(rng, (("nobody", "somebody"), ("no one", "someone")))
    noun = _pick(rng, _NOUNS)[0]
    who = _pick(rng, (who, (f"no {noun}", f"some {noun}")))
    return f"{who[0]} {tail}", f"{who[1]} {tail}"


def _participle(rng: np.random.Generator) -> Pair:
    right, wrong = _pick(rng, _PARTICIPLES)
    thing = f"the {_pick(rng, _THINGS)[0]}"
    head = f"the {_pick(rng, _NOUNS)[0]} has"
    return f"{head} {right} {thing}.", f"{head} {wrong} {thing}."


def _auxiliary(rng: np.random.Generator) -> Pair:
    verb = _pick(rng, _VERBS)
    head = f"the {_pick(rng, _NOUNS)[0]} {_pick(rng, ('can', 'will', 'must', 'does not'))}"
    return f"{head} {verb[1]}.", f"{head} {verb[0]}."


def _case(rng: np.random.Generator) -> Pair:
    right, wrong = _pick(rng, (("him", "he"), ("them", "they"), ("us", "we"), ("me", "I")))
    head = f"the {_pick(rng, _NOUNS)[0]} {_pick(rng, ('saw', 'helped', 'called', 'followed'))}"
    return f"{head} {right}.", f"{head} {wrong}."


def _article(rng: np.random.Generator) -> Pair:
    vowel = bool(rng.integers(2))
    noun = _pick(rng, _VOWELS if vowel else _CONSONANTS)
    head = f"the {_pick(rng, _NOUNS)[0]} saw"
    right, wrong = ("an", "a") if vowel else ("a", "an")
    return f"{head} {right} {noun}.", f"{head} {wrong} {noun}."


def _order(rng: np.random.Generator) -> Pair:
    thing, colour = _pick(rng, _THINGS)[0], _pick(rng, _COLOURS)
    head = f"the {_pick(rng, _NOUNS)[0]} has the"
    return f"{head} {colour} {thing}.", f"{head} {thing} {colour}."


def _quantity(rng: np.random.Generator) -> Pair:
    many = bool(rng.integers(2))
    mass = ("water", "bread", "money", "snow")
    noun = _pick(rng, _THINGS)[1] if many else _pick(rng, mass)
    right, wrong = ("many", "much") if many else ("much", "many")
    head = "there are not" if many else "there is not"
    tail = f"{noun} {_pick(rng, ('here', 'there', 'in the house', 'near the river', 'today'))}."
    return f"{head} {right} {tail}", f"{head} {wrong} {tail}"


_PHENOMENA: dict[str, _Maker] = {
    "agreement over an attractor": _agreement,
    "agreement of the copula": _copula,
    "determiner and noun": _determiner,
    "reflexive, gender": _reflexive,
    "reflexive, number": _reflexive_number,
    "negative polarity": _polarity,
    "participle": _participle,
    "auxiliary and verb": _auxiliary,
    "case of pronouns": _case,
    "article": _article,
    "adjective before noun": _order,
    "many and much": _quantity,
}


def minimal_pairs(*, count: int = A_PHENOMENON, seed: int = 0) -> Suite:
    """The suite; the first option of a pair is the grammatical one.

    Args:
        count: Pairs of each phenomenon, all different.
        seed: Which.
    """
    items = []
    for number, (name, make) in enumerate(_PHENOMENA.items()):
        rng = np.random.default_rng([seed, 53, number])
        found: dict[Pair, None] = {}
        for _ in range(50 * count):
            right, wrong = make(rng)
            found[right[0].upper() + right[1:], wrong[0].upper() + wrong[1:]] = None
            if len(found) == count:
                break
        items += [Choice("", pair, (1.0, 0.0), name) for pair in found]
    return Suite(
        name="pairs",
        items=tuple(items),
        about="of two sentences that differ in one point, the grammatical one is likelier",
    )
