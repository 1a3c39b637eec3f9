"""What every kind of training data owes: pictures by row, labels where there are any, augmentation.

A picture is `[C, H, W]` in [0, 1]; a label is the number of a class, or UNKNOWN. What augmentation
means is the data's own business, since it knows what may change and what not. Left out: where data
comes from (sources.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from playout.errors import ConfigError, DataError

Images = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

ALL = slice(None)

DATA_VERSION = 5
"""How positions of a game are drawn and pictures grouped. Runs keep it, so that those of version 1
go on as they began: with any ply as likely, and the same picture perhaps on both sides. To those
before 3 `train` beside anything but `test` is a class, and pictures beside classes are left out.
Before 4 the seed says which positions are held out, not `keyed_rows`, and of folders only some
kinds of pictures are read, hidden ones among them, and none below links to folders. Before 5 games
that are small enough to be solved, but have no solver of their own, are played out."""

COUNT = 20_000
"""Positions or pictures that are made, where it is not said."""

MIN_VALIDATED = 50
MAX_VALIDATED = 2048

UNKNOWN = -1
"""The label of a picture of unknown class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How data are changed in training, each option as likely as it says."""

    shift: float = 0.07
    """Of pictures: largest shift, as a share of height and width."""
    flip: bool = False
    """Of pictures: mirror left and right, every second one."""
    erase: float = 0.0
    """Of pictures: probability that a rectangle of up to a third is covered by noise."""
    crop: float = 1.0
    """Of pictures: the least share of the area that is shown in the place of all of it, enlarged
    (random resized crop); 1 shows the whole."""
    symmetries: bool = True
    """Of positions: show each by a symmetry of its game, any as likely, and its moves alike."""

    def __post_init__(self) -> None:
        if not 0 <= self.shift < 0.5:
            raise ConfigError(f"--augment.shift must be from 0 to 0.5, not {self.shift}")
        if not 0 <= self.erase <= 1:
            raise ConfigError(f"--augment.erase must be from 0 to 1, not {self.erase}")
        if not 0 < self.crop <= 1:
            raise ConfigError(f"--augment.crop must be above 0 and at most 1, not {self.crop}")


USUAL = Augmentation()


class Dataset(Protocol):
    """Pictures of one shape, by row."""

    @property
    def name(self) -> str:
        """What it was called on the command line."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(C, H, W)` of a picture."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; empty without labels."""

    @property
    def labels(self) -> Rows:
        """int64 [N], UNKNOWN where there is none."""

    @property
    def groups(self) -> Rows | None:
        """int64 [N], equal for what is never parted (a game, an episode); None: nothing is."""

    @property
    def augmentation(self) -> Augmentation:
        """What `images` and `shown` may do with a generator."""

    def __len__(self) -> int:
        """N, the number of pictures."""

    def images(
        self, rows: Rows, rng: np.random.Generator | None = None, own: slice = ALL
    ) -> Images:
        """float32 [B, C, H, W] in [0, 1]; with `rng` as augmentation shows them.

        What augmentation draws is drawn for all rows; pictures are made of those in `own`.
        """

    def policy(self, rows: Rows) -> npt.NDArray[np.float32] | None:
        """float32 [B, A]: moves to imitate, adding up to 1; None where there are no moves."""

    def shown(
        self, rows: Rows, rng: np.random.Generator | None = None, own: slice = ALL
    ) -> tuple[Images, npt.NDArray[np.float32] | None]:
        """`images`, and `policy` as it is there: augmentation may have moved the moves."""

    def subset(self, rows: Rows) -> Dataset:
        """Some of the rows."""


@dataclass(frozen=True, slots=True)
class Split:
    """Data to learn from and data that is held out; no group (game, original) is on both sides."""

    train: Any
    test: Any

    def some(self, train: int, test: int) -> Split:
        """Rows of each side, at most so many."""
        sides = (self.train, train), (self.test, test)
        return Split(*(side.subset(some_rows(np.arange(len(side)), n)) for side, n in sides))

    def must_have_labels(self) -> None:
        """Raises DataError unless two classes can be learned, and what is held out measures it."""
        check_labels(self.train, instead="--data DATA names what has some")
        check_held_out(self)


def check_labels(data: Dataset, instead: str = "choose an objective that needs none") -> None:
    """Raises DataError, with what to do instead, unless at least two classes are labelled."""
    if not data.classes or (data.labels == UNKNOWN).all():
        raise DataError(f"{data.name} has no labels; {instead}")
    wrong = (data.labels < UNKNOWN) | (data.labels >= len(data.classes))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{data.name}: picture {row} has the label {data.labels[row]}; the {len(data.classes)} "
            f"classes are 0 to {len(data.classes) - 1}"
        )
    found = np.unique(data.labels[data.labels != UNKNOWN])
    if len(found) < 2:
        only = data.classes[int(found[0])]
        raise DataError(f"{data.name} holds one class only ({only}); there is nothing to tell")


def check_held_out(data: Split) -> None:
    """Raises DataError for held-out labels that measure nothing; one class of them is enough."""
    held = data.test.labels
    if not (held >= 0).any():
        raise DataError(f"{data.test.name}: what is held out has no labels to measure by")
    if held.max() >= len(data.train.classes):
        raise DataError(
            f"{data.test.name}: what is held out has the label {held.max()}; the classes that are "
            f"learned from are 0 to {len(data.train.classes) - 1}"
        )


def some_rows(rows: Rows, count: int, *, seed: int = 0) -> Rows:
    """At most `count` of the rows, in their order; drawn, since data may lie sorted by class."""
    if len(rows) <= count:
        return rows
    return np.sort(np.random.default_rng([seed, 45]).permutation(rows)[:count])


def independent(data: Dataset, rows: Rows) -> int:
    """How many of the rows say something of their own: of a group, such as a game, one does."""
    return len(rows) if data.groups is None else len(np.unique(data.groups[rows]))


def labelled_rows(data: Dataset, share: float, *, seed: int) -> Rows:
    """Rows of a share of the labelled pictures, the same share of every class (at least one).

    Args:
        data: where the labels are.
        share: above 0, at most 1.
        seed: which rows.
    """
    if not 0 < share <= 1:
        raise DataError(f"the share of labels must be above 0 and at most 1, not {share}")
    rng = np.random.default_rng([seed, 41])
    parts = []
    for number in range(len(data.classes)):
        rows = np.flatnonzero(data.labels == number)
        if len(rows):
            count = max(1, round(share * len(rows)))
            parts.append(np.sort(rng.permutation(rows)[:count]))
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def validation_rows(data: Dataset, rows: Rows, share: float) -> Rows:
    """Which of the rows to learn from choose the best checkpoint instead; whole groups.

    Always the same ones, whatever the seed of a run: about `share` of them, MAX_VALIDATED at most,
    and none where they would be fewer than MIN_VALIDATED, which choose by chance.
    """
    groups = None if data.groups is None else data.groups[rows]
    share = min(share, MAX_VALIDATED / len(rows))
    places = split_rows(len(rows), groups, share, seed=0, by_rows=groups is not None)
    some = MIN_VALIDATED <= len(places) <= len(rows) // 2
    return rows[places] if some else rows[:0]


def keyed_rows(keys: npt.NDArray[np.uint64], share: float) -> Rows:
    """Rows to hold out, about `share` of the different keys: by each key alone.

    What is held out among some keys is so among any others, so that nobody learns from it. Where
    that would be none of them, it is the key nearest to it.
    """
    mixed = keys.copy()  # keys may lean to small numbers (splitmix64, Steele et al. 2014)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return np.flatnonzero(mixed <= max(mixed.min(), np.uint64(share * 2**64)))


def most_frequent(data: Dataset, rows: Rows) -> dict[str, Any]:
    """The `class` that most of some labelled rows are of, and their `share`: what chance reaches.

    Without a label among them it is empty.
    """
    labels = data.labels[rows]
    counts = np.bincount(labels[labels >= 0], minlength=1)
    if not counts.sum():
        return {}
    number = int(counts.argmax())
    name = data.classes[number] if number < len(data.classes) else str(number)
    return {"class": name, "share": float(counts[number] / counts.sum())}


def split_rows(
    count: int, groups: npt.ArrayLike | None, share: float, *, seed: int, by_rows: bool = False
) -> Rows:
    """Rows to hold out, about `share` of all, whole groups together.

    Args:
        count: of all rows.
        groups: what each row belongs to; None: every row is a group of its own.
        share: to hold out.
        seed: which.
        by_rows: groups are taken while their rows fit into the share, at least the smallest; else
            the share is one of groups, which are about alike.
    """
    rng = np.random.default_rng([seed, 42])
    if groups is None:
        return np.sort(rng.permutation(count)[: max(1, round(share * count))])
    names, inverse = np.unique(np.asarray(groups), return_inverse=True)
    order = rng.permutation(len(names))
    chosen = list(order[: max(1, round(share * len(names)))])
    if by_rows:
        sizes, room, chosen = np.bincount(inverse), max(1, round(share * count)), []
        for group in order:
            if sizes[group] <= room:
                chosen.append(group)
                room -= sizes[group]
        chosen = chosen or [sizes.argmin()]
    return np.flatnonzero(np.isin(inverse, chosen))
