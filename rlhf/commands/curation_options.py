"""Flags of data curation: which of the given texts are learned from, and in what proportion.

They cost no torch; the filters and mixtures are data/curation/'s. What they took away is printed
and kept in run.json, so that a reader of the run knows what text the model really saw.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from playout.rlhf.commands.options import OptionalFile, check_beside
from tyro.conf import arg

if TYPE_CHECKING:
    from playout.agents.runs.directory import RunDir
    from playout.rlhf.data.batches import Corpus
    from playout.rlhf.data.curation.mixture import Mixture
    from playout.rlhf.data.records import Tell
    from playout.rlhf.generation.tokenizer import Tokenizer

__all__ = ["CurationOptions", "Texts", "check_curation", "curated", "mixed_texts", "say_passes"]

HELD_OUT_TEXTS = 400
"""Of each corpus; enough for bits a byte."""


@dataclass(frozen=True, kw_only=True)
class CurationOptions:
    """Filters before anything is learned, and shares of several corpora."""

    corpus: Annotated[str, arg(metavar="NAME:WEIGHT,...", help_behavior_hint="")] = ""
    """Files, folders or data sets with weights, such as books.txt:0.7,code.jsonl:0.3, in place of
    --text: which share of all rows each gives, however large it is."""
    min_words: int = 0
    """Leave out shorter texts."""
    max_words: int = 0
    """Leave out longer texts; 0 keeps them."""
    quality: Annotated[Literal["none", "any", "english"], arg(metavar="none|any|english")] = "none"
    """Leave out texts by Gopher's rules on letters, lines and repetition; english also asks for
    function words."""
    dedup: Annotated[Literal["none", "exact", "near"], arg(metavar="none|exact|near")] = "none"
    """Leave out texts that say again what another says, exactly or nearly (MinHash), or what a
    held-out text says."""
    near: float = 0.8
    """With --dedup near: from which Jaccard index of their five-word runs on texts are alike."""
    like: OptionalFile = ""
    """Draw texts that are like those of this file (importance resampling)."""
    like_share: float = 0.5
    """With --like: which share of the texts is drawn."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Corpora by name: texts to learn from and held-out ones, and the share of each in a batch."""

    train: dict[str, list[str]]
    heldout: dict[str, list[str]]
    shares: dict[str, float]
    """Empty where there is one corpus, or where all are joined into one."""

    @property
    def learned(self) -> list[str]:
        """All that is learned from."""
        return [text for part in self.train.values() for text in part]

    @property
    def examined(self) -> list[str]:
        """All that is held out."""
        return [text for part in self.heldout.values() for text in part]

    def corpora(self, tokenizer: Tokenizer) -> tuple[Corpus | Mixture, Corpus, dict[str, Corpus]]:
        """Tokens to learn from, held-out ones of all, and those of each where there are several."""
        from playout.rlhf.data.batches import Corpus
        from playout.rlhf.data.curation.mixture import Mixture

        parts = [Corpus.of(tokenizer, texts) for texts in self.train.values()]
        held = {name: texts[:HELD_OUT_TEXTS] for name, texts in self.heldout.items()}
        together = Corpus.of(tokenizer, [text for texts in held.values() for text in texts])
        if not self.shares:
            return parts[0], together, {}
        each = {name: Corpus.of(tokenizer, texts) for name, texts in held.items()}
        return Mixture(tuple(parts), tuple(self.shares.values())), together, each


def check_curation(command: CurationOptions) -> None:
    """Refuses shares of filters that are not asked for.

    Raises:
        ConfigError: It names the flag.
    """
    if command.dedup != "near":
        check_beside(command, "--dedup near", "near")
    if not command.like:
        check_beside(command, "--like FILE", "like_share")


def mixed_texts(command: CurationOptions, *, tell: Tell | None = None) -> Texts | None:
    """The corpora of `--corpus`; None without.

    Args:
        command: Names them.
        tell: Is told of which nothing is held out.

    Raises:
        ConfigError: It cannot be read as such.
        DataError: A corpus is not there.
    """
    if not command.corpus:
        return None
    from playout.rlhf.data.curation.mixture import parse_mixture
    from playout.rlhf.data.datasets import Datasets

    shares = parse_mixture(command.corpus)
    sides = {name: Datasets("files").texts((name,), tell=tell) for name in shares}
    train, heldout = ({name: both[side] for name, both in sides.items()} for side in (0, 1))
    return Texts(train, heldout, shares)


def curated(
    command: CurationOptions, texts: Texts, run: RunDir, *, quiet: bool, seed: int
) -> Texts:
    """The texts that the filters leave; what they took is said, and noted in the run.

    Raises:
        ConfigError: A filter means nothing.
        DataError: Nothing is left of a corpus.
    """
    from playout.agents.runs import ranks
    from playout.errors import DataError
    from playout.rlhf.data.curation.curate import Filters, apart, curate
    from playout.rlhf.data.records import read_texts

    filters = Filters.of(asdict(command))
    if filters.take_nothing and not command.like:
        return texts
    found = curate(
        texts.learned,
        filters,
        heldout=apart(texts.examined, texts.learned),
        examples=read_texts(command.like) if command.like else (),
        seed=seed,
    )
    counts = {
        "texts": len(found.kept),
        "kept": int(found.kept.sum()),
        "bytes": found.size_before,
        "bytes_kept": found.size_after,
        "left_out": found.taken,
    }

    def note() -> None:
        if not quiet:
            print(found.sentence(), flush=True)
        with run.lock():
            run.update(curation=counts)

    ranks.by_first(note)
    left: dict[str, list[str]] = {}
    place = 0
    for name, part in texts.train.items():
        own = found.kept[place : place + len(part)]
        left[name] = [text for text, stays in zip(part, own, strict=True) if stays]
        place += len(part)
        if not left[name]:
            raise DataError(f"nothing of {name} is left to learn from")
    return Texts(left, texts.heldout, texts.shares)


def say_passes(texts: Texts, train: Corpus | Mixture, tokens: int) -> None:
    """Say of each corpus which share it gives and how often it is read."""
    from playout.agents.runs import ranks
    from playout.rlhf.data.curation.mixture import Mixture

    if isinstance(train, Mixture) and ranks.is_first():
        for (name, share), passes in zip(texts.shares.items(), train.passes(tokens), strict=True):
            size = sum(len(text.encode()) for text in texts.train[name])
            print(
                f"{name}: {100 * share:.1f} % of the rows, {size / 1e6:.2f} MB, "
                f"read {passes:.2g} times",
                flush=True,
            )
