"""Files in the IDX form of MNIST and Fashion-MNIST, plain or compressed by gzip.

A file is a magic number (two zero bytes, type 8 for bytes, number of axes), the axes as big-endian
32-bit numbers, and the bytes. A folder holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`
and the same with `t10k` (or `test`); `-labels` may be missing where nothing asks for them.
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


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """The array in an IDX file of bytes.

    Raises:
        DataError: it cannot be read, is larger than a GiB, cut off, too long, or of another form.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:  # never more than the limit, whatever it unpacks to
                data = file.read(MAX_BYTES + 1)
        else:
            data = path.open("rb").read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
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


def _find(folder: Path, *stems: str) -> Path | None:
    for stem in stems:
        for name in (stem, stem.replace("-idx", ".idx")):  # as unpacked by some programs
            for path in (folder / name, folder / f"{name}.gz"):
                if path.exists():
                    return path
    return None


def holds_idx(folder: Path) -> bool:
    """Whether there are pictures to train on in this form."""
    return _find(folder, "train-images-idx3-ubyte") is not None


def _side(folder: Path, name: str, stems: tuple[str, ...], classes: tuple[str, ...]) -> Pictures:
    source = _find(folder, *(f"{stem}-images-idx3-ubyte" for stem in stems))
    if source is None:
        raise DataError(f"{folder} holds no {stems[0]}-images-idx3-ubyte (or .gz)")
    images = read_idx(source)
    if images.ndim != 3:
        raise DataError(f"{source} holds {images.ndim} axes, not number, rows and columns")
    where = _find(folder, *(f"{stem}-labels-idx1-ubyte" for stem in stems))
    if where is None:
        labels = np.full(len(images), UNKNOWN, np.int64)
    else:
        labels = read_idx(where).astype(np.int64)
        if labels.shape != (len(images),):
            raise DataError(f"{where} has {labels.size} labels for {len(images)} pictures")
        known = classes or tuple(str(n) for n in range(int(labels.max(initial=0)) + 1))
        classes = known
    return Pictures(name=name, pixels=images[:, None], labels=labels, classes=classes)


def read_idx_folder(folder: Path, classes: tuple[str, ...] = ()) -> Split:
    """The two sides of a folder of IDX files."""
    train = _side(folder, folder.name, ("train",), classes)
    test = _side(folder, folder.name, ("t10k", "test"), classes or train.classes)
    if train.shape != test.shape:
        raise DataError(
            f"{folder}: pictures to train on are {train.shape}, those held out {test.shape}"
        )
    return Split(train, test)
