"""What DATA means on the command line: a folder, a name, recorded games, a game, an environment.

Nothing is downloaded. Files are named with what they hold (sha256 of a folder's files), so that a
run can say later whether it still sees the same data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from playout.agents.pretraining.data.dataset import COUNT, DATA_VERSION, Split, split_rows
from playout.agents.pretraining.data.folders import holds_split, read_folder
from playout.agents.pretraining.data.frames import FRAMES, MADE, OBSERVATIONS, frames, observations
from playout.agents.pretraining.data.idx import holds_idx, read_idx_folder
from playout.agents.pretraining.data.pictures import Bytes, Pictures
from playout.envs.core.registry import games
from playout.envs.records.files import holds_games
from playout.errors import ConfigError, DataError, likely_names
from playout.own_code import trust_modules

FASHION = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Boot",
)  # fmt: skip
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FASHION_DIGEST = "ece172613115fb18b120bec8f6c02271af90b8b8f0a5af5c51cbd5ceed68e619"
"""`digest` of what it holds, whatever program packed its files."""

ICONS_FOLDER = Path("/usr/share/icons/gnome/48x48")
TILE = 32


def fashion_mnist() -> Split:
    """Fashion-MNIST (Xiao et al. 2017) where Debian's package dataset-fashion-mnist puts it."""
    if not holds_idx(FASHION_FOLDER):
        raise DataError(
            f"there is no Fashion-MNIST in {FASHION_FOLDER}: apt install dataset-fashion-mnist, or "
            "name a folder with its IDX files"
        )
    split = read_idx_folder(FASHION_FOLDER, FASHION)
    if digest(split) != FASHION_DIGEST:
        raise DataError(
            f"{FASHION_FOLDER} does not hold Fashion-MNIST as published; to learn from it all the "
            "same, name that folder"
        )
    return split


