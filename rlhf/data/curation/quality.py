"""Texts that hardly teach anything: by rules on words, lines and repetition.

The rules and their limits are those with which Gopher's text was filtered (Rae et al. 2021,
appendix A.1.1), but for the number of words, which is the user's. Those on letters, lines and
repetition hold in any language with spaces; the one on function words is English. Leaves out what
a model would have to judge.
"""

import re
from collections import Counter
from collections.abc import Sequence

__all__ = ["LANGUAGES", "fault_of"]

LANGUAGES = ("any", "english")
FUNCTION_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
# Runs of so many words -> the most that the commonest of them may make of all characters.
COMMONEST = {2: 0.20, 3: 0.18, 4: 0.16}
# Runs of so many words -> the most that all which occur twice may make of all characters.
REPEATED = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
FEW = 20
"""Texts of fewer words are not judged by shares of runs: one repetition would be too many."""
_LETTER = re.compile(r"[^\W\d_]")
_ELLIPSIS = ("...", "…")


def fault_of(text: str, language: str = "any") -> str:
    """What is wrong with a text, in two words; empty where nothing is.

    Args:
        text: A document.
        language: One of `LANGUAGES`.
    """
    words = text.split()
    if not words:
        return "no words"
    if not 3 <= sum(map(len, words)) / len(words) <= 10:
        return "word length"
    symbols = text.count("#") + text.count("…") + text.count("...")
    if symbols > 0.1 * len(words):
        return "many symbols"
    if sum(bool(_LETTER.search(word)) for word in words) < 0.8 * len(words):
        return "few letters"
    if fault := _fault_of_lines(text):
        return fault
    lower = [word.lower() for word in words]
    if len(words) >= FEW and _repeats(lower):
        return "repeated words"
    if language == "english" and len(FUNCTION_WORDS.intersection(lower)) < 2:
        return "no English"
    return ""


def _fault_of_lines(text: str) -> str:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if len(lines) < 4:
        return ""
    if sum(line.startswith(("•", "*", "-")) for line in lines) > 0.9 * len(lines):
        return "only bullets"
    if sum(line.endswith(_ELLIPSIS) for line in lines) > 0.3 * len(lines):
        return "cut lines"
    again = sum(len(line) for line, count in Counter(lines).items() for _ in range(count - 1))
    return "repeated lines" if again > 0.2 * sum(map(len, lines)) else ""


def _runs(words: Sequence[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + length]) for at in range(len(words) - length + 1)]


def _repeats(words: Sequence[str]) -> bool:
    """Whether runs of words come again too often."""
    total = sum(map(len, words))
    for length, most in COMMONEST.items():
        run, count = Counter(_runs(words, length)).most_common(1)[0]
        if count > 1 and count * sum(map(len, run)) > most * total:
            return True
    for length, most in REPEATED.items():
        runs = _runs(words, length)
        often = {run for run, count in Counter(runs).items() if count > 1}
        # A word within two such runs counts once.
        inside = {at + i for at, run in enumerate(runs) if run in often for i in range(length)}
        if sum(len(words[at]) for at in inside) > most * total:
            return True
    return False
