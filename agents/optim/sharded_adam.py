"""Adam of parameters that lie cut over ranks (FSDP2): every rank moves its own rows.

A step is DeviceAdam's on the rows at hand; only the norm of the gradient is a sum over ranks. A
parameter too small to be cut may lie whole on every rank, which has a part of its gradient. What is
saved is the state of the whole, the same that the other Adams keep, so that a run goes on with any
number of ranks, cut or not. Cutting and gathering while a model computes is torch's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from playout.agents.optim.device_adam import DeviceAdam
from playout.agents.optim.flat import add_together, joined, views
from playout.agents.runs import ranks
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

__all__ = ["ShardedAdam", "held_rows", "is_cut", "own_rows", "whole"]


def is_cut(tensor: Tensor) -> bool:
    """Whether a tensor lies cut over ranks."""
    return hasattr(tensor, "full_tensor")  # the type itself would import torch.distributed


def held_rows(tensor: Tensor) -> Tensor:
    """The rows of a cut tensor that lie here, in the same memory; of another one, all."""
    plain = tensor.detach()
    return cast("DTensor", plain).to_local() if is_cut(tensor) else plain


def own_rows(full: Tensor, like: Tensor) -> Tensor:
    """Of a whole tensor the rows that this rank holds of the cut one `like`; else all of it."""
    if not is_cut(like):
        return full
    each = -(-full.shape[0] // ranks.world())
    start = min(ranks.rank() * each, full.shape[0])
    return full[start : start + held_rows(like).shape[0]]


def whole(tensor: Tensor, rows: Tensor | None = None) -> Tensor:
    """A cut tensor gathered, or what every rank holds in `rows` beside it; all ranks call it.

    Of a tensor that is not cut it is that, or `rows`, as they are.
    """
    if not is_cut(tensor):
        return tensor.detach() if rows is None else rows
    from torch.distributed.tensor import DTensor

    cut = cast("DTensor", tensor.detach())
    if rows is not None:
        cut = DTensor.from_local(
            rows, cut.device_mesh, cut.placements, shape=cut.shape, stride=cut.stride()
        )
    return cut.full_tensor()


class ShardedAdam(DeviceAdam):
    """DeviceAdam whose parameters, of one type on one device, are cut, or whole on every rank.

    What is `learned` are these, `parameters` the rows of them that lie here.
    """

    def _held(self, learned: list[nn.Parameter]) -> list[nn.Parameter]:
        return [nn.Parameter(held_rows(parameter)) for parameter in learned]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        super().zero_grad()
        for parameter in self.learned:
            parameter.grad = None

    def sum_over_ranks(self, also: Sequence[Tensor] = ()) -> None:
        """Replace tensors by their sums over all ranks; gradients of what is cut come as such."""
        plain = [p.grad for p in self.learned if p.grad is not None and not is_cut(p)]
        add_together([*plain, *also])

    @torch.no_grad()
    def advance(self, max_grad_norm: float = math.inf, *, skip: Tensor | None = None) -> Tensor:
        """As `DeviceAdam.advance`; all ranks call it."""
        for parameter, here in zip(self.learned, self.parameters, strict=True):
            grad = parameter.grad
            # FSDP2 leaves means over ranks, and a rank of few rows with none of them.
            here.grad = None if grad is None or not here.numel() else held_rows(grad)
            if here.grad is not None and is_cut(parameter):
                here.grad.mul_(ranks.world())
        return super().advance(max_grad_norm, skip=skip)

    def _norm(self, grads: Sequence[Tensor]) -> Tensor:
        pairs = zip(self.learned, self.parameters, strict=True)
        owners = [parameter for parameter, here in pairs if here.grad is not None]
        squares = [  # what every rank has counts once
            grad.float().square().sum() / (1 if is_cut(owner) else ranks.world())
            for owner, grad in zip(owners, grads, strict=True)
        ]
        total = torch.stack(squares).sum() if squares else torch.zeros((), device=self.device)
        return ranks.add_(total).sqrt()

    def state_dict(self) -> dict[str, Any]:
        """The state of the whole on rank 0, on the processor; all ranks call it."""
        found = {name: self._gathered(getattr(self, name)) for name in ("exp_avg", "exp_avg_sq")}
        return {**found, "step_count": self.step_count, "lr": self.lr}

    def _gathered(self, moments: Sequence[Tensor]) -> Tensor:
        parts = []
        for parameter, moment in zip(self.learned, moments, strict=True):
            full = whole(parameter, moment)
            if ranks.is_first():
                parts.append(full.cpu())
        return joined(parts) if parts else torch.zeros(0)

    def _take(self, mine: Sequence[Tensor], found: Tensor) -> None:
        shapes = [torch.empty(parameter.shape, device="meta") for parameter in self.learned]
        for tensor, (_, part), parameter in zip(
            mine, views(found, shapes), self.learned, strict=True
        ):
            tensor.copy_(own_rows(part, parameter))
