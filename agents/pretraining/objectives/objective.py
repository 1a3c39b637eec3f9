"""What an objective owes the trainer: heads of its own, a loss of a batch, and measures.

An objective is a module beside the trunk; its parameters are the heads and are thrown away after
pretraining. Randomness (masks, rotations, noise) comes from the generator that it is given, so that
a resumed run repeats itself; it is drawn for the batch of all ranks, of which each keeps its rows.
Left out: which objectives there are (registry.py).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from playout.agents.pretraining.data.dataset import Dataset, Rows
from playout.agents.pretraining.trunk import Trunk
from playout.agents.runs import ranks
from playout.agents.vector.episodes import Place
from playout.errors import ConfigError
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Batch:
    """B pictures on the trunk's device, some or all of a batch of T."""

    images: Tensor
    """float32 [B, C, H, W] in [0, 1], augmented."""
    labels: Tensor
    """int64 [B]."""
    policy: Tensor | None = None
    """float32 [B, A], moves to imitate."""
    second: Tensor | None = None
    """float32 [B, C, H, W]: the same pictures, augmented otherwise; for objectives of two views. Or
    the positions that follow, for an objective of what comes next."""
    whole: Place | None = None
    """Which of the T pictures of all ranks these are; None: all of them."""
    everyone: tuple[Tensor, Tensor] | None = None
    """Images and labels of all T, where the objective asks for them and other ranks have some."""

    @property
    def total(self) -> int:
        """T."""
        return len(self.images) if self.whole is None else self.whole.total

    def own(self, drawn: Tensor) -> Tensor:
        """Of something drawn for all T pictures the part of these B."""
        return drawn if self.whole is None else drawn[self.whole.own]

    def gathered(self, features: Tensor) -> Tensor:
        """Vectors of all T pictures `[T, D]` from those of these; gradients reach these alone.

        What is computed from them alike on every rank has the gradient of the whole batch when the
        ranks' gradients are added up.
        """
        if self.whole is None or ranks.world() == 1:
            return features
        found = features.new_zeros(self.total, *features.shape[1:])
        found[self.whole.own] = features.detach()
        found = ranks.add_(found)
        others = found[: self.whole.first], found[self.whole.own.stop :]
        return torch.cat([others[0], features, others[1]])


Losses = dict[str, Tensor]
"""Metrics of a batch by name; "loss" is the one that is learned from."""


class Objective(nn.Module):
    """A way to teach a trunk.

    Attributes:
        name: as on the command line.
        needs_labels: whether it reads labels.
        needs_everyone: whether it reads the pictures of other ranks' parts of a batch.
        across: whether its measures are of the batch of all ranks (`Batch.gathered`); else they are
            means over the pictures given.
        views: how many augmented versions of a picture a batch holds.
        augmented: whether pictures are augmented at all.
        follows: whether the second pictures are the positions that come next.
        judged_by_loss: whether its loss chooses the best checkpoint; else its accuracy, or bound,
            where it has one.
    """

    name = ""
    needs_labels = False
    needs_everyone = False
    across = False
    views = 1
    augmented = True
    follows = False
    judged_by_loss = False

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        # A list hides the trunk from `parameters`: its weights are not the objective's.
        self._trunk = [trunk]

    @property
    def trunk(self) -> Trunk:
        """What is taught."""
        return self._trunk[0]

    def taught_by(self) -> dict[str, Any] | None:
        """What names the checkpoint of a teacher that answers, as plain data; None without one."""
        return None

    def learn_from(self, noted: Mapping[str, Any] | None) -> None:
        """Goes on with the teacher that `taught_by` has named in a run that is resumed.

        Args:
            noted: what it returned; None of a version that did not note it.

        Raises:
            ConfigError: that checkpoint is gone, or is another one.
        """

    def partners(self, data: Dataset, rows: Rows, rng: np.random.Generator | None) -> Rows:
        """The rows whose pictures are the second views of these, of two views: themselves."""
        return rows

    @abstractmethod
    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """The loss and other measures of a batch, scalars.

        Args:
            batch: what to learn from.
            generator: of the processor, for everything random; alike on all ranks.
        """


def decoder(channels: int, start: tuple[int, int], shape: tuple[int, int, int]) -> nn.Module:
    """Features by place `[N, channels, h, w]` back to logits of a picture `[N, C, H, W]`."""
    layers: list[nn.Module] = []
    (height, width), (planes, rows, columns) = start, shape
    while height < rows or width < columns:
        height, width = min(2 * height, rows), min(2 * width, columns)
        narrower = max(32, channels // 2)
        layers += [
            nn.Upsample(size=(height, width), mode="nearest"),
            nn.Conv2d(channels, narrower, 3, padding=1),
            nn.ReLU(),
        ]
        channels = narrower
    if not layers:
        layers = [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(channels, planes, 3, padding=1))


def rectangles(
    shape: tuple[int, int, int],
    count: int,
    patch: int,
    share: float,
    generator: torch.Generator,
    *,
    flags: str = "--mask or --patch",
) -> Tensor:
    """Bool [count, 1, H, W]: a share of the patches of each picture, those to hide.

    Args:
        shape: `(C, H, W)` of a picture.
        count: of pictures.
        patch: side of a patch in pixels.
        share: of the patches, above 0 and below 1.
        generator: draws which.
        flags: what a person can change, for the error.

    Raises:
        ConfigError: the share hides nothing or all.
    """
    _, height, width = shape
    rows, columns = -(-height // patch), -(-width // patch)
    hidden = round(share * rows * columns)
    if not 0 < hidden < rows * columns:
        raise ConfigError(
            f"hiding {share:g} of {rows * columns} patches of {patch} x {patch} leaves nothing to "
            f"learn; change {flags}"
        )
    order = torch.rand(count, rows * columns, generator=generator).argsort(dim=1)
    mask = (order < hidden).view(count, 1, rows, columns).float()
    big = functional.interpolate(mask, scale_factor=patch, mode="nearest")
    return big[:, :, :height, :width] > 0.5
