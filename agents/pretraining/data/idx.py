"""Files in the IDX form of MNIST and Fashion-MNIST, plain or compressed by gzip.

A file is a magic number (two zero bytes, type 8 for bytes, number of axes), the axes as big-endian
32-bit numbers, and the bytes. A folder holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`
and the same with `t10k` (or `test`), all with the same words in front or none (`emnist-letters-`);
`-labels` may be missing where nothing asks for them.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from playout.agents.pretraining.data.dataset import UNKNOWN, Split
from playout.agents.pretraining.data.pictures import Pictures
from playout.errors import DataError

MAX_BYTES = 1 << 30
_BYTE = 8  # the type of unsigned bytes


def unreadable(path: Path, error: Exception, instead: str) -> DataError:
    """What a person is told of a file that cannot be read, and what to do if it is damaged."""
    damaged = not getattr(error, "errno", None)  # else the system does not let it be read
    return DataError(f"{path} cannot be read: {error}{f'; {instead}' if damaged else ''}")


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """The array in an IDX file of bytes.

    Raises:
        DataError: it cannot be read, is larger than a GiB, cut off, too long, or of another form.
    """
    try:
        if path.suffix.lower() == ".gz":
            with gzip.open(path) as file:  # never more than the limit, whatever it unpacks to
                data = file.read(MAX_BYTES + 1)
        else:
            data = path.open("rb").read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error, "replace it by a whole one") from None
    if len(data) > MAX_BYTES:
        raise DataError(f"{path} holds more than {MAX_BYTES >> 20} MiB")
    if len(data) < 8 or data[:2] != b"\0\0" or data[2] != _BYTE or not 1 <= data[3] <= 4:
        raise DataError(f"{path} is not an IDX file of bytes")
    axes = data[3]
    start = 4 + 4 * axes
    if len(data) < start:
        raise DataError(f"{path} ends before it says how many pictures it holds")
    shape = tuple(int(n) for n in np.frombuffer(data[4:start], dtype=">u4"))
    if math.prod(shape) != len(data) - start:
        raise DataError(f"{path} should hold {math.prod(shape)} bytes and has {len(data) - start}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _named(folder: Path) -> dict[str, Path]:
    """Files by their usual names: in small letters, without .gz, and with a hyphen before idx."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=lambda path: (len(path.name), path.name)):
        name = path.name.lower().removesuffix(".gz").replace(".idx", "-idx")
        if not name.startswith("."):
            found.setdefault(name, path)  # what is plain before what is packed
    return found


_IMAGES, _LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"


def _fronts(folder: Path) -> list[str]:
    """What stands in front of `train-images-idx3-ubyte`, once for each file of such a name."""
    name = f"train-{_IMAGES}"
    ends = (one.removesuffix(name) for one in _named(folder) if one.endswith(name))
    found = sorted(one for one in ends if not one or not one[-1].isalnum())
    return [""] if "" in found else found


def holds_idx(folder: Path) -> bool:
    """Whether there is such a folder, with pictures to train on in this form."""
    return folder.is_dir() and bool(_fronts(folder))


def idx_expected(folder: Path) -> str:
    """Which names files in this form need, where there are some under others; else nothing."""
    others = [
        path.name for name, path in _named(folder).items() if "-idx" in name or "ubyte" in name
    ]
    if not others:
        return ""
    return (
        f"of IDX files such as {others[0]} it takes train-{_IMAGES}, train-{_LABELS} and the same "
        "with t10k (or test), of grey pictures, each perhaps with .gz behind it"
    )


def _side(folder: Path, front: str, stems: tuple[str, ...], classes: tuple[str, ...]) -> Pictures:
    named = _named(folder)
    stem = next((one for one in stems if f"{front}{one}-{_IMAGES}" in named), None)
    if stem is None:
        raise DataError(f"{folder} holds no {front}{stems[0]}-{_IMAGES} (or .gz)")
    source = named[f"{front}{stem}-{_IMAGES}"]
    images = read_idx(source)
    if images.ndim != 3:
        raise DataError(f"{source} holds {images.ndim} axes, not number, rows and columns")
    labelled = (named.get(f"{front}{one}-{_LABELS}") for one in stems)
    where = next((path for path in labelled if path is not None), None)
    if where is None:
        labels = np.full(len(images), UNKNOWN, np.int64)
    else:
        labels = read_idx(where).astype(np.int64)
        if labels.shape != (len(images),):
            found = " x ".join(map(str, labels.shape))
            raise DataError(f"{where} has {found} labels for {len(images)} pictures")
        known = classes or tuple(str(n) for n in range(int(labels.max(initial=0)) + 1))
        classes = known
    return Pictures(name=folder.name, pixels=images[:, None], labels=labels, classes=classes)


def read_idx_folder(folder: Path, classes: tuple[str, ...] = ()) -> Split:
    """The two sides of a folder of IDX files.

    Raises:
        DataError: one is missing or cannot be used, or there are those of several sets.
    """
    front, *others = _fronts(folder) or [""]
    if others:
        sets = ", ".join(one.rstrip("-_. ") for one in (front, *others))
        raise DataError(f"{folder} holds the IDX files of {sets}: name a folder with those of one")
    train = _side(folder, front, ("train",), classes)
    test = _side(folder, front, ("t10k", "test"), classes or train.classes)
    if train.shape != test.shape:
        raise DataError(
            f"{folder}: pictures to train on are {train.shape}, those held out {test.shape}"
        )
    return Split(train, test)
