"""Muon: momentum whose steps are made orthogonal, for the matrices and convolutions of a network.

The update of a weight matrix is replaced by the nearest matrix with orthonormal rows (or columns),
found by a few Newton-Schulz iterations (Jordan et al. 2024), so that no direction of the gradient
drowns the others. For small convolutional networks it needs fewer steps than Adam does; vectors
(biases, normalisation) stay with AdamW. Left out: distributed variants.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from playout.agents.optim.flat import FlatParameters
from torch import Tensor, nn

# A quintic whose iterates drive singular values towards 1 fast, not exactly: 0.7 to 1.2 is enough.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
RMS = 0.2  # makes learning rates mean about what they mean for Adam


def orthogonal(matrices: Tensor, *, iterations: int = 5) -> Tensor:
    """Matrices [N, R, C] with nearly the same singular vectors and singular values near 1.

    Every iterate is a polynomial of the first one's products of rows, times that first one: so the
    iteration runs on the small square matrices, in less than half of the multiplications.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    gram = torch.bmm(x, x.mT)
    factor = None
    for left in range(iterations - 1, -1, -1):
        step = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        step.diagonal(dim1=1, dim2=2).add_(a)
        factor = step if factor is None else torch.bmm(step, factor)
        if left:
            gram = torch.bmm(torch.bmm(step, gram), step)
    if factor is not None:
        x = torch.bmm(factor, x)
    return x.mT if tall else x


class Muon(FlatParameters):
    """Orthogonalised momentum with Nesterov's look ahead and decoupled weight decay.

    Parameters and gradients are in flat tensors (flat.py), those of one shape side by side, so that
    all of a shape are made orthogonal at once.

    Args:
        parameters: weights of two or more dimensions; all but the first are flattened together.
        lr: length of a step; the change of a weight is about `lr` in root mean square.
        momentum: decay of the running gradient.
        weight_decay: decoupled, times `lr`.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        by_shape: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
        for parameter in parameters:
            rows = parameter.shape[0]
            by_shape[rows, parameter.numel() // rows].append(parameter)
        super().__init__([one for group in by_shape.values() for one in group])
        self._shapes = [(len(group), *shape) for shape, group in by_shape.items()]
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.average = torch.zeros_like(self.flat)

    @torch.no_grad()
    def apply(self) -> None:
        """One step with the gradients at hand, as they are."""
        self._begin()
        self.average.lerp_(self.grad, 1 - self.momentum)
        ahead = self.grad.lerp(self.average, self.momentum)
        self.flat.mul_(1 - self.lr * self.weight_decay)
        begin = 0
        for shape in self._shapes:
            count, rows, columns = shape
            part = slice(begin, begin := begin + count * rows * columns)
            update = orthogonal(ahead[part].view(shape))
            # An orthogonal [R, C] has entries of 1 / sqrt(max(R, C)) in root mean square.
            scale = max(rows, columns) ** 0.5
            self.flat[part].view(shape).add_(update, alpha=-self.lr * scale * RMS)
        self._end()

    def state_dict(self) -> dict[str, Any]:
        """The running gradient; the parameters belong to the network's own state."""
        return {"average": self.average.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from what `state_dict` gave."""
        self.average.copy_(state["average"])
