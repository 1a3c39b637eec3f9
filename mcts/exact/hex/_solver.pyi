import numpy as np
from numpy.typing import NDArray

class HexSolver:
    def __init__(self, size: int, entries: int, swap: bool = False) -> None: ...
    @property
    def nodes(self) -> int: ...
    def stop(self) -> None: ...
    def clear(self) -> None: ...
    def score_moves(
        self,
        first: NDArray[np.uint64],
        second: NDArray[np.uint64],
        turn: NDArray[np.int8],
        out: NDArray[np.int8],
        *,
        max_nodes: int,
        each: bool,
    ) -> None: ...
