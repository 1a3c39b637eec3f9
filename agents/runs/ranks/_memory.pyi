"""Types of the compiled sums through shared memory."""

from mmap import mmap

import numpy as np
from numpy.typing import NDArray

def block_size(world: int, piece: int) -> int: ...

class SharedSum:
    position: int
    def __init__(self, block: mmap | bytearray, rank: int, world: int, piece: int) -> None: ...
    def add(
        self,
        vector: NDArray[np.float32] | NDArray[np.float64] | NDArray[np.uint8],
        patience: float,
    ) -> bool: ...
