from typing import Any

import numpy as np
from numpy.typing import NDArray

def two_plies(
    capsule: Any,
    states: NDArray[np.uint8],
    won: NDArray[np.uint8],
    losing: NDArray[np.uint8],
    legal: NDArray[np.uint8],
) -> None: ...
