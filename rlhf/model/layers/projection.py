"""The linear map of the Transformer, whose weight may take a norm's gain into itself."""

import torch
from playout.rlhf.model.layers.elementwise import fold_gain
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Projection"]


class Projection(nn.Module):
    """A linear map whose input may carry a gain [in], folded into the weight.

    Attributes:
        weight: [out, in].
        bias: [out], or None.
    """

    bias: nn.Parameter | None

    def __init__(self, in_features: int, out_features: int, *, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.register_parameter("bias", nn.Parameter(torch.empty(out_features)) if bias else None)

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return self.weight.shape[0], self.weight.shape[1]

    def dense(self) -> Tensor:
        """The weight as plain numbers, [out, in], however it is held."""
        return self.weight

    def replaced(self, weight: Tensor) -> "Projection":
        """A plain projection with another weight [out, in] and the same bias; both learn."""
        plain = Projection(weight.shape[1], weight.shape[0])
        plain.weight = nn.Parameter(weight)
        plain.bias = None if self.bias is None else nn.Parameter(self.bias.detach())
        return plain

    def effective(self, gain: Tensor | None = None) -> Tensor:
        """The weight that stands in for gain and map, [out, in]."""
        weight = self.dense()
        return weight if gain is None else weight * gain

    def forward(self, x: Tensor, gain: Tensor | None = None) -> Tensor:
        """[..., in] to [..., out] in the type of `x`."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        weight = self.dense()
        weight = weight.to(x.dtype) if gain is None else fold_gain(weight, gain, x.dtype)
        return F.linear(x, weight, bias)
