from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

ISAS: tuple[str, ...]
MODES: tuple[str, ...]
BEST_ISA: int

def make(
    name: str,
    params: Sequence[float] = (),
    isa: str | None = None,
    *,
    max_episode_steps: int = 0,
    reward_threshold: float = ...,
) -> object: ...
def describe(capsule: object) -> dict[str, Any]: ...

class ControlBatch:
    capsule: object
    state: npt.NDArray[np.float64]
    seeds: npt.NDArray[np.uint64]
    episodes: npt.NDArray[np.uint64]
    elapsed: npt.NDArray[np.int32]
    pending: npt.NDArray[np.bool_]
    obs: npt.NDArray[Any]
    final_obs: npt.NDArray[Any]
    rewards: npt.NDArray[np.float64]
    terminations: npt.NDArray[np.bool_]
    truncations: npt.NDArray[np.bool_]
    def __init__(
        self,
        capsule: object,
        num_envs: int,
        *,
        max_episode_steps: int,
        mode: str,
        dtype: npt.DTypeLike = ...,
        isa: str | None = None,
    ) -> None: ...
    def reset(
        self,
        where: npt.NDArray[np.bool_] | None,
        low: npt.ArrayLike,
        high: npt.ArrayLike,
    ) -> None: ...
    def observe(self) -> None: ...
    def step(self, actions: npt.ArrayLike) -> int: ...
