"""Types of the compiled surrogate loss."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

def moments(x: Floats, valid: NDArray[np.uint8]) -> tuple[int, float, float]: ...
def surrogate(
    logprobs: Floats,
    entropy: Floats,
    values: Floats,
    old_logprobs: Floats,
    old_values: Floats,
    advantages: Floats,
    returns: Floats,
    valid: NDArray[np.uint8],
    shift: float,
    scale: float,
    count: float,
    clip_coef: float,
    vf_coef: float,
    clip_vloss: bool,
    vf_clip_coef: float,
    ent_coef: float,
    logprob_grad: Floats,
    value_grad: Floats,
    entropy_grad: Floats,
    stats: NDArray[np.float64],
) -> None: ...
