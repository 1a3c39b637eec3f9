"""Types of the compiled advantage estimation."""

import numpy as np
from numpy.typing import NDArray

def gae(
    rewards: NDArray[np.float32],
    values: NDArray[np.float32],
    terminations: NDArray[np.uint8],
    truncations: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    last_values: NDArray[np.float32],
    bootstrap_values: NDArray[np.float32] | None,
    gamma: float,
    gae_lambda: float,
    advantages: NDArray[np.float32],
    returns: NDArray[np.float32],
) -> None: ...
