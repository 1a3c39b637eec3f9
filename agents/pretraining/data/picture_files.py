"""Which files below a folder are pictures: by the suffixes that Pillow reads, links followed.

What is hidden (a name that begins with a dot, or `__MACOSX`) is no part of the data. Other files
are left to be told of. To versions before 4 of the data (DATA_VERSION) fewer suffixes were
pictures, also in hidden folders, and links to folders were not followed. Left out: what folders
mean, and reading (folders.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from playout.agents.pretraining.data.dataset import DATA_VERSION
from playout.agents.runs import ranks
from playout.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
"""Of earlier versions."""

_STUBS = ("BUFR", "GRIB", "HDF5", "MPEG", "WMF")
"""What Pillow knows by name alone."""


def _suffixes(version: int) -> frozenset[str]:
    if version < 4:
        return SUFFIXES
    from PIL import Image

    known = Image.registered_extensions().items()
    return SUFFIXES.union(s for s, kind in known if kind in Image.OPEN and kind not in _STUBS)


def _meets(target: Path, read: Sequence[Path]) -> bool:
    """Whether a folder holds one of those that are read, or is read with one."""
    return any(
        one.is_relative_to(target)
        or (target.is_relative_to(one) and not any(map(_is_hidden, _up_to(target, one))))
        for one in read
    )


def _up_to(path: Path, folder: Path) -> list[Path]:
    return [path, *path.parents][: len(path.parts) - len(folder.parts)]


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name == "__MACOSX"


def class_folders(folder: Path, version: int = DATA_VERSION) -> list[Path]:
    """Folders below one that are classes, or sides."""
    found = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    return found if version < 4 else [path for path in found if not _is_hidden(path)]


def pictures_in(folder: Path, version: int = DATA_VERSION) -> list[Path]:
    """Pictures that lie in no folder below it."""
    known = _suffixes(version)
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in known and p.is_file())
    return found if version < 4 else [path for path in found if not _is_hidden(path)]


def files_below(
    folder: Path, version: int = DATA_VERSION, *, read: Sequence[Path] = ()
) -> tuple[list[Path], list[Path]]:
    """Pictures below a folder, at any depth, and what else is there.

    Args:
        folder: where to look.
        version: see DATA_VERSION.
        read: folders, as `real_path` has them, that are read anyway: links to them, or to what
            holds or lies below them, are not followed.

    Raises:
        DataError: a folder cannot be looked into.
    """
    known = _suffixes(version)
    if version < 4:
        return sorted(path for path in folder.rglob("*") if path.suffix.lower() in known), []
    pictures, others = list[Path](), list[Path]()
    read = [*read, real_path(folder)]
    folders, links, seen = [folder], list[Path](), set[Path]()
    while folders or links:  # links last, so that a folder has its own name if it has one
        at = folders.pop() if folders else links.pop(0)
        target = real_path(at)
        if target in seen or (at.is_symlink() and at != folder and _meets(target, read)):
            continue
        seen.add(target)
        try:
            inside = sorted(path for path in at.iterdir() if not _is_hidden(path))
        except OSError as error:
            raise DataError(f"{at} cannot be read: {error}") from None
        for path in inside:
            if path.is_dir():
                (links if path.is_symlink() else folders).append(path)
            else:
                (pictures if path.suffix.lower() in known else others).append(path)
    return sorted(pictures), sorted(others)


def real_path(path: Path) -> Path:
    """Where a path leads; DataError for a link that leads nowhere but to itself."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # the second one before Python 3.13
        raise DataError(f"{path} is a link that leads to itself") from None


def tell_of_others(others: Sequence[Path]) -> None:
    """Says how many files are not read, and names one of them."""
    if others:
        what = "1 file is" if len(others) == 1 else f"{len(others):,} files are"
        note(f"{what} not read, of no kind of picture that is known: {others[0]}")


def tell_of_empty(names: Sequence[str]) -> None:
    """Says which classes have no picture to learn from."""
    if names:
        note(f"no pictures to learn from in the folders of classes: {', '.join(names)}")


def note(text: str) -> None:
    """Says something of data that are read all the same, once in a job."""
    if ranks.is_first():
        print(f"note: {text}", file=sys.stderr, flush=True)
