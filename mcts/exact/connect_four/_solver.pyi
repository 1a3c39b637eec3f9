import numpy as np
from numpy.typing import NDArray

class ConnectFourSolver:
    nodes: int
    def __init__(
        self, width: int, height: int, *, table_mb: int = 64, max_nodes: int = 0
    ) -> None: ...
    def stop(self) -> None: ...
    def clear(self) -> None: ...
    def score(self, own: int, all: int, alpha: int = -64, beta: int = 64) -> int: ...
    def score_moves(
        self,
        own: NDArray[np.uint64],
        all: NDArray[np.uint64],
        out: NDArray[np.int8],
        *,
        outcome: bool = False,
    ) -> None: ...
    def prove(
        self,
        own: NDArray[np.uint64],
        all: NDArray[np.uint64],
        out: NDArray[np.int8],
        *,
        max_nodes: int,
    ) -> None: ...
