"""Types of the compiled Adam step."""

import numpy as np
from numpy.typing import NDArray

def squared_norm(grad: NDArray[np.float32]) -> float: ...
def adam_step(
    param: NDArray[np.float32],
    grad: NDArray[np.float32],
    exp_avg: NDArray[np.float32],
    exp_avg_sq: NDArray[np.float32],
    step: int,
    scale: float,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> None: ...
