"""Types of the compiled running statistics."""

import numpy as np
from numpy.typing import NDArray

def update_moments(
    x: NDArray[np.float32], count: float, mean: NDArray[np.float64], m2: NDArray[np.float64]
) -> float: ...
def normalize(
    x: NDArray[np.float32],
    count: float,
    mean: NDArray[np.float64],
    m2: NDArray[np.float64],
    clip: float,
    out: NDArray[np.float32],
) -> None: ...
def discounted(
    rewards: NDArray[np.float32],
    over: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    gamma: float,
    carry: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None: ...
def episodes(
    rewards: NDArray[np.float32],
    over: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    returns: NDArray[np.float64],
    lengths: NDArray[np.int64],
) -> list[tuple[float, int]]: ...
