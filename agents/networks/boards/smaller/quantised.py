"""A residual board network in whole numbers: int8 weights and activations on a processor.

Every convolution between the blocks multiplies bytes by bytes; what stands between them (ReLU, the
skip) is part of the same operation. Weights have a scale a channel, activations one a layer, found
on positions that the network is shown (static quantisation, Jacob et al. 2018). The first
convolution and the heads stay in float32: they are small and see the most. Left out: learning, and
devices other than processors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from playout.agents.networks.boards.folded import FoldedResNet, conv3x3
from playout.agents.networks.boards.heads import answers, pooled
from playout.agents.networks.boards.network import BoardNetwork, squash
from playout.agents.networks.boards.resnet import ResNet
from playout.errors import ConfigError
from torch import Tensor, nn
from torch.nn import functional

LEVELS = 255


@dataclass(frozen=True, slots=True)
class Scale:
    """Bytes q stand for `(q - zero) * step`."""

    step: float
    zero: int

    @classmethod
    def of(cls, values: Tensor) -> Scale:
        """What the values need; 0 is always met exactly."""
        low, high = min(0.0, float(values.amin())), max(0.0, float(values.amax()))
        step = max(high - low, 1e-8) / LEVELS
        return cls(step, round(-low / step))

    def quantise(self, x: Tensor) -> Tensor:
        """float32 to uint8, the nearest level."""
        return (x / self.step).round_().add_(self.zero).clamp_(0, LEVELS).to(torch.uint8)

    def restore(self, q: Tensor) -> Tensor:
        """uint8 to float32."""
        return (q.float() - self.zero) * self.step


class _Convolution:
    """A convolution of bytes with int8 weights, packed for the processor."""

    def __init__(self, conv: nn.Conv2d, source: Scale, target: Scale | None) -> None:
        weight = conv.weight.detach()
        scale = weight.abs().amax(dim=(1, 2, 3)).clamp(min=1e-8) / 127
        whole = (weight / scale[:, None, None, None]).round().to(torch.int8)
        self.scale, self.zero = scale, torch.zeros(len(scale), dtype=torch.long)
        self.bias = conv.bias
        self.padding = [weight.shape[2] // 2] * 2
        self.source, self.target = source, target
        self.packed = torch.ops.onednn.qconv_prepack(
            whole, scale, source.step, source.zero, [1, 1], self.padding, [1, 1], 1, None
        )

    def _common(self, x: Tensor) -> tuple[Any, ...]:
        return x, self.source.step, self.source.zero, self.packed, self.scale, self.zero

    def relu(self, x: Tensor) -> Tensor:
        """ReLU of the convolution: bytes, or float32 without a target scale."""
        step, zero, kind = 1.0, 0, torch.float32
        if self.target is not None:
            step, zero, kind = self.target.step, self.target.zero, torch.uint8
        found: Tensor = torch.ops.onednn.qconv2d_pointwise(
            *self._common(x), self.bias, [1, 1], self.padding, [1, 1], 1, step, zero, kind,
            "relu", [], "",
        )  # fmt: skip
        return found

    def add_relu(self, x: Tensor, skip: Tensor, of_skip: Scale) -> Tensor:
        """ReLU of the convolution plus `skip`, whose memory is taken for the result."""
        assert self.target is not None
        found: Tensor = torch.ops.onednn.qconv2d_pointwise.binary(
            *self._common(x), skip, self.bias, [1, 1], self.padding, [1, 1], 1, self.target.step,
            self.target.zero, torch.uint8, of_skip.step, of_skip.zero, "sum", 1.0, "relu", [], "",
        )  # fmt: skip
        return found


def can_quantise() -> bool:
    """Whether this torch has the operations; they are those of its own compiler's backend."""
    return hasattr(torch.ops.onednn, "qconv2d_pointwise")


class QuantisedResNet(nn.Module):
    """A ResNet that answers in int8, as an `InferenceNetwork` (network.py).

    Args:
        net: the network whose answers it gives, nearly.
        calibration: float32 [M, C, H, W], positions as they are met; a few hundred are enough.

    Raises:
        ConfigError: another network than a ResNet, or a torch without the operations.
    """

    def __init__(self, net: BoardNetwork, calibration: Tensor) -> None:
        super().__init__()
        if not isinstance(net, ResNet):
            raise ConfigError(f"int8 is for residual networks, not for a {type(net).__name__}")
        if not can_quantise():
            raise ConfigError("this torch cannot multiply int8 on a processor; use --dtype auto")
        self.config = net.config
        self.folded = FoldedResNet(net)
        self._calibration = calibration
        self.refresh(net)

    @torch.no_grad()
    def refresh(self, net: BoardNetwork) -> None:
        """Takes over the weights of a ResNet; scales are found anew."""
        folded = self.folded
        folded.refresh(net)
        x = folded.before_blocks(self._calibration)
        self.first = scale = Scale.of(x)
        self.pairs: list[tuple[_Convolution, Scale, _Convolution, Scale]] = []
        for index in range(self.config.blocks):
            conv1, conv2 = folded.convs[2 * index], folded.convs[2 * index + 1]
            assert isinstance(conv1, nn.Conv2d) and isinstance(conv2, nn.Conv2d)
            y = functional.relu(conv3x3(x, conv1))
            inner = Scale.of(y)
            one = _Convolution(conv1, scale, inner)
            pool = folded.pools[index]
            if isinstance(pool, nn.Linear):
                y = y + pool(pooled(y))[:, :, None, None]
                inner = Scale.of(y)
            x = functional.relu(conv3x3(y, conv2) + x)
            outer = Scale.of(x)
            self.pairs.append((one, inner, _Convolution(conv2, inner, outer), scale))
            scale = outer
        self.head = _Convolution(folded.head, scale, None)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [M, A] and values, both float32."""
        x = self.first.quantise(self.folded.before_blocks(obs))
        x = x.contiguous(memory_format=torch.channels_last)
        for index, (one, inner, two, skip) in enumerate(self.pairs):
            y = one.relu(x)
            pool = self.folded.pools[index]
            if isinstance(pool, nn.Linear):
                assert one.target is not None
                plain = one.target.restore(y)
                y = inner.quantise(plain + pool(pooled(plain))[:, :, None, None])
            x = two.add_relu(y, x, skip)
        features = self.head.relu(x)
        folded = self.folded
        logits, value_logits = answers(
            self.config.heads, features, folded.policy, folded.value_hidden, folded.value
        )
        return logits.float(), squash(value_logits, self.config.num_values)
