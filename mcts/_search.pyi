from typing import Any

import numpy as np
from numpy.typing import NDArray

ALGORITHMS: tuple[str, ...]

class SearchCore:
    obs: NDArray[np.float32] | None
    mask: NDArray[np.uint8]
    states: NDArray[np.uint8]
    to_play: NDArray[np.int32]
    waiting: bool
    def __init__(
        self, capsule: Any, config: Any, num_trees: int, threads: int, seed: int
    ) -> None: ...
    def begin(
        self,
        states: NDArray[np.uint8],
        rows: NDArray[np.int32],
        budgets: NDArray[np.int32],
        noise: NDArray[np.uint8],
        allowed: NDArray[np.uint8] | None = None,
    ) -> None: ...
    def advance(
        self,
        actions: NDArray[np.int32],
        rows: NDArray[np.int32],
        budgets: NDArray[np.int32],
        noise: NDArray[np.uint8],
    ) -> None: ...
    def ask(self, observe: bool) -> int: ...
    def tell(self, logits: NDArray[np.float32], values: NDArray[np.float32]) -> tuple[int, int]: ...
    def cancel(self) -> None: ...
    def rollouts(self, seconds: float) -> int: ...
    def result(
        self, rows: NDArray[np.int32], temperatures: NDArray[np.float64]
    ) -> tuple[
        NDArray[np.int32],
        NDArray[np.float32],
        NDArray[np.int32],
        NDArray[np.float32],
        NDArray[np.float32],
        NDArray[np.int8],
        NDArray[np.int32],
        NDArray[np.float32],
    ]: ...
    def variation(self, row: int, action: int, size: int) -> list[int]: ...
    def root_states(self) -> NDArray[np.uint8]: ...
    def field(self, name: str) -> NDArray[np.int64]: ...
    def set_searches(self, counts: NDArray[np.int64]) -> None: ...
    def cache_bytes(self) -> int: ...
    def clear_cache(self) -> None: ...
