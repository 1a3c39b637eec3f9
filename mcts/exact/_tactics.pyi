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
def resolve(
    capsule: Any,
    states: NDArray[np.uint8],
    obs: NDArray[np.float32] | None,
    certain: float,
    logits: NDArray[np.float32],
    values: NDArray[np.float32],
    losing: NDArray[np.uint8],
    rows: NDArray[np.int32],
    open_obs: NDArray[np.float32] | None,
    open_states: NDArray[np.uint8],
    open_mask: NDArray[np.uint8],
    open_to_play: NDArray[np.int32],
) -> int: ...
def scatter_answers(
    rows: NDArray[np.int32],
    answers: NDArray[np.float32],
    answer_values: NDArray[np.float32],
    losing: NDArray[np.uint8],
    certain: float,
    logits: NDArray[np.float32],
    values: NDArray[np.float32],
) -> None: ...
