from typing import Any

import numpy as np
from numpy.typing import NDArray

class AlphaBetaCore:
    nodes: int
    def __init__(self, capsule: Any, *, table_mb: int = 64, max_nodes: int = 0) -> None: ...
    def stop(self) -> None: ...
    def clear(self) -> None: ...
    def solve(
        self,
        states: NDArray[np.uint8],
        out: NDArray[np.float32],
        *,
        depth: int = -1,
        rollouts: int = 0,
        seed: int = 0,
        give_up: int = 0,
    ) -> None: ...
    def prove(
        self, states: NDArray[np.uint8], out: NDArray[np.float32], *, give_up: int
    ) -> None: ...
