"""Pictures in memory, and what augmentation may do to them.

Bytes stay bytes until a batch is made. Shifting pads with what is at the border; a flip is left and
right only, and only where the person says that a mirrored picture means the same; erasing puts
noise over a rectangle (Zhong et al. 2017). Left out: reading files (idx.py, folders.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import numpy.typing as npt
from playout.agents.pretraining.data.dataset import ALL, USUAL, Augmentation, Images, Rows
from playout.errors import DataError

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Pictures of one size with their labels; see `Dataset`.

    Attributes:
        name: what they were called.
        pixels: uint8 [N, C, H, W].
        labels: int64 [N].
        classes: names.
        groups: int64 [N], equal for pictures that are never parted; None: each is by itself.
        augmentation: what `images` may do with a generator.
    """

    name: str
    pixels: Bytes
    labels: Rows
    classes: tuple[str, ...] = ()
    groups: Rows | None = None
    augmentation: Augmentation = USUAL

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or not len(self.pixels):
            raise DataError(f"{self.name} holds no pictures")
        if len(self.labels) != len(self.pixels):
            raise DataError(
                f"{self.name} has {len(self.pixels)} pictures and {len(self.labels)} labels"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(C, H, W)`."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    def __len__(self) -> int:
        return len(self.pixels)

    def subset(self, rows: Rows) -> Pictures:
        """Some of the rows."""
        groups = None if self.groups is None else self.groups[rows]
        return replace(self, pixels=self.pixels[rows], labels=self.labels[rows], groups=groups)

    def policy(self, rows: Rows) -> None:
        """Pictures have no moves."""
        return

    def shown(
        self, rows: Rows, rng: np.random.Generator | None = None, own: slice = ALL
    ) -> tuple[Images, None]:
        """`images`, without moves."""
        return self.images(rows, rng, own), None

    def images(
        self, rows: Rows, rng: np.random.Generator | None = None, own: slice = ALL
    ) -> Images:
        """float32 [B, C, H, W] in [0, 1], changed at random where there is a generator."""
        pixels = self.pixels[rows[own]]
        if rng is not None:
            pixels = augment(pixels, self.augmentation, rng, own, len(rows))
        return np.multiply(pixels, np.float32(1 / 255), dtype=np.float32)


def same_pixels(*sides: Bytes) -> Rows:
    """int64 [N]: equal for pictures that are the same in every pixel, numbered as they come.

    Args:
        sides: uint8 [n, C, H, W] each, N pictures together.
    """
    known: dict[bytes, int] = {}
    digests = (hashlib.sha256(picture.tobytes()).digest() for picture in chain(*sides))
    return np.array([known.setdefault(digest, len(known)) for digest in digests], np.int64)


def augment(
    pixels: Bytes,
    how: Augmentation,
    rng: np.random.Generator,
    own: slice = ALL,
    total: int | None = None,
) -> Bytes:
    """uint8 [B, C, H, W] cropped, shifted, mirrored and partly erased; a new array.

    Args:
        pixels: pictures `own` of `total`.
        how: options.
        rng: draws for all of them.
        own: see `pixels`; by default all.
        total: see `pixels`.
    """
    count = len(pixels) if total is None else total
    _, _, height, width = pixels.shape
    reach = round(how.shift * height), round(how.shift * width)
    pad = ((0, 0), (0, 0), (reach[0], reach[0]), (reach[1], reach[1]))
    padded = np.pad(pixels, pad, mode="edge")
    down = rng.integers(0, 2 * reach[0] + 1, count)
    right = rng.integers(0, 2 * reach[1] + 1, count)
    mirrored = np.logical_and(rng.random(count) < 0.5, how.flip)
    covered = np.less(rng.random(count), how.erase)
    if how.crop < 1:
        padded = np.pad(_cropped(pixels, how.crop, rng, own, count), pad, mode="edge")
    found = np.empty_like(pixels)
    mine = range(count)[own]
    for row in range(count):
        place = row - mine.start
        if row not in mine:
            if covered[row]:  # its noise is drawn, for the numbers that come after it
                _erase(np.empty(pixels.shape[1:], np.uint8), rng)
            continue
        top, left = down[row], right[row]
        picture = padded[place, :, top : top + height, left : left + width]
        found[place] = picture[:, :, ::-1] if mirrored[row] else picture
        if covered[row]:
            _erase(found[place], rng)
    return found


def _cropped(
    pixels: Bytes, least: float, rng: np.random.Generator, own: slice, count: int
) -> Bytes:
    """Of each picture a part of `least` to all of its area, as large as the picture (bilinear).

    The part is up to a third longer than wide, or wider than long (Szegedy et al. 2015).
    """
    _, _, height, width = pixels.shape
    area = rng.uniform(least, 1.0, count)
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), count))
    tall = np.minimum(np.sqrt(area / ratio), 1.0) * height
    wide = np.minimum(np.sqrt(area * ratio), 1.0) * width
    down, right = rng.random(count) * (height - tall), rng.random(count) * (width - wide)
    rows = _sampled(down[own], tall[own], height)
    columns = _sampled(right[own], wide[own], width)
    found = np.zeros(pixels.shape, np.float32)
    every = np.arange(len(pixels))[:, None, None]
    for y, part in rows:
        for x, share in columns:
            weight = part[:, :, None] * share[:, None, :]
            found += weight[:, None] * pixels.transpose(0, 2, 3, 1)[
                every, y[:, :, None], x[:, None, :]
            ].transpose(0, 3, 1, 2)
    return np.rint(found).astype(np.uint8)


def _sampled(
    first: npt.NDArray[np.float64], size: npt.NDArray[np.float64], count: int
) -> list[tuple[Rows, npt.NDArray[np.float32]]]:
    """Along one side, the two pixels that each of `count` places lies between, and their weights.

    Args:
        first: where the part begins, [B].
        size: how long it is, [B].
        count: pixels of the side, of the picture and of what is made.
    """
    place = first[:, None] + (np.arange(count) + 0.5) * size[:, None] / count - 0.5
    place = np.clip(place, 0, count - 1)
    before = np.floor(place).astype(np.int64)
    after = np.minimum(before + 1, count - 1)
    weight = (place - before).astype(np.float32)
    return [(before, 1 - weight), (after, weight)]


def _erase(picture: Bytes, rng: np.random.Generator) -> None:
    """Noise over a rectangle of 2 to 33 per cent of one picture, in place."""
    channels, height, width = picture.shape
    area, ratio = rng.uniform(0.02, 0.33) * height * width, np.exp(rng.uniform(-1.2, 1.2))
    tall = int(np.clip(round(np.sqrt(area * ratio)), 1, height))
    wide = int(np.clip(round(np.sqrt(area / ratio)), 1, width))
    top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
    noise = rng.integers(0, 256, (channels, tall, wide), dtype=np.uint8)
    picture[:, top : top + tall, left : left + wide] = noise
