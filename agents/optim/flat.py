"""Parameters and gradients in one buffer each, so that an optimiser's step is a few operations.

On a processor and on a card they become views of the buffers. Elsewhere they are copied before and
after a step: a backend written in Python may keep its numbers where `.data =` does not reach. Here
ranks add their gradients up, in one message a step. Left out: the steps themselves (adam.py,
muon.py).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from playout.agents.runs import ranks
from playout.errors import CheckpointError
from torch import Tensor, nn


def holds_views(device: torch.device) -> bool:
    """Whether a parameter of the device can be made a view of a buffer."""
    return device.type in ("cpu", "cuda")


def views(flat: Tensor, tensors: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Each tensor with its part of a flat one, in its shape; their lengths add up in order."""
    offset = 0
    for tensor in tensors:
        end = offset + tensor.numel()
        yield tensor, flat[offset:end].view(tensor.shape)
        offset = end


def joined(tensors: Iterable[Tensor]) -> Tensor:
    """A copy of all of them, one after the other."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """Moves tensors of one type and device into one buffer, whose views they become, in order."""
    flat = joined(tensors)
    for tensor, view in views(flat, tensors):
        tensor.data = view
    return flat


def flat_gradients(flat: Tensor, parameters: Iterable[Tensor]) -> Tensor:
    """A buffer like `flat`, of zeros, whose views are the parameters' gradients from now on."""
    grad = torch.zeros_like(flat)
    for parameter, view in views(grad, parameters):
        parameter.grad = view
    return grad


def together(tensors: Sequence[Tensor]) -> list[Tensor]:
    """One buffer whose views they become where the device can, else the tensors themselves."""
    if tensors and holds_views(tensors[0].device):
        return [flatten(tensors)]
    return list(tensors)


@torch.no_grad()
def add_together(tensors: Sequence[Tensor]) -> None:
    """Replace tensors of one type and device by their sums over all ranks, in one message."""
    if ranks.world() == 1 or not tensors:
        return
    if len(tensors) == 1:
        ranks.add_(tensors[0])
        return
    for tensor, view in views(ranks.add_(joined(tensors)), tensors):
        tensor.copy_(view)


@torch.no_grad()
def take_first(state: Mapping[str, Any]) -> None:
    """Write the numbers of rank 0's state of a module into that of every rank.

    Random weights of one seed are alike only on machines that compute alike.
    """
    if ranks.world() == 1:
        return
    found = [x for x in state.values() if isinstance(x, Tensor) and x.is_floating_point()]
    if not ranks.is_first():
        for tensor in found:
            tensor.zero_()
    for dtype in sorted({x.dtype for x in found}, key=str):
        add_together([x for x in found if x.dtype == dtype])


def moments(state: Mapping[str, Any], size: int) -> Iterator[tuple[str, Tensor]]:
    """Names and values of the flat moments in a stored state of Adam, `[size]` each.

    Raises:
        CheckpointError: they are of another number of parameters, or not there.
    """
    for name in ("exp_avg", "exp_avg_sq"):
        found: Tensor | None = state.get(name)
        if found is None:
            raise CheckpointError("the checkpoint holds the state of another optimiser than adam")
        if found.shape != (size,):
            raise CheckpointError(
                f"the optimiser's {name} holds {found.numel()} numbers, the network has {size}"
            )
        yield name, found


class FlatParameters:
    """What an optimiser over one buffer stands on.

    Attributes:
        parameters: In the buffer's order.
        flat: All of them; on a device that holds no views, as they were after the latest step.
        grad: Their gradients; on such a device those of the latest `collect`.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        """The parameters are of one type on one device."""
        self.parameters = list(parameters)
        self._copied = not holds_views(self.parameters[0].device)
        if self._copied:
            self.flat = joined(self.parameters)
            self.grad = torch.zeros_like(self.flat)
        else:
            self.flat = flatten(self.parameters)
            self.grad = flat_gradients(self.flat, self.parameters)

    @property
    def weights(self) -> list[Tensor]:
        """All parameters in as few tensors as the device allows, for changes in place."""
        return list(self.parameters) if self._copied else [self.flat]

    def zero_grad(self) -> None:
        """Clear the gradients in place."""
        self.grad.zero_()
        if self._copied:
            for parameter in self.parameters:
                parameter.grad = None

    def collect(self) -> None:
        """Take gradients into `grad`, where they are not there anyway; call it before a step."""
        if self._copied and any(p.grad is not None for p in self.parameters):
            owned = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
            self.grad.copy_(joined(owned))
            for parameter in self.parameters:
                parameter.grad = None

    def _begin(self) -> None:
        """Before a step: others may have changed the parameters meanwhile."""
        if self._copied:
            self.flat.copy_(joined(self.parameters))

    def _end(self) -> None:
        """After a step: the parameters are what the buffer holds."""
        if self._copied:
            for parameter, view in views(self.flat, self.parameters):
                parameter.copy_(view)


def sum_gradients(optimizers: Sequence[FlatParameters]) -> None:
    """Collect the gradients of optimisers that step together; under ranks, of all ranks."""
    for optimizer in optimizers:
        optimizer.collect()
    add_together([optimizer.grad for optimizer in optimizers])
