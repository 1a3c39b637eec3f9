from typing import Any

import numpy as np
import numpy.typing as npt

MODES: tuple[str, ...]
OPPONENTS: tuple[str, ...]

class GameRows:
    states: npt.NDArray[np.uint8]
    seeds: npt.NDArray[np.uint64]
    episodes: npt.NDArray[np.uint64]
    draws: npt.NDArray[np.uint64]
    elapsed: npt.NDArray[np.int32]
    players: npt.NDArray[np.int32]
    to_play: npt.NDArray[np.int32]
    pending: npt.NDArray[np.bool_]
    obs: npt.NDArray[np.float32]
    mask: npt.NDArray[np.int8]
    final_obs: npt.NDArray[np.float32]
    final_mask: npt.NDArray[np.int8]
    final_to_play: npt.NDArray[np.int32]
    rewards: npt.NDArray[np.float32]
    terminations: npt.NDArray[np.bool_]
    truncations: npt.NDArray[np.bool_]
    def __init__(
        self, capsule: Any, num_envs: int, *, mode: str, opponent: str, player: int, limit: int
    ) -> None: ...
    def step(self, actions: npt.ArrayLike) -> int: ...
    def begin_step(self, actions: npt.ArrayLike) -> None: ...
    def waiting(self) -> npt.NDArray[np.int64]: ...
    def reply(self, rows: npt.NDArray[np.int64], actions: npt.NDArray[np.int32]) -> None: ...
    def end_step(self) -> int: ...
    def start(self, where: npt.NDArray[np.bool_]) -> None: ...
    def show(self) -> None: ...
