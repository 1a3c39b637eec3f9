"""Learning from labels: classes of pictures, outcomes and moves of positions.

A board learns what self-play would teach it, by the very heads that play: the moves by cross
entropy, the outcome as an expected score. Pictures get a linear head; mixup (Zhang et al. 2018)
blends pairs of pictures and their labels. `LOSSES` are of classes and of outcomes alike. Left out:
where labels come from (data/).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from playout.agents.pretraining.objectives.objective import Batch, Losses, Objective
from playout.agents.pretraining.trunk import BOARDS, Trunk
from playout.errors import ConfigError
from torch import Tensor, nn
from torch.nn import functional

FOCUS = 2.0
"""Of the focal loss: how little is learned from what is told well already (the paper's gamma)."""

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": lambda logs, wanted: -wanted * logs,
    "mse": lambda logs, wanted: (logs.exp() - wanted).square(),
    "mae": lambda logs, wanted: (logs.exp() - wanted).abs(),
    "focal": lambda logs, wanted: -wanted * (1 - logs.exp()) ** FOCUS * logs,
}
"""Name -> terms [N, K], added up, of log-probabilities and of the label as probabilities, [N, K].

mae bears wrong labels (Ghosh et al. 2017), focal is for rare classes (Lin et al. 2017)."""

DISTANCES = ("mse", "mae")
"""Of LOSSES those with a term for every class; the others have terms of the labelled ones alone."""


def _check_loss(name: str) -> None:
    if name not in LOSSES:
        raise ConfigError(f"unknown loss {name!r}; known are {', '.join(LOSSES)}")


def _check_smoothing(share: float) -> None:
    if not 0 <= share < 1:
        raise ConfigError(f"label smoothing is from 0 to below 1, not {share}")


