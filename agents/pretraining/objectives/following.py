"""What comes next: the position after the next move of a game, drawn from the one before it.

The move is the recorded one where positions come from games, else a random legal one: then what
errs least shows every legal move with its share, so that a trunk has to know the rules.
Both positions are seen by the side that moves.
"""

from __future__ import annotations

import torch
from playout.agents.pretraining.objectives.objective import Batch, Losses, Objective, decoder
from playout.agents.pretraining.trunk import Trunk
from playout.errors import ConfigError
from torch.nn import functional


class Following(Objective):
    """Draws the planes of the next position."""

    name = "next"
    follows = True

    def __init__(self, trunk: Trunk) -> None:
        super().__init__(trunk)
        if trunk.network != "resnet":
            raise ConfigError("the objective next needs positions of a game, not pictures")
        features, height, width = trunk.map_shape
        self.draw = decoder(features, (height, width), trunk.shape)

    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Cross entropy a cell and plane; in each position what changes weighs as what stays.

        `moved` is the share of positions whose likeliest change is one that came.
        """
        assert batch.second is not None
        logits = self.draw(self.trunk.map(batch.images)).float()
        each = functional.binary_cross_entropy_with_logits(logits, batch.second, reduction="none")
        each = each.flatten(1)
        changed = ((batch.second - batch.images).abs() > 1e-6).to(each.dtype).flatten(1)
        parts = [
            (each * cells).sum(1) / cells.sum(1).clamp(min=1) for cells in (changed, 1 - changed)
        ]
        expected = (logits.detach().sigmoid() - batch.images).abs().flatten(1).argmax(1)
        came = changed.gather(1, expected[:, None])
        return {"loss": (parts[0] + parts[1]).mean() / 2, "moved": came.mean()}
