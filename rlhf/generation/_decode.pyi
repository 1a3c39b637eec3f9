"""Types of the compiled decoding step."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_ROWS: int

def use_team(parallel: int, number: int, size: int) -> None: ...

class SmallDecoder:
    def __init__(
        self,
        layers: Sequence[Mapping[str, Any]],
        head: NDArray[Any],
        embed: NDArray[np.float32],
        rotations: NDArray[np.float32],
        *,
        heads: int,
        kv_heads: int,
        eps: float,
        active: int = 0,
        normalise: bool = True,
    ) -> None: ...
    def attach(self, caches: Sequence[NDArray[np.float32]]) -> None: ...
    def step(
        self,
        ids: NDArray[np.int64],
        places: NDArray[np.int64],
        logits: NDArray[np.float32],
        threads: int,
    ) -> None: ...