def digits(*, seed: int = 0) -> Split:
    """1,797 handwritten digits of 8 x 8 from scikit-learn, a fifth held out."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ConfigError("digits come with scikit-learn: pip install scikit-learn") from None
    bunch = load_digits()
    pixels = np.minimum(bunch.images * (255 / 16), 255).astype(np.uint8)[:, None]
    names = tuple(str(n) for n in range(10))
    labels = bunch.target.astype(np.int64)
    whole = Pictures(name="digits", pixels=pixels, labels=labels, classes=names)
    held = split_rows(len(whole), None, 0.2, seed=seed)
    return Split(whole.subset(np.setdiff1d(np.arange(len(whole)), held)), whole.subset(held))


def photographs() -> Split:
    """The two photographs of scikit-learn in tiles of 32 x 32, by what they show.

    The right fifth of each is held out.
    """
    try:
        from sklearn.datasets import load_sample_images
    except ImportError:
        raise ConfigError("photographs come with scikit-learn: pip install scikit-learn") from None
    bunch = load_sample_images()
    tiles, labels, columns = list[Bytes](), list[int](), list[int]()
    for number, image in enumerate(bunch.images):
        height, width = (side // TILE for side in image.shape[:2])
        for row, column in product(range(height), range(width)):
            tile = image[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
            tiles.append(tile.transpose(2, 0, 1))
            labels.append(number)
            columns.append(5 * column // width)
    whole = Pictures(
        name="photographs",
        pixels=np.stack(tiles),
        labels=np.array(labels, np.int64),
        classes=tuple(Path(name).stem for name in bunch.filenames),
    )
    held = np.array(columns) == 4
    return Split(whole.subset(np.flatnonzero(~held)), whole.subset(np.flatnonzero(held)))


def icons() -> Split:
    """GNOME's icons of 48 x 48 in colour, a class a category, where Debian's package puts them."""
    if not ICONS_FOLDER.is_dir():
        raise DataError(
            f"there are no icons in {ICONS_FOLDER}: apt install gnome-icon-theme, or name a folder "
            "with one of pictures a class"
        )
    return read_folder(ICONS_FOLDER, size=48)  # one of them is a strip of several


NAMED: dict[str, Callable[[], Split]] = {
    "fashion-mnist": fashion_mnist,
    "digits": digits,
    "photographs": photographs,
    "icons": icons,
}


def is_path(data: str) -> bool:
    """Whether DATA is a folder or a file of records, and not a name."""
    path = Path(data)
    if not data or data in NAMED or data.startswith(MADE):
        return False
    return path.is_dir() or (holds_games(path) and path.exists())


def are_pictures(data: str) -> bool:
    """Whether DATA are pictures, and not positions of a game."""
    return data in NAMED or data.startswith(MADE) or Path(data).is_dir()


def are_made(data: str) -> bool:
    """Whether DATA are made, as many as are asked for, and not read."""
    path = Path(data)
    return data not in NAMED and not path.is_dir() and not holds_games(path)


def takes_size(data: str) -> bool:
    """Whether the pictures of DATA can be brought to another size."""
    return data.startswith(FRAMES) or (Path(data).is_dir() and not holds_idx(Path(data)))


def takes_seed(data: str) -> bool:
    """Whether DATA are drawn, or drawn from to hold some out, and do not bring their own split."""
    path = Path(data)
    return data not in NAMED and not (path.is_dir() and (holds_idx(path) or holds_split(path)))


def trust_typed(data: str) -> None:
    """Takes a name that a person has typed, of an environment or a game, as trust in its module."""
    for kind in MADE:
        data = data.removeprefix(kind)
    if ":" in data and not is_path(data):
        trust_modules(data)


def load(
    data: str,
    *,
    count: int = COUNT,
    image_size: int = 0,
    seed: int = 0,
    threads: int = 0,
    wrappers: Sequence[str] = (),
    env_options: Mapping[str, Any] | None = None,
    version: int = DATA_VERSION,
) -> Split:
    """The data of that name.

    Args:
        data: a name of NAMED, a folder of IDX files or of pictures (one folder a class), a file of
            recorded games, frames:ENVIRONMENT (what it renders), observations:ENVIRONMENT (what PPO
            sees), or a game such as "othello(size=6)".
        count: of positions or frames, where they are made and not read.
        image_size: both sides of pictures of a folder, or rendered; 0: as they are, rendered 64.
        seed: of what is made, and of which is held out.
        threads: of a solver that labels positions; 0: every core.
        wrappers: of observations, around the environment ...
        env_options: ... and its keywords.
        version: how positions are drawn and pictures grouped, see DATA_VERSION.

    Raises:
        DataError: what is there cannot be used. ConfigError: there is nothing of that name.
    """
    from playout.agents.pretraining.data.positions import positions_of_game, positions_of_records

    if data in NAMED:
        return NAMED[data]()
    if data.startswith(FRAMES):
        return frames(data.removeprefix(FRAMES), count=count, size=image_size, seed=seed)
    if data.startswith(OBSERVATIONS):
        env = data.removeprefix(OBSERVATIONS)
        return observations(env, count=count, wrappers=wrappers, options=env_options, seed=seed)
    path = Path(data)
    if path.is_dir():
        if holds_idx(path):
            return read_idx_folder(path)
        return read_folder(path, size=image_size, seed=seed, version=version)
    if holds_games(path):
        return positions_of_records(path, seed=seed)
    try:
        return positions_of_game(data, count=count, seed=seed, threads=threads, version=version)
    except ConfigError as error:
        if "no game is named" not in str(error) and "is not a game" not in str(error):
            raise
        close = likely_names(data, [*NAMED, *(info.name for info in games())])
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ConfigError(
            f"there is no data {data!r}{hint}: name a folder, {', '.join(NAMED)}, a file of "
            f"records, {FRAMES}ENVIRONMENT, {OBSERVATIONS}ENVIRONMENT or a game"
        ) from None


def read_otherwise(config: Mapping[str, object]) -> str:
    """What to add where data are not those of a run: earlier versions kept no seed of data."""
    return "" if "data_seed" in config else " (earlier versions read or split some data otherwise)"


def digest(split: Split) -> str:
    """sha256 of everything that is learned from, hexadecimal."""
    found = hashlib.sha256()
    for part in (split.train, split.test):
        for array in (getattr(part, "pixels", None), getattr(part, "states", None), part.labels):
            if array is not None:
                found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
