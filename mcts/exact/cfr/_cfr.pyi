from typing import Any

import numpy as np
from numpy.typing import NDArray

class Tree:
    counts: tuple[int, int, int]
    players: NDArray[np.int32]
    slots: NDArray[np.int32]
    actions: NDArray[np.int32]
    keys: NDArray[np.uint64]
    states: NDArray[np.uint8]
    def __init__(self, capsule: Any, *, max_histories: int) -> None: ...
    def iterate(
        self,
        policy: NDArray[np.float64],
        regrets: NDArray[np.float64],
        sums: NDArray[np.float64],
        *,
        first: int,
        count: int,
    ) -> None: ...
    def values(self, policy: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def best_responses(self, policy: NDArray[np.float64]) -> NDArray[np.float64]: ...