class Classes(Objective):
    """Classes of pictures.

    Args:
        trunk: what is taught.
        num_classes: K.
        loss: a name of LOSSES.
        label_smoothing: share of a label spread over all classes.
        class_weights: float32 [K], each picture's loss is weighed by that of its class; None weighs
            all the same.
        mixup: parameter of the Beta distribution of mixing; 0 leaves it out.
        dropout: before the head.
    """

    name = "supervised"
    needs_labels = True

    def __init__(
        self,
        trunk: Trunk,
        num_classes: int,
        *,
        loss: str = "cross_entropy",
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
        mixup: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(trunk)
        _check_loss(loss)
        _check_smoothing(label_smoothing)
        if mixup < 0 or not 0 <= dropout < 1:
            raise ConfigError("dropout is from 0 to below 1, mixup not below 0")
        self.loss, self.smoothing, self.mixup = loss, label_smoothing, mixup
        # Named as it has long been saved; what is dropped is drawn in `losses`.
        self.head = nn.Sequential(nn.Identity(), nn.Linear(trunk.num_features, num_classes))
        self.num_classes, self.dropout = num_classes, dropout
        self.needs_everyone = mixup > 0
        self.register_buffer("weights", class_weights, persistent=False)

    def logits(
        self, images: Tensor, batch: Batch | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """`[N, C, H, W]` to `[N, K]`, in training with dropout by the generator."""
        found = self.trunk.vector(images)
        if self.dropout and self.training and batch is not None:
            drawn = torch.rand(batch.total, found.shape[1], generator=generator)
            kept = (batch.own(drawn) >= self.dropout).to(found.device)
            found = found * kept / (1 - self.dropout)
        return self.head(found).float()  # type: ignore[no-any-return]

    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Cross entropy (or squared error) and accuracy on the batch."""
        images, wanted = batch.images, functional.one_hot(batch.labels, self.num_classes).float()
        if self.mixup and self.training:
            device = images.device
            others, labels = batch.everyone or (images, batch.labels)
            share = batch.own(_beta(self.mixup, batch.total, generator)).to(device)
            order = batch.own(torch.randperm(batch.total, generator=generator)).to(device)
            other = functional.one_hot(labels[order], self.num_classes).float()
            images = torch.lerp(others[order], images, share[:, None, None, None])
            wanted = torch.lerp(other, wanted, share[:, None])
        logits = self.logits(images, batch, generator)
        right = (logits.argmax(1) == batch.labels).float().mean()
        weights = self.weights
        if isinstance(weights, Tensor) and self.loss in DISTANCES:
            # Of a distance the terms of the other classes are this picture's as well.
            weights = (wanted * weights).sum(1, keepdim=True)
        if self.smoothing:
            wanted = wanted * (1 - self.smoothing) + self.smoothing / self.num_classes
        each = LOSSES[self.loss](functional.log_softmax(logits, dim=1), wanted)
        if isinstance(weights, Tensor):
            each = each * weights
        return {"loss": each.sum(1).mean(), "accuracy": right}


def _beta(alpha: float, count: int, generator: torch.Generator) -> Tensor:
    """float32 [count] from Beta(alpha, alpha).

    Up to 1 by pairs of powers of uniforms (Jöhnk 1964), of which hardly any would be taken above;
    there by two gamma variates.
    """
    if alpha > 1:
        x, y = _gamma(alpha, 2 * count, generator).view(2, count)
        return (x / (x + y)).float()
    found = torch.full((count,), 0.5)
    missing = torch.ones(count, dtype=torch.bool)
    for _ in range(200):
        u = torch.rand(2, count, generator=generator, dtype=torch.float64)
        x, y = u ** (1 / alpha)
        good = missing & (x + y <= 1) & (x + y > 0)
        found = torch.where(good, (x / (x + y)).float(), found)
        missing &= ~good
        if not missing.any():
            break
    return found


def _gamma(alpha: float, count: int, generator: torch.Generator) -> Tensor:
    """float64 [count] from Gamma(alpha, 1), alpha at least 1, by Marsaglia and Tsang 2000.

    A variate is a cube of a shifted normal one, taken in more than 19 of 20 cases.
    """
    d = alpha - 1 / 3
    found = torch.zeros(0, dtype=torch.float64)
    while len(found) < count:
        x = torch.randn(count, generator=generator, dtype=torch.float64)
        u = torch.rand(count, generator=generator, dtype=torch.float64)
        cube = (1 + x / math.sqrt(9 * d)) ** 3
        good = (cube > 0) & (u.log() < x.square() / 2 + d * (1 - cube + cube.log()))
        found = torch.cat([found, d * cube[good]])
    return found[:count]


class Outcomes(Objective):
    """Outcomes and moves of positions, by the heads of the board network itself.

    Args:
        trunk: of a board network.
        value_weight: of the outcome's loss beside that of moves.
        loss: a name of LOSSES, of the outcome, as the chances to win and to lose that halve a draw;
            moves are always learned by cross entropy.
        label_smoothing: share of a policy spread over all moves, and of a score made a draw's.
        class_weights: float32 [3], of the outcomes' losses; None weighs all the same.
        draws: whether draws are among the labels; without, a score above 1/2 counts as a win.
    """

    name = "supervised"
    needs_labels = True
    judged_by_loss = True

    def __init__(
        self,
        trunk: Trunk,
        *,
        value_weight: float = 1.0,
        loss: str = "cross_entropy",
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
        draws: bool = True,
    ) -> None:
        super().__init__(trunk)
        _check_loss(loss)
        _check_smoothing(label_smoothing)
        self.loss, self.smoothing, self.draws = loss, label_smoothing, draws
        if not isinstance(trunk.net, BOARDS):
            raise ConfigError("positions are learned by a board network")
        self.value_weight = value_weight
        self.register_buffer("weights", class_weights, persistent=False)

    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Losses of moves and of the expected score; shares of right moves and outcomes."""
        net, weights = self.trunk.net, self.weights
        assert isinstance(net, BOARDS)
        logits, value_logits = net.heads(batch.images)
        logits, value_logits = logits.float(), value_logits.float()[:, 0]
        score = batch.labels.float() / 2 * (1 - self.smoothing) + self.smoothing / 2
        logs = functional.logsigmoid(torch.stack([value_logits, -value_logits], dim=1))
        each = LOSSES[self.loss](logs, torch.stack([score, 1 - score], dim=1)).sum(1)
        if isinstance(weights, Tensor):
            each = each * weights[batch.labels]
        value_loss = each.mean()
        guess = torch.sigmoid(value_logits)
        # The nearest of loss (0), draw (1/2) and win (1).
        nearest = (guess * 2).round() if self.draws else 2.0 * (guess > 0.5)
        right = (nearest == batch.labels).float().mean()
        found = {"loss": self.value_weight * value_loss, "accuracy": right}
        if batch.policy is not None:
            wanted = batch.policy * (1 - self.smoothing) + self.smoothing / logits.shape[1]
            policy_loss = -(wanted * functional.log_softmax(logits, 1)).sum(1).mean()
            kept = batch.policy.gather(1, logits.argmax(1, keepdim=True)) > 0
            found["moves_kept"] = kept.float().mean()
            found["loss"] = found["loss"] + policy_loss
        return found
