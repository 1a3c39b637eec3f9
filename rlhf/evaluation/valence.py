"""An opinion on text that no model learned: words with known valence, and a few rules about them.

The rules are those of VADER (Hutto and Gilbert 2014): negations reverse a word, degree words near
it strengthen or weaken it, "but" shifts the weight behind it, capitals and exclamation marks shout.
With the lexicon of the raters it judges English; with the lexicon of synthetic.py it is the known
truth of made-up text. Emoticons beyond the lexicon and idioms are left out.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["LexiconJudge"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STRONGER = _words(
    "absolutely amazingly awfully completely considerably decidedly deeply enormously entirely "
    "especially exceptionally extremely fabulously fully greatly highly hugely incredibly "
    "intensely majorly more most particularly purely quite really remarkably so substantially "
    "thoroughly totally tremendously unbelievably unusually utterly very"
)
_WEAKER = _words(
    "almost barely hardly just kinda less little marginally occasionally partly scarcely "
    "slightly somewhat sorta"
)
_NEGATIONS = _words(
    "not no never none nobody nothing neither nor nowhere without cannot cant dont doesnt didnt "
    "isnt arent wasnt werent wont wouldnt couldnt shouldnt hasnt havent hadnt aint rarely "
    "seldom despite"
)
# Published constants: degree words, shouting, negation, and the softening of sums.
_DEGREE, _CAPITALS, _NEGATION, _SOFTENING = 0.293, 0.733, -0.74, 15.0
_EXCLAMATION = 0.292
_WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*|[^\sA-Za-z]+")


@dataclass(frozen=True, slots=True)
class LexiconJudge:
    """Scores texts between -1 and 1 by the valence of their words."""

    lexicon: Mapping[str, float]
    """Word in lower case -> valence, about -4 to 4."""

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """A score a text."""
        return [self.score(text) for text in texts]

    def score(self, text: str) -> float:
        """`total / sqrt(total² + 15)` of the valences after all rules."""
        words = _WORD.findall(text)
        lower = [word.lower().replace("’", "'") for word in words]
        plain = [word.replace("'", "") for word in lower]
        shouted = [word.isupper() and len(word) > 1 for word in words]
        mixed = any(shouted) and not all(shouted)
        valences = [
            self._valence(place, lower, plain, shouted[place] and mixed)
            for place in range(len(words))
        ]
        if "but" in lower:
            but = lower.index("but")
            valences = [v * (0.5 if i < but else 1.5) for i, v in enumerate(valences)]
        total = math.fsum(valences)
        shouts = min(text.count("!"), 4) * _EXCLAMATION
        total += math.copysign(shouts, total) if total else 0.0
        return total / math.sqrt(total * total + _SOFTENING)

    def _valence(self, place: int, lower: list[str], plain: list[str], loud: bool) -> float:
        word = lower[place]
        value = self.lexicon.get(word, 0.0)
        if not value or word in _STRONGER or word in _WEAKER:
            return 0.0
        sign = math.copysign(1.0, value)
        value += sign * _CAPITALS if loud else 0.0
        negated = False
        for distance in (1, 2, 3):
            if distance > place:
                break
            before = place - distance
            if self.lexicon.get(lower[before]) and lower[before] not in _STRONGER | _WEAKER:
                continue
            damped = _DEGREE * (1.0, 0.95, 0.9)[distance - 1]
            value += sign * damped * ((lower[before] in _STRONGER) - (lower[before] in _WEAKER))
            negated = negated or plain[before] in _NEGATIONS or lower[before].endswith("n't")
        return value * _NEGATION if negated else value
