"""Adam over one flat buffer, with gradient norm, clipping and NaN check built in.

Parameters and gradients are in flat tensors (flat.py), so a step is one compiled pass on the CPU,
torch's fused kernel on a card and about ten tensor operations elsewhere, whatever the number of
parameters. It replaces torch.optim in the small trainers because constructing a torch optimiser
imports 1.5 s of compiler.
Leaves out: sparse gradients, amsgrad, parameter groups.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from playout.agents.kernels._adam import adam_step, squared_norm
from playout.agents.kernels.processor import fuses_multiply_add
from playout.agents.optim.flat import FlatParameters, add_together, moments
from playout.errors import ConfigError, DivergedError
from torch import Tensor, nn


def unique_parameters(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Those that learn, each once.

    Raises:
        ConfigError: There is none, or they are of several types or on several devices.
    """
    found = list({id(p): p for p in parameters if p.requires_grad}.values())
    if not found:
        raise ConfigError("the policy has no parameters to learn")
    kinds = {(p.dtype, p.device) for p in found}
    if len(kinds) > 1:
        raise ConfigError(
            "an optimiser needs parameters of one type on one device, not "
            f"{sorted(map(str, kinds))}"
        )
    return found


class Adam(FlatParameters):
    """Adam with one learning rate for all parameters.

    Attributes:
        lr: The learning rate; set it between steps to anneal.
        step_count: Steps taken.
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
        """Move the parameters, of one type on one device, into one buffer; shared ones once."""
        super().__init__(unique_parameters(parameters))
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.step_count = 0
        self.exp_avg = torch.zeros_like(self.flat)
        self.exp_avg_sq = torch.zeros_like(self.flat)
        plain = self.flat.device.type == "cpu" and self.flat.dtype == torch.float32
        self._native = plain and fuses_multiply_add()
        if self._native:
            tensors = (self.flat, self.grad, self.exp_avg, self.exp_avg_sq)
            self._arrays: Any = tuple(tensor.numpy() for tensor in tensors)

    def step(self, max_grad_norm: float = math.inf) -> float:
        """Clip the gradient to `max_grad_norm`, take one step, return the norm before clipping.

        Raises:
            DivergedError: The gradient is NaN or infinite; nothing was changed.
        """
        native = self._native
        self.collect()
        norm = math.sqrt(squared_norm(self._arrays[1])) if native else float(self.grad.norm())
        if not math.isfinite(norm):
            raise DivergedError(f"the gradient is not finite (norm {norm})")
        self.apply(min(1.0, max_grad_norm / (norm + 1e-6)))
        return norm

    def sum_over_ranks(self, also: Sequence[Tensor] = ()) -> None:
        """Replace the gradient, and tensors of its type, by their sums over all ranks."""
        self.collect()
        add_together([self.grad, *also])

    def apply(self, scale: float = 1.0) -> None:
        """Take one step with `scale` times the gradient at hand; no device is waited for."""
        self.step_count += 1
        if self._native:
            param, grad, first, second = self._arrays
            beta1, beta2 = self.betas
            adam_step(
                param,
                grad,
                first,
                second,
                self.step_count,
                scale,
                self.lr,
                beta1,
                beta2,
                self.eps,
                self.weight_decay,
            )
        elif self.flat.device.type == "cuda":
            self._fused_step(scale)
        else:
            self._tensor_step(scale)

    def advance(self, max_grad_norm: float = math.inf) -> float:
        """`step`, by the name under which DeviceAdam does not wait for a device."""
        return self.step(max_grad_norm)

    @torch.no_grad()
    def _fused_step(self, scale: float) -> None:
        # The kernel takes the step's number from the device: a fill, not a copy.
        number = torch.full((), float(self.step_count), device=self.flat.device)
        torch._fused_adamw_(
            [self.flat],
            [self.grad if scale == 1.0 else self.grad * scale],
            [self.exp_avg],
            [self.exp_avg_sq],
            [],
            [number],
            lr=self.lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=self.weight_decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )

    @torch.no_grad()
    def _tensor_step(self, scale: float) -> None:
        self._begin()
        beta1, beta2 = self.betas
        grad = self.grad * scale
        self.exp_avg.lerp_(grad, 1.0 - beta1)
        self.exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1.0 - beta2)
        root = math.sqrt(1.0 - beta2**self.step_count)
        bottom = self.exp_avg_sq.sqrt().div_(root).add_(self.eps)
        self.flat.mul_(1.0 - self.lr * self.weight_decay)
        self.flat.addcdiv_(self.exp_avg, bottom, value=-self.lr / (1.0 - beta1**self.step_count))
        self._end()

    def state_dict(self) -> dict[str, Any]:
        """Moments and step count; the parameters belong to the policy's own state."""
        return {
            "exp_avg": self.exp_avg.clone(),
            "exp_avg_sq": self.exp_avg_sq.clone(),
            "step_count": self.step_count,
            "lr": self.lr,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; the number of parameters must agree."""
        for name, found in moments(state, self.flat.numel()):
            getattr(self, name).copy_(found)
        self.step_count = int(state["step_count"])
        self.lr = float(state["lr"])
