"""Matrix products in a lower precision on any device, with weights that stay float32.

torch's autocast where the device has it; a backend that registered none gets the same for linear
layers and convolutions. Left out: which precision suits a device (runs/devices.py).
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only


def lowered(device: str, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Products in `dtype` inside; in float32 nothing is asked of the device.

    Args:
        device: type of the device, such as "cuda".
        dtype: float32, bfloat16 or float16.
    """
    if dtype == torch.float32:
        return nullcontext()
    try:
        return torch.autocast(device, dtype)
    except (RuntimeError, AssertionError):
        return _LoweredProducts(dtype)


class _LoweredProducts(TorchFunctionMode):
    """Linear layers and convolutions take their arguments in a lower precision."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (functional.linear, functional.conv1d, functional.conv2d):
            args, kwargs = tree_map_only(Tensor, self._cast, (args, kwargs))
        return func(*args, **(kwargs or {}))

    def _cast(self, x: Tensor) -> Tensor:
        return x.to(self.dtype) if x.is_floating_point() else x
