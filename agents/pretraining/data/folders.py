"""Folders of picture files, one folder a class or all of no class, read through Pillow.

With `train` and one of HELD_OUT below it, a folder brings its own split; else a tenth is held out,
of folders below those of classes whole ones (`cat/anna/1.png`: one cat, one series of shots), and
of pictures of the same pixels all. All have one size, or `size` says to which they are brought.
They are turned as their EXIF data say, and lie on white where they are transparent. A picture that
cannot be read, or lies beside the folders of classes, is named, never skipped, and files of other
kinds are told of; a link to a picture that is read anyway is no further one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from playout.agents.pretraining.data.dataset import (
    DATA_VERSION,
    UNKNOWN,
    Rows,
    Split,
    split_rows,
)
from playout.agents.pretraining.data.idx import idx_expected, unreadable
from playout.agents.pretraining.data.picture_files import (
    class_folders,
    files_below,
    note,
    pictures_in,
    real_path,
    tell_of_empty,
    tell_of_others,
)
from playout.agents.pretraining.data.pictures import Bytes, Pictures, same_pixels
from playout.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 1 << 24

TRAIN, HELD_OUT = "train", ("test", "val", "valid", "validation")
"""Folders that are sides and no classes; of several held-out ones the first is taken."""

OTHERWISE = {"training": TRAIN, "testing": "test"}
"""What they are called as well; each may be written in capitals."""

BACKGROUND = "white"
"""What shows through transparent pixels; their own colours mean nothing, mostly black."""

_TRANSPARENT = ("LA", "PA", "RGBA", "RGBa")


def read_picture(path: Path, *, size: int, channels: int) -> Bytes:
    """One picture, uint8 [channels, H, W].

    Args:
        path: a file that Pillow reads.
        size: of both sides, to which it is brought; 0: as it is.
        channels: 1 (grey) or 3.

    Raises:
        DataError: it cannot be read, is too large, or its pixels are neither of 8 nor 16 bits.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with _opened(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{path} has more than {MAX_PIXELS:,} pixels")
            plain = _plain(image, path).convert("L" if channels == 1 else "RGB")
            if size:
                plain = plain.resize((size, size), Image.Resampling.BOX)
            array = np.asarray(plain, dtype=np.uint8)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{path} is not a picture that can be read: remove or replace it") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise unreadable(path, error, "remove or replace it") from None
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _opened(path: Path) -> Image.Image:
    """A picture, of which the head alone is read: what it warns of is above MAX_PIXELS."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path)


def _plain(image: Image.Image, path: Path) -> Image.Image:
    """The picture upright and opaque, with bytes for pixels.

    Of 16 bits these are the upper ones, since Pillow would clip.
    """
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):  # nothing says what is black and what is white
        raise DataError(f"{path} has pixels of mode {image.mode}, not bytes: save it with 8 bits")
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        seen = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, BACKGROUND), seen)
    return image


def _is_grey(path: Path) -> bool:
    from PIL import Image

    try:
        with _opened(path) as image:
            return image.mode in ("1", "L", "LA") or image.mode.startswith("I;16")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False  # reading it says what is wrong


def _holders(root: Path, version: int) -> list[Path]:
    """Folders of classes; without any the root itself, where pictures of no class lie in it."""
    found = class_folders(root, version)
    return found if found or not pictures_in(root, version) else [root]


def _of_classes(roots: list[Path], version: int) -> list[list[tuple[Path, int]]]:
    """Pictures of each root with the numbers of their classes; each stands once, see the head."""
    seen, others = set[Path](), list[Path]()
    found: list[list[tuple[Path, int, Path, bool]]] = []
    classes = [_holders(root, version) for root in roots]
    read = [real_path(one) for side in classes for one in side]
    for side in classes:
        found.append([])
        for number, one in enumerate(side):
            own = real_path(one)
            pictures, rest = files_below(one, version, read=read)
            others += rest
            for path in pictures:
                real = real_path(path)
                is_link = real != own / path.relative_to(one)
                found[-1].append((path, number, real, is_link))
                if not is_link:
                    seen.add(real)
    tell_of_others(others)

    def is_further(real: Path, is_link: bool) -> bool:
        if not is_link:
            return True
        before = len(seen)
        seen.add(real)  # of links to what is not read itself the first one counts
        return len(seen) > before

    return [
        [(path, number) for path, number, real, is_link in side if is_further(real, is_link)]
        for side in found
    ]


def _groups(files: list[tuple[Path, int]], folders: list[Path], pixels: Bytes) -> Rows | None:
    """int64 [N]: equal for what is never parted; None: every picture is by itself.

    That is what lies below folders of one name, whatever the class, and what has the same pixels.
    """
    same, named = same_pixels(pixels), _named(files, folders)
    if named is not None:
        joined = _joined(named, same)
        if np.bincount(joined).max() <= len(joined) / 2:
            return joined
    # Where most would be one group, folders are parted: the same picture on both sides is worse.
    return same if 0 < same.max() < len(same) - 1 else None


def _joined(first: Rows, second: Rows) -> Rows:
    """int64 [N]: equal where either is, and so are those that others link; as `first` numbers."""
    found = first
    while True:
        before = found
        for groups in (second, first):
            least = np.full(groups.max() + 1, len(found))
            np.minimum.at(least, groups, found)
            found = least[groups]
        if np.array_equal(found, before):
            return found


def _named(files: list[tuple[Path, int]], folders: list[Path]) -> Rows | None:
    """int64 [N]: equal below folders of one name, whatever the class; None: there are none."""
    below = [path.relative_to(folders[number]).parts for path, number in files]
    keys = [
        parts[0] if len(parts) > 1 else f"{number}/{parts[0]}"
        for parts, (_, number) in zip(below, files, strict=True)
    ]
    found = np.unique(keys, return_inverse=True)[1].astype(np.int64)
    several = found.max() > 0  # one group alone has to be parted
    return found if several and max(map(len, below)) > 1 else None


def _read_side(
    folder: Path,
    files: list[tuple[Path, int]],
    name: str,
    size: int,
    channels: int,
    version: int,
) -> Pictures:
    if not files:
        instead = idx_expected(folder) or (
            "put them into one folder a class (or into this one, without labels), or give IDX files"
        )
        raise DataError(f"{folder} holds no pictures: {instead}")
    first: tuple[Path, tuple[int, ...]] | None = None
    pictures = []
    for path, _ in files:
        picture = read_picture(path, size=size, channels=channels)
        if first is not None and picture.shape != first[1]:
            here, there = picture.shape[::-1][:2], first[1][::-1][:2]
            raise DataError(
                f"{path} is {here[0]}x{here[1]} and {first[0].name} {there[0]}x{there[1]}: "
                "pictures need one size; --image-size N brings them to it"
            )
        first = first or (path, picture.shape)
        pictures.append(picture)
    folders = _holders(folder, version)
    labels, classes = np.full(len(files), UNKNOWN, np.int64), tuple[str, ...]()
    if folders != [folder]:
        labels = np.array([number for _, number in files], np.int64)
        classes = tuple(one.name for one in folders)
    pixels = np.stack(pictures)
    return Pictures(
        name=name,
        pixels=pixels,
        labels=labels,
        classes=classes,
        groups=_groups(files, folders, pixels) if version > 1 else _named(files, folders),
    )


def holds_split(folder: Path) -> bool:
    """Whether a folder says what is held out, by `train` and one of HELD_OUT below it."""
    return len(_sides(folder)) > 1


def _sides(folder: Path, version: int = DATA_VERSION) -> list[str]:
    """Names of the folders below one that are its sides, what is learned from first; or none."""
    names = {path.name: path.name for path in class_folders(folder, version)}
    if version > 3:
        names = {name.lower(): name for name in names} | names
        for other, usual in OTHERWISE.items():
            if other in names:
                names.setdefault(usual, names[other])
    held = [names[one] for one in HELD_OUT[: None if version > 2 else 1] if one in names]
    # A class may have that name: its pictures lie in it, those of a side in folders of classes.
    if TRAIN not in names or (not held and pictures_in(folder / names[TRAIN], version)):
        return []
    return [names[TRAIN], *held]


def _check_layout(folder: Path, sides: list[str], version: int) -> None:
    """Refuses pictures that would be left out; says which of several sides is held out."""
    folders = class_folders(folder, version)
    others = [path.name for path in folders if path.name not in sides[:2]]
    if len(sides) == 1:
        beside = f"beside {', '.join(others[:3])}" if others else "alone"
        raise DataError(
            f"{folder} holds {sides[0]} {beside}: put what is held out into one of "
            f"{', '.join(HELD_OUT)} there, or name {folder / sides[0]}"
        )
    for root in [folder / side for side in sides[:2]] or [folder]:
        if (lying := pictures_in(root, version)) and class_folders(root, version):
            many = f"{len(lying):,} pictures beside the folders of classes, such as {lying[0].name}"
            one = f"1 picture beside the folders of classes, {lying[0].name}"
            what = f"{one}: move it" if len(lying) == 1 else f"{many}: move them"
            raise DataError(f"{root} holds {what} into one, or away")
    if sides and others:
        note(f"{folder / sides[1]} is held out; not read beside it: {', '.join(others)}")


def read_folder(
    folder: Path, *, size: int = 0, seed: int = 0, version: int = DATA_VERSION
) -> Split:
    """The two sides of a folder of pictures.

    Args:
        folder: holds a folder a class, or `train` and one of HELD_OUT with the same classes.
        size: of both sides of every picture; 0: as they are.
        seed: which are held out, where the folder does not say.
        version: see DATA_VERSION.

    Raises:
        DataError: there are no pictures, or one cannot be read or is left out, or sides differ.
    """
    sides = _sides(folder, version)
    if version > 2:
        _check_layout(folder, sides, version)
    roots = [folder / side for side in sides[:2]] if len(sides) > 1 else [folder]
    files = _of_classes(roots, version)
    channels = 1 if all(_is_grey(path) for side in files for path, _ in side) else 3
    train, *tests = (
        _read_side(root, side, folder.name, size, channels, version)
        for root, side in zip(roots, files, strict=True)
    )
    tell_of_empty([name for at, name in enumerate(train.classes) if at not in train.labels])
    if tests:
        (test,) = tests
        if (test.classes, test.shape) != (train.classes, train.shape):
            lone = sorted(set(test.classes) ^ set(train.classes))
            what = f"classes (one alone has {lone[0]})" if lone else "size of pictures"
            raise DataError(f"{folder}: {' and '.join(sides[:2])} differ in {what}")
        return Split(train, test)
    groups = train.groups
    held = split_rows(len(train), groups, 0.1, seed=seed, by_rows=groups is not None)
    rest = np.setdiff1d(np.arange(len(train)), held)
    if not len(rest):
        raise DataError(f"{folder} holds {len(train)} pictures, too few to hold some out")
    return Split(train.subset(rest), train.subset(held))


def read_given(
    paths: Iterable[Path], shape: tuple[int, int, int], *, size: int = 0
) -> tuple[list[Path], Bytes]:
    """Files, those below folders among them, and their pictures uint8 [N, C, H, W].

    Args:
        paths: of files and folders.
        shape: `(C, H, W)` that pictures have to have.
        size: of both sides, to which they are brought; 0: as they are.

    Raises:
        DataError: there are none, or one cannot be read or has another size.
    """
    files, others = list[Path](), list[Path]()
    for path in paths:
        pictures, rest = files_below(path) if path.is_dir() else ([path], [])
        files, others = files + pictures, others + rest
    tell_of_others(others)
    if not files:
        raise DataError("there are no pictures below these folders")
    channels, height, width = shape
    found = np.empty((len(files), *shape), np.uint8)
    for row, path in enumerate(files):
        picture = read_picture(path, size=size, channels=channels)
        if picture.shape != shape:
            tall, wide = picture.shape[1:]
            raise DataError(
                f"{path} is {wide}x{tall}; what was learned from is {width}x{height}: bring it to "
                "that size"
            )
        found[row] = picture
    return files, found
