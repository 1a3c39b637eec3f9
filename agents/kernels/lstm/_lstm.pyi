"""Types of the compiled LSTM recurrence."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

def forward(
    gates: Floats,
    weight: Floats,
    h0: Floats,
    c0: Floats,
    starts: NDArray[np.uint8],
    h: Floats,
    c: Floats,
    before: Floats,
) -> None: ...
def backward(
    grad: Floats,
    gates: Floats,
    weight: Floats,
    c0: Floats,
    starts: NDArray[np.uint8],
    c: Floats,
    gates_grad: Floats,
) -> None: ...
