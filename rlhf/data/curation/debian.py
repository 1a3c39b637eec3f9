"""English texts that Debian packages hold, read where the packages put them.

Jane Austen's novels are R objects in R's own serialisation, of which only vectors of text are read;
WordNet is plain tables. Either is used only as it was published: its hash is pinned.
"""

import hashlib
import re
import struct
import zlib
from pathlib import Path

from playout.errors import DataError
from playout.rlhf.data.rows import to_text

__all__ = ["austen", "glosses"]

AUSTEN_FILE = Path("/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb")
AUSTEN_SHA256 = "d44f668c9bd8107a7106b06094e449f29496430c9e395b9d0e5b8e191b81fff6"
"""Of the six novels as R writes them, one after another."""
WORDNET_FOLDER = Path("/usr/share/wordnet")
WORDNET_SHA256 = "9c33953116f661f96b2af6815ea87a505a54cd48e72994ba47bca5aad58840a6"
"""Of the four files, one after another."""
_WORDNET_FILES = ("data.noun", "data.verb", "data.adj", "data.adv")

_CHAPTER = re.compile(r"^chapter [IVXLC\d]+\.?$", re.MULTILINE | re.IGNORECASE)
_FURNITURE = re.compile(
    r"^(?:(?:end of )?volume [IVX\d]+\.?|finis|the end|[* ]+)$", re.MULTILINE | re.IGNORECASE
)
_EDITOR = re.compile(r"^A NOTE ON THE TEXT$.*", re.MULTILINE | re.DOTALL)
_TEXTS, _ONE_TEXT = 16, 9  # R's types of a vector of texts, and of a text in it


def austen() -> list[str]:
    """The chapters of Jane Austen's six novels, a paragraph a line with an empty one between.

    Raises:
        DataError: Debian's package r-cran-janeaustenr is not installed, or holds something else.
    """
    try:
        content = AUSTEN_FILE.read_bytes()
    except OSError:
        raise _missing("Jane Austen's work", AUSTEN_FILE, "r-cran-janeaustenr") from None
    objects = _unpacked(content)
    _check(b"".join(objects), AUSTEN_SHA256, AUSTEN_FILE, "the novels as published")
    found = []
    for lines in map(_lines, objects):
        novel = _EDITOR.sub("", "\n".join(lines))
        chapters = _CHAPTER.split(_FURNITURE.sub("", novel))[1:]
        found += [_joined(chapter.replace("_", "")) for chapter in chapters]
    return found


def glosses() -> list[str]:
    """What each of WordNet's 117,659 entries means, in dictionary form: its words and their gloss.

    Raises:
        DataError: Debian's package wordnet-base is not installed, or holds something else.
    """
    try:
        content = [(WORDNET_FOLDER / name).read_bytes() for name in _WORDNET_FILES]
    except OSError:
        raise _missing("WordNet", WORDNET_FOLDER, "wordnet-base") from None
    _check(b"".join(content), WORDNET_SHA256, WORDNET_FOLDER, "WordNet 3.0")
    found = []
    for line in to_text(b"".join(content), "WordNet").splitlines():
        entry, bar, gloss = line.partition(" | ")
        if bar and not line.startswith(" "):  # the licence is indented
            fields = entry.split()
            words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
            names = ", ".join(re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in words)
            found.append(f"{names}: {gloss.strip()}")
    return found


def _missing(what: str, place: Path, package: str) -> DataError:
    return DataError(f"{what} is not in {place}: apt-get install {package}")


def _check(content: bytes, sha256: str, place: Path, what: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(
            f"{place} has sha256 {found[:12]}..., not {sha256[:12]}...: it is not {what}"
        )


def _unpacked(content: bytes) -> list[bytes]:
    """The objects of R's database: each its length, and itself compressed."""
    found = []
    try:
        while content:
            packed = zlib.decompressobj()
            found.append(packed.decompress(content[4:]))
            content = packed.unused_data
    except zlib.error as error:
        raise DataError(f"{AUSTEN_FILE} is damaged: {error}") from None
    return found


def _lines(serialised: bytes) -> list[str]:
    """A vector of texts, as R serialises it (format 3, big-endian)."""
    (size,) = struct.unpack_from(">I", serialised, 14)  # of the name of the encoding
    kind, count = struct.unpack_from(">II", serialised, 18 + size)
    if kind & 255 != _TEXTS:
        raise DataError(f"{AUSTEN_FILE} holds no lines of text")
    at, found = 26 + size, []
    for _ in range(count):
        kind, length = struct.unpack_from(">II", serialised, at)
        if kind & 255 != _ONE_TEXT:
            raise DataError(f"{AUSTEN_FILE} holds no lines of text")
        found.append(serialised[at + 8 : at + 8 + length].decode())
        at += 8 + length
    return found


def _joined(text: str) -> str:
    """Wrapped lines as paragraphs."""
    paragraphs = re.split(r"\n\s*\n", text)
    return "\n\n".join(" ".join(part.split()) for part in paragraphs if part.strip())
