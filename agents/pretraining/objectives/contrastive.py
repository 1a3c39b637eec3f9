"""Two views of a picture should be alike: with other pictures as negatives, or without them.

InfoNCE as SimCLR has it (Chen et al. 2020): each view finds its partner among all others of the
batch. VICReg (Bardes et al. 2022) needs no negatives: partners are alike, every feature varies over
the batch, and no two say the same. A small projection stands between trunk and loss. The partner
may be a neighbour instead (Damrich et al. 2023): features then keep what lies near together.
"""

from __future__ import annotations

import numpy as np
import torch
from playout.agents.pretraining.data.dataset import Dataset, Rows
from playout.agents.pretraining.data.neighbours import nearest
from playout.agents.pretraining.objectives.objective import Batch, Losses, Objective, rectangles
from playout.agents.pretraining.trunk import Trunk
from playout.errors import ConfigError, DataError
from torch import Tensor, nn
from torch.nn import functional

KINDS = ("infonce", "vicreg")
PARTNERS = ("itself", "neighbour")


def info_nce(first: Tensor, second: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The loss of N pairs of vectors [N, D], and the share that finds its partner at once."""
    both = functional.normalize(torch.cat([first, second]), dim=1)
    similar = both @ both.T / temperature
    similar.fill_diagonal_(float("-inf"))
    count = len(first)
    partner = torch.arange(2 * count, device=both.device).roll(count)
    right = (similar.argmax(1) == partner).float().mean()
    return functional.cross_entropy(similar, partner), right


def vicreg(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of N pairs [N, D] with the paper's weights 25, 25, 1, and the mean deviation."""
    alike = functional.mse_loss(first, second)
    spread = covariance = first.new_zeros(())
    for view in (first, second):
        centred = view - view.mean(0)
        deviation = (centred.square().mean(0) + 1e-4).sqrt()
        spread = spread + functional.relu(1 - deviation).mean() / 2
        matrix = centred.T @ centred / max(1, len(view) - 1)
        off = matrix.square().sum() - matrix.diagonal().square().sum()
        covariance = covariance + off / view.shape[1]
    deviation = first.std(0).mean()
    return 25 * alike + 25 * spread + covariance, deviation


class Contrastive(Objective):
    """Two views of each picture, a part of each view hidden.

    Args:
        trunk: what is taught.
        kind: "infonce" or "vicreg".
        temperature: of InfoNCE.
        hide: share of the patches of a view that is hidden, besides the data's own augmentation; a
            board has little else.
        projection: width of the projection.
        partner: "itself", or "neighbour" for one of the nearest others (data/neighbours.py).
    """

    name = "contrastive"
    views = 2
    across = True

    def __init__(
        self,
        trunk: Trunk,
        *,
        kind: str = "infonce",
        temperature: float = 0.5,
        hide: float = 0.25,
        projection: int = 128,
        partner: str = "itself",
    ) -> None:
        super().__init__(trunk)
        if kind not in KINDS:
            raise ConfigError(f"unknown contrastive loss {kind!r}; known are {', '.join(KINDS)}")
        if partner not in PARTNERS:
            known = ", ".join(PARTNERS)
            raise ConfigError(f"unknown partner {partner!r} of a view; known are {known}")
        if temperature <= 0 or projection < 1 or not 0 <= hide < 1:
            raise ConfigError("temperature and projection are positive, hide is from 0 to below 1")
        self.kind, self.temperature, self.hide = kind, temperature, hide
        self.partner = partner
        self._nearest: list[tuple[Dataset, Rows]] = []
        self.patch = 1 if trunk.network == "resnet" else max(1, min(trunk.shape[1:]) // 7)
        width = trunk.num_features
        self.project = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection)
        )

    def partners(self, data: Dataset, rows: Rows, rng: np.random.Generator | None) -> Rows:
        """Themselves, or a neighbour each; these are found when data are first seen."""
        if self.partner == "itself" or rng is None or len(data) < 2:
            return rows
        found = next((near for one, near in self._nearest if one is data), None)
        if found is None:
            found = nearest(data)
            self._nearest.append((data, found))
        return found[rows, rng.integers(found.shape[1], size=len(rows))]

    def _view(self, images: Tensor, batch: Batch, generator: torch.Generator) -> Tensor:
        """Vectors of all pictures of the batch, `[T, D]`."""
        if self.hide:
            shape = self.trunk.shape
            hidden = rectangles(
                shape, batch.total, self.patch, self.hide, generator, flags="--hide"
            )
            hidden = batch.own(hidden)
            images = images.masked_fill(hidden.to(images.device), 0.0)
        return batch.gathered(self.project(self.trunk.vector(images)).float())

    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """The loss, and how well partners find each other (or how much features vary)."""
        if batch.second is None or batch.total < 2:
            raise DataError("a contrastive batch needs two rows at least, with two views each")
        first = self._view(batch.images, batch, generator)
        second = self._view(batch.second, batch, generator)
        with torch.autocast(first.device.type, enabled=False):  # of products of features as well
            if self.kind == "vicreg":
                loss, deviation = vicreg(first, second)
                return {"loss": loss, "deviation": deviation.detach()}
            loss, right = info_nce(first, second, self.temperature)
        return {"loss": loss, "accuracy": right}
