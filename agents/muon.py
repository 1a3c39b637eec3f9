"""Muon: momentum whose steps are made orthogonal, for the matrices and convolutions of a network.

The update of a weight matrix is replaced by the nearest matrix with orthonormal rows (or columns),
found by a few Newton-Schulz iterations (Jordan et al. 2024), so that no direction of the gradient
drowns the others. For small convolutional networks it needs fewer steps than Adam does; vectors
(biases, normalisation) stay with AdamW. Left out: distributed variants.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# A quintic whose iterates drive singular values towards 1 fast, not exactly: 0.7 to 1.2 is enough.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonal(matrix: Tensor, *, iterations: int = 5) -> Tensor:
    """A matrix [R, C] with nearly the same singular vectors and singular values near 1.

    Every iterate is a polynomial of the first one's products of rows, times that first one: so the
    iteration runs on the small square matrix, in less than half of the multiplications.
    """
    a, b, c = COEFFICIENTS
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    gram = x @ x.T
    factor = None
    for left in range(iterations - 1, -1, -1):
        step = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        step.diagonal().add_(a)
        factor = step if factor is None else step @ factor
        if left:
            gram = step @ gram @ step
    if factor is not None:
        x = factor @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum with Nesterov's look ahead and decoupled weight decay.

    Args:
        params: weights of two or more dimensions; all but the first are flattened together.
        lr: length of a step; the change of a weight is about `lr` in root mean square.
        momentum: decay of the running gradient.
        weight_decay: decoupled, times `lr`.
    """

    def __init__(
        self, params: Iterable[Any], *, lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step with the gradients at hand."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                average = state["momentum"]
                average.lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(average, group["momentum"])
                matrix = ahead.flatten(1)
                update = orthogonal(matrix)
                # An orthogonal [R, C] has entries of 1 / sqrt(max(R, C)) in root mean square.
                scale = max(matrix.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.view_as(ahead), alpha=-group["lr"] * scale * RMS)


RMS = 0.2  # makes learning rates mean about what they mean for Adam
