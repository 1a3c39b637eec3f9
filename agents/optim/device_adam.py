"""Adam on any device but the processor: no step waits for the device.

`make_adam` gives the Adam that suits the parameters' device; both keep the same state, so that a
run goes on anywhere. On a card a step is torch's fused kernel, elsewhere a few tensor operations a
parameter. What the processor's Adam raises is decided on the device here: a gradient that is not
finite changes nothing, and the norm that `advance` returns says so when it is read. Leaves out
parameter groups and sparse gradients.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from playout.agents.optim.adam import Adam, unique_parameters
from playout.agents.optim.flat import add_together, joined, moments, views
from playout.errors import DivergedError
from torch import Tensor, nn


class DeviceAdam:
    """Adam with one learning rate for all parameters, which stay where they lie.

    Attributes:
        lr: The learning rate; set it between steps to anneal.
        learned: The parameters as they were given, each once.
        parameters: What steps move of them.
        fused: Steps are one kernel over all parameters.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-5,
        weight_decay: float = 0.0,
    ) -> None:
        """The parameters are of one type on one device; shared ones count once."""
        self.learned = unique_parameters(parameters)
        self.parameters = self._held(self.learned)
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.device = self.parameters[0].device
        self.fused = self.device.type == "cuda"
        self.exp_avg = [torch.zeros_like(p.detach()) for p in self.parameters]
        self.exp_avg_sq = [torch.zeros_like(p.detach()) for p in self.parameters]
        self.steps = torch.zeros((), device=self.device)

    def _held(self, learned: list[nn.Parameter]) -> list[nn.Parameter]:
        """What of the parameters lies here; all of each."""
        return learned

    @property
    def step_count(self) -> int:
        """Steps taken; waits for the device."""
        return int(self.steps)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self, max_grad_norm: float = math.inf) -> float:
        """`advance`, and wait for its norm.

        Raises:
            DivergedError: The gradient is NaN or infinite; nothing was changed.
        """
        norm = float(self.advance(max_grad_norm))
        if not math.isfinite(norm):
            raise DivergedError(f"the gradient is not finite (norm {norm})")
        return norm

    def sum_over_ranks(self, also: Sequence[Tensor] = ()) -> None:
        """Replace the gradients, and tensors of their type, by their sums over all ranks."""
        for parameter in self.parameters:
            if parameter.grad is None:  # this rank had nothing to learn from
                parameter.grad = torch.zeros_like(parameter)
        add_together([p.grad for p in self.parameters if p.grad is not None] + list(also))

    @torch.no_grad()
    def advance(self, max_grad_norm: float = math.inf, *, skip: Tensor | None = None) -> Tensor:
        """Clip the gradient to `max_grad_norm` and take one step, without waiting.

        Args:
            max_grad_norm: Largest norm of the whole gradient.
            skip: bool `[]`: nothing is to change.

        Returns:
            The norm `[]` before clipping; where it is NaN or infinite, nothing has changed.
        """
        owners = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        params = [self.parameters[i] for i in owners]
        grads = [self.parameters[i].grad for i in owners]
        moments = [self.exp_avg[i] for i in owners], [self.exp_avg_sq[i] for i in owners]
        norm = self._norm([g for g in grads if g is not None])
        if not grads:
            return norm
        idle = ~norm.isfinite()
        if skip is not None:
            idle = idle | skip
        scale = (max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        self.steps += (~idle).float()
        if self.fused:
            self._fused_step(params, grads, moments, scale, idle)
        else:
            self._plain_step(params, grads, moments, scale, idle)
        return norm

    def _norm(self, grads: Sequence[Tensor]) -> Tensor:
        """The norm of the whole gradient, `[]`."""
        if not grads:
            return torch.zeros((), device=self.device)
        return torch.stack([grad.float().norm() for grad in grads]).norm()

    def _fused_step(
        self, params: Any, grads: Any, moments: Any, scale: Tensor, idle: Tensor
    ) -> None:
        maxima: list[Tensor] = []  # amsgrad's
        torch._foreach_mul_(grads, scale)
        torch._fused_adamw_(
            params,
            grads,
            moments[0],
            moments[1],
            maxima,
            [self.steps] * len(params),
            lr=self.lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=self.weight_decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
            found_inf=idle.float(),
        )

    def _plain_step(
        self, params: Any, grads: Any, moments: Any, scale: Tensor, idle: Tensor
    ) -> None:
        keep = (~idle).float()
        first, second = (1.0 - beta for beta in self.betas)
        taken = self.steps.clamp(min=1.0)
        bias, root = (-torch.expm1(taken * math.log(beta)) for beta in self.betas)
        size, root = keep * self.lr / bias, root.sqrt()
        for param, grad, mean, square in zip(params, grads, *moments, strict=True):
            found = (grad * scale).masked_fill(idle, 0.0)
            mean.mul_(1.0 - first * keep).add_(found * (first * keep))
            square.mul_(1.0 - second * keep).add_(found * found * (second * keep))
            param.mul_(1.0 - keep * (self.lr * self.weight_decay))
            param.sub_(mean / (square.sqrt() / root + self.eps) * size)

    def state_dict(self) -> dict[str, Any]:
        """As `Adam.state_dict`."""
        return {
            "exp_avg": joined(self.exp_avg),
            "exp_avg_sq": joined(self.exp_avg_sq),
            "step_count": self.step_count,
            "lr": self.lr,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the state of either Adam; the number of parameters must agree."""
        for name, found in moments(state, sum(p.numel() for p in self.learned)):
            self._take(getattr(self, name), found)
        self.steps.fill_(int(state["step_count"]))
        self.lr = float(state["lr"])

    def _take(self, mine: Sequence[Tensor], found: Tensor) -> None:
        """Copy flat moments, `[size]`, into those of each parameter."""
        for tensor, part in views(found.to(self.device), mine):
            tensor.copy_(part)


AnyAdam = Adam | DeviceAdam


def make_adam(
    parameters: Iterable[nn.Parameter],
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-5,
    weight_decay: float = 0.0,
) -> AnyAdam:
    """Our compiled Adam for parameters of the processor, DeviceAdam for those of a device."""
    found = unique_parameters(parameters)
    kind = Adam if found[0].device.type == "cpu" else DeviceAdam
    return kind(found, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
