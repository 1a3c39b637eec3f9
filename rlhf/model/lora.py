"""Low-rank adapters (Hu et al. 2021): a frozen projection plus a trained product of two thin ones.

Adapters can be switched off, which turns a fine-tuned policy into its own reference, and merged
into the weights for decoding and export. Only the Transformer's projections are adapted; quantised
base weights are left out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from playout.errors import ConfigError
from playout.rlhf.model.transformer import Projection, Transformer
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LoRAConfig", "adapters_off", "add_adapters", "has_adapters", "merge_adapters"]

TARGETS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class LoRAConfig:
    """Size and place of the adapters."""

    rank: int = 8
    """Inner width of each adapter."""
    alpha: float = 16.0
    """The adapter's output is scaled by alpha / rank."""
    targets: tuple[str, ...] = TARGETS
    """Names of the projections that get one."""


class AdaptedProjection(Projection):
    """`W x + (alpha / rank) B A x` with `W` frozen; `B` begins at zero and changes nothing yet."""

    def __init__(
        self, base: Projection, rank: int, scale: float, generator: torch.Generator
    ) -> None:
        nn.Module.__init__(self)
        out_features, in_features = base.weight.shape
        self.weight = base.weight
        self.weight.requires_grad_(False)
        self.bias = base.bias
        self.lora_a = nn.Parameter(torch.empty(rank, in_features))
        self.lora_b = nn.Parameter(torch.zeros(out_features, rank))
        self.scale = scale
        self.enabled = True
        with torch.no_grad():
            self.lora_a.normal_(0.0, in_features**-0.5, generator=generator)

    def delta(self) -> Tensor:
        """What the adapter adds to the weight, [out, in]."""
        return (self.lora_b @ self.lora_a) * self.scale

    def effective(self, gain: Tensor | None = None) -> Tensor:
        """The weight with the adapter, if enabled, and the gain."""
        weight = self.weight + self.delta() if self.enabled else self.weight
        return weight if gain is None else weight * gain

    def forward(self, x: Tensor, gain: Tensor | None = None) -> Tensor:
        """[..., in] to [..., out]."""
        weight = self.weight if gain is None else self.weight * gain
        bias = None if self.bias is None else self.bias.to(x.dtype)
        out = F.linear(x, weight.to(x.dtype), bias)
        if not self.enabled:
            return out
        down = self.lora_a if gain is None else self.lora_a * gain
        low = F.linear(x, down.to(x.dtype))
        return out + F.linear(low, (self.lora_b * self.scale).to(x.dtype))


def add_adapters(model: Transformer, config: LoRAConfig, *, seed: int = 0) -> list[nn.Parameter]:
    """Freeze the model and give it adapters; returns the parameters to train."""
    if config.rank < 1:
        raise ConfigError(f"a LoRA rank must be at least 1, not {config.rank}")
    unknown = sorted(set(config.targets) - set(TARGETS))
    if unknown or not config.targets:
        raise ConfigError(f"LoRA targets are {', '.join(TARGETS)}, not {', '.join(unknown)!r}")
    if has_adapters(model):
        raise ConfigError("the model has adapters already; merge them first")
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    scale = config.alpha / config.rank
    trained = []
    for block in model.blocks:
        for name in config.targets:
            adapted = AdaptedProjection(getattr(block, name), config.rank, scale, generator)
            adapted.to(adapted.weight.device)
            setattr(block, name, adapted)
            trained += [adapted.lora_a, adapted.lora_b]
    return trained


def _adapters(model: nn.Module) -> list[AdaptedProjection]:
    return [module for module in model.modules() if isinstance(module, AdaptedProjection)]


def has_adapters(model: nn.Module) -> bool:
    """Whether any projection of the model is adapted."""
    return bool(_adapters(model))


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """Inside, the model computes as if it had no adapters."""
    adapters = _adapters(model)
    before = [adapter.enabled for adapter in adapters]
    for adapter in adapters:
        adapter.enabled = False
    try:
        yield
    finally:
        for adapter, enabled in zip(adapters, before, strict=True):
            adapter.enabled = enabled


@torch.no_grad()
def merge_adapters(model: Transformer) -> None:
    """Add every adapter to its weight and put plain, trainable projections back."""
    for block in model.blocks:
        for name, module in list(block.named_children()):
            if isinstance(module, AdaptedProjection):
                out_features, in_features = module.weight.shape
                plain = Projection(in_features, out_features)
                plain.weight = nn.Parameter(module.weight + module.delta())
                plain.bias = module.bias
                setattr(block, name, plain)
    model.requires_grad_(True)
