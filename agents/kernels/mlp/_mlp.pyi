"""Types of the compiled small MLP policy."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Layer = tuple[Floats, Floats, Floats, Floats, int]

@final
class NativeMLP:
    def __init__(
        self,
        trunk: Sequence[Layer],
        policy: Sequence[Layer],
        value: Sequence[Layer],
        log_std: Floats | None = None,
        log_std_grad: Floats | None = None,
        isa: int | None = None,
    ) -> None: ...
    def prepare(self) -> None: ...
    def forward(self, obs: Floats, params: Floats, values: Floats) -> None: ...
    def step(
        self,
        obs: Floats,
        mask: NDArray[np.uint8] | None,
        noise: Floats | None,
        actions: NDArray[Any],
        logprobs: Floats,
        values: Floats,
    ) -> None: ...
    def evaluate(
        self,
        obs: Floats,
        mask: NDArray[np.uint8] | None,
        actions: NDArray[Any],
        logprobs: Floats,
        entropy: Floats,
        values: Floats,
    ) -> None: ...
    def backward(
        self, logprob_grad: Floats, entropy_grad: Floats | None, value_grad: Floats
    ) -> None: ...
