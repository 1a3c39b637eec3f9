"""Board networks whose weights are held as codes of 8 or 4 bits, and made plain where they compute.

Convolutions and matrices are held, but for the first layer, which sees the board, and what is so
small that scales would not pay. Such a network answers, and is begun from by its plain numbers; it
does not learn. Left out: products of bytes (quantised.py), and what codes stand for
(precision/codes.py).
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, TypeVar, cast

import torch
from playout.agents.networks.precision.codes import CODES, NF4_BLOCK, from_codes, to_codes
from playout.errors import ConfigError
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["PLAIN", "Held", "check_weights", "hold", "plain_copy", "plain_state", "with_codes"]

PLAIN = "float32"
FIRST = ("stem", "embed")
SMALL = 256  # weights
Net = TypeVar("Net", bound=nn.Module)


def check_weights(name: str) -> None:
    """Raises ConfigError for what weights cannot be held in."""
    if name not in (PLAIN, *CODES):
        raise ConfigError(f"weights are held in {', '.join((PLAIN, *CODES))}, not in {name!r}")


class Held(nn.Module):
    """A convolution or a linear layer of codes.

    Attributes:
        codes: int8 in the shape of the weight, or uint8 of two codes each, filled up with zeros.
        scales: float32, one a row or one for every 64 weights.
    """

    codes: Tensor
    scales: Tensor
    bias: nn.Parameter | None

    def __init__(self, layer: nn.Conv2d | nn.Linear, kind: str) -> None:
        super().__init__()
        weight = layer.weight.detach()
        self._shape = weight.shape
        # None of a linear layer; convolutions answer boards as large as they see.
        self.padding = weight.shape[2] // 2 if isinstance(layer, nn.Conv2d) else None
        rows = weight.flatten(1)
        if kind == "nf4":
            rows = functional.pad(rows.flatten(), (0, -rows.numel() % NF4_BLOCK))[None]
        codes, scales = to_codes(rows, kind)
        self.register_buffer("codes", codes.view(weight.shape) if kind == "int8" else codes)
        self.register_buffer("scales", scales)
        self.register_parameter("bias", cast("nn.Parameter | None", layer.bias))

    @property
    def weight(self) -> Tensor:
        """The plain weight that the codes stand for, float32."""
        if self.codes.dtype == torch.int8:
            return from_codes(self.codes.flatten(1), self.scales).view(self._shape)
        plain = from_codes(self.codes, self.scales)
        return plain[: self._shape.numel()].view(self._shape)

    def forward(self, x: Tensor) -> Tensor:
        """What the layer makes of `x`, in its type."""
        weight = self.weight.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if self.padding is None:
            return functional.linear(x, weight, bias)
        return functional.conv2d(x, weight, bias, padding=self.padding)

    def plain(self) -> nn.Conv2d | nn.Linear:
        """The layer with the numbers that the codes stand for."""
        weight, bias = self.weight, self.bias is not None
        made: nn.Conv2d | nn.Linear
        if self.padding is None:
            made = nn.utils.skip_init(nn.Linear, *weight.shape[1::-1], bias=bias)
        else:
            inner, outer, size = weight.shape[1], weight.shape[0], weight.shape[2]
            made = nn.utils.skip_init(
                nn.Conv2d, inner, outer, size, padding=self.padding, bias=bias
            )
        made.weight = nn.Parameter(weight)
        made.register_parameter("bias", self.bias)
        return made


def hold(net: nn.Module, kind: str) -> None:
    """Turns the layers of a network into codes, in place.

    Args:
        net: a board network of playout's own.
        kind: "int8" or "nf4"; of "float32" nothing changes.
    """
    if kind == PLAIN:
        return
    for path, owner in list(net.named_modules()):
        for name, layer in list(owner.named_children()):
            if not isinstance(layer, nn.Conv2d | nn.Linear) or layer.weight.numel() < SMALL:
                continue
            if path or name not in FIRST:
                setattr(owner, name, Held(layer, kind))


def with_codes(net: Net, kind: str) -> Net:
    """A copy of a board network whose weights are held in "int8" or "nf4".

    Raises:
        ConfigError: it is held so already, is a network of one's own, or has nothing to hold.
    """
    config: Any = net.config
    check_weights(kind)
    before = getattr(config, "weights", None)
    if before is None:
        raise ConfigError("weights of few bits are for playout's own networks, resnet, transformer")
    if before != PLAIN:
        raise ConfigError(f"the network holds its weights in {before} already")
    found: Any = copy.deepcopy(net).requires_grad_(False)
    hold(found, kind)
    if not any(isinstance(part, Held) for part in found.modules()):
        raise ConfigError("the network is too small to hold its weights in few bits")
    found.config = replace(config, weights=kind)
    return found  # type: ignore[no-any-return]


def plain_copy(net: Net) -> Net:
    """A copy that holds the numbers themselves; its weights may learn."""
    found: Any = copy.deepcopy(net)
    for owner in list(found.modules()):
        for name, layer in list(owner.named_children()):
            if isinstance(layer, Held):
                setattr(owner, name, layer.plain())
    config: Any = getattr(found, "config", None)
    if getattr(config, "weights", PLAIN) != PLAIN:
        found.config = replace(config, weights=PLAIN)
    return found  # type: ignore[no-any-return]


def plain_state(module: nn.Module) -> dict[str, Tensor]:
    """The `state_dict` of a network or of a part of it as it is without codes."""
    state = dict(module.state_dict())
    for name, part in module.named_modules():
        if isinstance(part, Held):
            stem = f"{name}." if name else ""
            del state[f"{stem}codes"], state[f"{stem}scales"]
            state[f"{stem}weight"] = part.weight
    return state
