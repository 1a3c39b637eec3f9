"""Tasks made out of the pictures themselves: which way is up, where does a patch lie, which colour.

Rotation (Gidaris et al. 2018), relative position of patches (Doersch et al. 2015), colour from grey
(Zhang et al. 2016, here as bins of the two colour differences). Each is a small classification
whose labels cost nothing.
"""

from __future__ import annotations

import torch
from playout.agents.pretraining.objectives.objective import Batch, Losses, Objective, decoder
from playout.agents.pretraining.trunk import Trunk
from playout.errors import ConfigError
from torch import Tensor, nn
from torch.nn import functional


def turn(images: Tensor, kinds: Tensor) -> Tensor:
    """Each picture by its kind: 0 as it is, 1 by 90, 2 by 180, 3 by 270 degrees.

    Pictures that are not square know 0 and 1 only, and 1 is upside down.
    """
    square = images.shape[2] == images.shape[3]
    found = images.clone()
    for kind in range(1, 4 if square else 2):
        rows = kinds == kind
        picked = images[rows]
        found[rows] = torch.rot90(picked, kind, (2, 3)) if square else picked.flip(2)
    return found


class Rotation(Objective):
    """By how much was the picture turned (or, if it is not square, is it upside down)?"""

    name = "rotation"

    @staticmethod
    def kinds_of(shape: tuple[int, int, int]) -> int:
        """How many turns pictures `(C, H, W)` know, that by nothing included."""
        return 4 if shape[1] == shape[2] else 2

    def __init__(self, trunk: Trunk) -> None:
        super().__init__(trunk)
        self.kinds = self.kinds_of(trunk.shape)
        self.head = nn.Linear(trunk.num_features, self.kinds)

    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Cross entropy over the turns."""
        device = batch.images.device
        drawn = torch.randint(self.kinds, (batch.total,), generator=generator)
        kinds = batch.own(drawn).to(device)
        logits = self.head(self.trunk.vector(turn(batch.images, kinds))).float()
        right = (logits.argmax(1) == kinds).float().mean()
        return {"loss": functional.cross_entropy(logits, kinds), "accuracy": right}


class Patches(Objective):
    """Where does a second patch lie around a first one: which of its eight neighbours is it?

    Patches are shown in the middle of an empty picture, with a gap between them and a jitter of
    their own, so that lines which go on from one to the other do not tell.
    """

    name = "patches"
    NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))

    def __init__(self, trunk: Trunk) -> None:
        super().__init__(trunk)
        _, height, width = trunk.shape
        self.cell = height // 3, width // 3
        self.jitter = tuple(max(0, side // 8) for side in self.cell)
        self.side = tuple(
            side - jitter for side, jitter in zip(self.cell, self.jitter, strict=True)
        )
        if min(self.side) < 2:
            raise ConfigError(f"pictures of {height} x {width} are too small for nine patches")
        features = trunk.num_features
        self.head = nn.Sequential(
            nn.Linear(2 * features, features),
            nn.ReLU(),
            nn.Linear(features, len(self.NEIGHBOURS)),
        )

    def _cut(self, batch: Batch, cells: Tensor, generator: torch.Generator) -> Tensor:
        """The patches in cells [N, 2] of the three by three, each in the middle of nothing."""
        images = batch.images
        count, _, height, width = images.shape
        (tall, wide), (down, right) = self.side, self.jitter
        drawn = [torch.randint(n + 1, (batch.total,), generator=generator) for n in (down, right)]
        shifts = batch.own(torch.stack(drawn, dim=1))
        tops, lefts = (cells * torch.tensor(self.cell) + shifts).unbind(1)
        rows = tops[:, None] + torch.arange(tall)
        columns = lefts[:, None] + torch.arange(wide)
        picked = images[
            torch.arange(count)[:, None, None, None],
            torch.arange(images.shape[1])[None, :, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        ]
        top, left = (height - tall) // 2, (width - wide) // 2
        pad = (left, width - wide - left, top, height - tall - top)
        return functional.pad(picked, pad)

    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Cross entropy over the eight places."""
        device = batch.images.device
        drawn = torch.randint(len(self.NEIGHBOURS), (batch.total,), generator=generator)
        places = batch.own(drawn)
        centre = torch.ones(len(places), 2, dtype=torch.long)
        first = self._cut(batch, centre, generator)
        second = self._cut(batch, centre + torch.tensor(self.NEIGHBOURS)[places], generator)
        features = self.trunk.vector(torch.cat([first, second]))
        logits = self.head(torch.cat(features.chunk(2), dim=1)).float()
        places = places.to(device)
        right = (logits.argmax(1) == places).float().mean()
        return {"loss": functional.cross_entropy(logits, places), "accuracy": right}


class Colour(Objective):
    """The colours of a grey picture, a place at a time, as bins of the two colour differences."""

    name = "colour"
    BINS = 12

    def __init__(self, trunk: Trunk) -> None:
        super().__init__(trunk)
        if trunk.shape[0] != 3 or trunk.network == "resnet":
            raise ConfigError("the objective colour needs pictures in colour, with three channels")
        features, height, width = trunk.map_shape
        shape = 2 * self.BINS, trunk.shape[1], trunk.shape[2]
        self.draw = decoder(features, (height, width), shape)

    @classmethod
    def targets(cls, images: Tensor) -> Tensor:
        """int64 [N, 2, H, W]: bins of blue and red less the grey value, each over [-1, 1]."""
        grey = luminance(images)
        differences = images[:, [2, 0]] - grey
        return ((differences + 1) * (cls.BINS / 2)).long().clamp(0, cls.BINS - 1)

    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Cross entropy over bins, a pixel and difference."""
        images = batch.images
        wanted = self.targets(images)
        grey = luminance(images).expand_as(images)
        logits = self.draw(self.trunk.map(grey)).float()
        logits = logits.unflatten(1, (2, self.BINS)).transpose(1, 2)
        right = (logits.argmax(1) == wanted).float().mean()
        return {"loss": functional.cross_entropy(logits, wanted), "accuracy": right}


def luminance(images: Tensor) -> Tensor:
    """`[N, 3, H, W]` to `[N, 1, H, W]`, by the weights of ITU-R BT.601."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device)
    return (images * weights[:, None, None]).sum(1, keepdim=True)
