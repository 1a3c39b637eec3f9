from typing import Any

import numpy as np
from numpy.typing import NDArray

def look_ahead(
    capsule: Any, states: NDArray[np.uint8], plies: int, outcomes: NDArray[np.int8]
) -> None: ...
def answer_proven(
    outcomes: NDArray[np.int8],
    rows: NDArray[np.int32],
    certain: float,
    losing: NDArray[np.uint8],
    logits: NDArray[np.float32],
    values: NDArray[np.float32],
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
