"""Pruning: the smallest weights are set to zero and stay there while the others learn on.

By magnitude over each matrix (Han et al. 2015), or two of every four neighbours (the pattern that
some cards multiply twice as fast, Mishra et al. 2021). Masks follow from the weights that training
begins with, so that a resumed run has the same ones. Left out: removing whole channels, which makes
another network (networks/boards/smaller/narrowed.py).
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from playout.agents.pretraining.config import CHANNELS
from playout.errors import ConfigError
from torch import Tensor, nn

PATTERNS = ("unstructured", "2:4")


def make_mask(weight: Tensor, share: float, pattern: str) -> Tensor:
    """Bool of the weight's shape: what is kept.

    Args:
        weight: of two or more dimensions.
        share: of weights that become zero; of "2:4" one half.
        pattern: "unstructured" or "2:4".
    """
    if pattern == "2:4":
        rows = weight.detach().abs().flatten(1)
        short = -rows.shape[1] % 4
        fours = nn.functional.pad(rows, (0, short)).unflatten(1, (-1, 4))
        order = fours.argsort(dim=2, descending=True, stable=True)
        kept = torch.zeros_like(fours, dtype=torch.bool).scatter_(2, order[:, :, :2], value=True)
        return kept.flatten(1)[:, : rows.shape[1]].view_as(weight)
    flat = weight.detach().abs().flatten()
    lost = round(share * flat.numel())
    mask = torch.ones_like(flat, dtype=torch.bool)
    mask[flat.argsort(stable=True)[:lost]] = False
    return mask.view_as(weight)


class Pruning:
    """Masks over the convolutions and matrices of a network.

    Args:
        net: is pruned at once, in place.
        share: of the weights of each layer that become zero, above 0 and below 1.
        pattern: see `make_mask`.
        skip: names of parameters that are left alone.

    Raises:
        ConfigError: an unknown pattern, or a share that leaves nothing of a layer, or all of all.
    """

    def __init__(
        self, net: nn.Module, share: float, pattern: str, *, skip: Collection[str] = ()
    ) -> None:
        if pattern not in PATTERNS:
            known = ", ".join((*PATTERNS, CHANNELS))
            raise ConfigError(f"unknown pattern {pattern!r}; known are {known}")
        if not 0 < share < 1 or (pattern == "2:4" and share != 0.5):
            raise ConfigError(
                f"--sparsity {share:g}: choose above 0 and below 1, and 0.5 for the pattern 2:4"
            )
        left = {*getattr(net, "undecayed", ()), *skip}
        named = [(n, p) for n, p in net.named_parameters() if p.ndim > 1 and n not in left]
        self.parts = [(p, make_mask(p, share, pattern)) for _, p in named]
        for (name, _), (_, mask) in zip(named, self.parts, strict=True):
            if not mask.any():
                raise ConfigError(
                    f"--sparsity {share:g} leaves none of the {mask.numel():,} weights of {name}: "
                    "choose less"
                )
        if all(mask.all() for _, mask in self.parts):
            raise ConfigError(f"--sparsity {share:g} sets no weight to zero: choose more")
        self.apply()

    @torch.no_grad()
    def apply(self) -> None:
        """Sets to zero again what a step has changed."""
        for parameter, mask in self.parts:
            parameter.mul_(mask)

    def again(self) -> None:
        """Takes what is zero now, in weights from a checkpoint, for what was pruned."""
        self.parts = [(p, p.detach() != 0) for p, _ in self.parts]

    @property
    def share(self) -> float:
        """Of all masked weights that are zero."""
        lost = sum(int((~mask).sum()) for _, mask in self.parts)
        return lost / sum(mask.numel() for _, mask in self.parts)
