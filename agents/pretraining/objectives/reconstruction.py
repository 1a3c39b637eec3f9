"""Learning to draw the input again: autoencoder, variational autoencoder, masked patches.

The autoencoder squeezes a picture through a few numbers; the variational one (Kingma and Welling
2014) makes them a distribution and reports the evidence lower bound in nats a picture; the masked
one (He et al. 2022) sees a part and draws what is hidden. Pictures are Bernoulli means, as planes
of boards are.
"""

from __future__ import annotations

import torch
from playout.agents.pretraining.objectives.objective import (
    Batch,
    Losses,
    Objective,
    decoder,
    rectangles,
)
from playout.agents.pretraining.trunk import Trunk
from playout.errors import ConfigError
from torch import Tensor, nn
from torch.nn import functional

RECONSTRUCTING = ("autoencoder", "vae", "masked")
"""Objectives that draw their own input again."""


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL of diagonal normals [N, D] to the standard one, in nats: float [N]."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


class Autoencoder(Objective):
    """A picture through `latent` numbers and back."""

    name = "autoencoder"

    def __init__(self, trunk: Trunk, *, latent: int = 64) -> None:
        super().__init__(trunk)
        if latent < 1:
            raise ConfigError(f"the latent needs at least one number, not {latent}")
        features, height, width = trunk.map_shape
        self.latent, self.start = latent, (features, height, width)
        self.squeeze = nn.Linear(trunk.num_features, self._outputs())
        self.spread = nn.Linear(latent, features * height * width)
        self.draw = decoder(features, (height, width), trunk.shape)

    def _outputs(self) -> int:
        return self.latent

    def decode(self, z: Tensor) -> Tensor:
        """`[N, latent]` to logits of pictures `[N, C, H, W]`."""
        x = functional.relu(self.spread(z)).view(-1, *self.start)
        return self.draw(x).float()  # type: ignore[no-any-return]

    def encode(self, images: Tensor) -> Tensor:
        """`[N, C, H, W]` to `[N, latent]`."""
        return self.squeeze(self.trunk.vector(images)).float()  # type: ignore[no-any-return]

    def reconstruct(self, images: Tensor) -> Tensor:
        """Pictures as they come out again, [N, C, H, W] in [0, 1]."""
        return self.decode(self.encode(images)).sigmoid()

    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Cross entropy a pixel, and the mean squared error."""
        logits = self.decode(self.encode(batch.images))
        loss = functional.binary_cross_entropy_with_logits(logits, batch.images)
        error = (logits.detach().sigmoid() - batch.images).square().mean()
        return {"loss": loss, "squared_error": error}


class VariationalAutoencoder(Autoencoder):
    """The same with a normal distribution in place of the numbers.

    Args:
        trunk: what is taught.
        latent: dimensions of it.
        beta: weight of the KL (Higgins et al. 2017); 1 is the bound itself.
    """

    name = "vae"
    # The bound is of pictures as they are.
    augmented = False

    def __init__(self, trunk: Trunk, *, latent: int = 32, beta: float = 1.0) -> None:
        super().__init__(trunk, latent=latent)
        if beta < 0:
            raise ConfigError(f"beta must not be negative, not {beta}")
        self.beta = beta

    def _outputs(self) -> int:
        return 2 * self.latent

    def encode(self, images: Tensor) -> Tensor:
        """The means, `[N, latent]`."""
        return self.posterior(images)[0]

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of variances, `[N, latent]` each."""
        both = self.squeeze(self.trunk.vector(images)).float()
        mean, log_variance = both.chunk(2, dim=1)
        return mean, log_variance.clamp(-12, 6)

    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """The negative bound a picture, its two parts, all in nats."""
        mean, log_variance = self.posterior(batch.images)
        drawn = torch.randn(batch.total, *mean.shape[1:], generator=generator)
        noise = batch.own(drawn).to(mean.device)
        logits = self.decode(mean + (0.5 * log_variance).exp() * noise)
        each = functional.binary_cross_entropy_with_logits(logits, batch.images, reduction="none")
        nats, kl = each.flatten(1).sum(1).mean(), gaussian_kl(mean, log_variance).mean()
        # A pixel's share, so that the learning rate means what it means for the others.
        loss = (nats + self.beta * kl) / batch.images[0].numel()
        return {"loss": loss, "elbo": -(nats + kl).detach(), "kl": kl.detach()}

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """New pictures [count, C, H, W] in [0, 1]."""
        device = self.spread.weight.device
        z = torch.randn(count, self.latent, generator=generator).to(device)
        return self.decode(z).sigmoid()

    @torch.no_grad()
    def interpolate(self, first: Tensor, last: Tensor, steps: int) -> Tensor:
        """Pictures on the way between two, [steps, C, H, W] in [0, 1]."""
        a, b = self.encode(torch.stack([first, last]))
        share = torch.linspace(0, 1, steps, device=a.device)[:, None]
        return self.decode(torch.lerp(a[None], b[None], share)).sigmoid()


class Masked(Objective):
    """Hidden patches (cells of a board) are drawn from what is left.

    Args:
        trunk: what is taught.
        mask: share of the patches that is hidden.
        patch: side of a patch, in pixels or cells; 0: a seventh of a picture, one cell of a board.
    """

    name = "masked"

    def __init__(self, trunk: Trunk, *, mask: float = 0.5, patch: int = 0) -> None:
        super().__init__(trunk)
        if not 0 < mask < 1 or patch < 0:
            raise ConfigError("mask must be between 0 and 1 and patch not negative")
        features, height, width = trunk.map_shape
        board = trunk.network == "resnet"
        self.mask = mask
        self.patch = patch or (1 if board else max(1, min(trunk.shape[1:]) // 7))
        self.draw = decoder(features, (height, width), trunk.shape)

    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Cross entropy a hidden pixel, and their mean squared error."""
        everything = rectangles(self.trunk.shape, batch.total, self.patch, self.mask, generator)
        hidden = batch.own(everything).to(batch.images.device)
        logits = self.draw(self.trunk.map(batch.images.masked_fill(hidden, 0.0))).float()
        each = functional.binary_cross_entropy_with_logits(logits, batch.images, reduction="none")
        weights = hidden.expand_as(each).float()
        error = (logits.detach().sigmoid() - batch.images).square()
        total = weights.sum()
        if batch.whole is not None:  # the mean is over the hidden pixels of all ranks
            planes = batch.images.shape[1]
            total = everything.sum().to(total) * (planes * len(batch.images) / batch.total)
        return {
            "loss": (each * weights).sum() / total,
            "squared_error": (error * weights).sum() / total,
        }
