from typing import Any

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
U64 = NDArray[np.uint64]
F32 = NDArray[np.float32]

def fill(capsule: Any, states: U8, where: U8) -> None: ...
def to_play(capsule: Any, states: U8, out: I32) -> None: ...
def legal_mask(capsule: Any, states: U8, out: U8) -> None: ...
def apply(capsule: Any, states: U8, actions: I32, where: U8) -> int: ...
def observe(capsule: Any, states: U8, players: I32, out: F32) -> None: ...
def returns(capsule: Any, states: U8, out: F32) -> None: ...
def hashes(capsule: Any, states: U8, out: U64) -> None: ...
def symmetry(capsule: Any, states: U8, k: I32, out: U8) -> None: ...
def random_actions(
    capsule: Any, states: U8, seed: int, streams: U64, counter: int, out: I32
) -> None: ...
def random_plies(
    capsule: Any, states: U8, plies: I32, seed: int, streams: U64, played: I32
) -> None: ...
def playouts(
    capsule: Any, states: U8, seed: int, streams: U64, count: int, scratch: U8, out: F32
) -> None: ...
def step(
    capsule: Any,
    states: U8,
    actions: I32,
    where: U8,
    reset_finished: bool,
    obs: F32,
    mask: U8,
    rewards: F32,
    results: F32,
    ended: U8,
    players: I32,
) -> int: ...
