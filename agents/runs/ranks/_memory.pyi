"""Types of the compiled sums through shared memory."""

from collections.abc import Buffer

def block_size(world: int, piece: int) -> int: ...

class SharedSum:
    position: int
    def __init__(self, block: Buffer, rank: int, world: int, piece: int) -> None: ...
    def add(self, vector: Buffer, patience: float) -> bool: ...
