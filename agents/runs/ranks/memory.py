"""Sums over ranks of one machine, through memory that they share.

gloo sends what is summed through the kernel's sockets, several messages and wake-ups a sum: half a
millisecond of processor time for the gradient of a small policy, as much as the gradient itself
takes. Here it is copied twice. The memory has no name, so that nothing is left of a job that is
killed; a rank that is gone is noticed by its process. Other systems than Linux go on with gloo.
"""

from __future__ import annotations

import mmap
import os
import select
from typing import TYPE_CHECKING

from playout.agents.runs.ranks.place import rank, world

if TYPE_CHECKING:
    from torch import Tensor

VARIABLE = "PLAYOUT_RANK_MEMORY"
"""The variable that keeps ranks of one machine from sharing memory, if it is 0."""

_PIECE = 1 << 20  # bytes of a vector at a time ...
_MOST = 1 << 25  # ... and of the whole block at most
_TYPES = ("float32", "float64", "uint8")
_PATIENCE = 0.05  # seconds between two looks whether the others are there


def create() -> tuple[int, int]:
    """Memory for all ranks, of zeros: its descriptor, and how many bytes go through it at a time.

    Raises:
        OSError: This system has no such memory, or not enough of it.
    """
    from playout.agents.runs.ranks._memory import block_size

    if not hasattr(os, "memfd_create") or not hasattr(os, "pidfd_open"):
        raise OSError("this system has no memory without a name")
    piece = min(_PIECE, _MOST // (world() + 1) // 64 * 64)
    descriptor = os.memfd_create("playout-ranks")
    try:
        # Allocated now: memory that is missing later would be a signal, not an error.
        os.posix_fallocate(descriptor, 0, block_size(world(), piece))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor, piece


class RankMemory:
    """The block, and the processes that share it."""

    def __init__(self, path: str, piece: int, processes: list[int]) -> None:
        """Opens rank 0's block.

        Args:
            path: Of its descriptor, as other processes see it.
            piece: As `create` gave it.
            processes: Numbers of all ranks' processes.

        Raises:
            OSError: It cannot be opened, or a process is gone.
        """
        from playout.agents.runs.ranks._memory import SharedSum, block_size

        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            block = mmap.mmap(descriptor, block_size(world(), piece))
        finally:
            os.close(descriptor)
        self._sum = SharedSum(block, rank(), world(), piece)
        self._others = select.poll()
        self._ranks: dict[int, int] = {}
        for other, process in enumerate(processes):
            if other != rank():
                watched = os.pidfd_open(process)
                self._ranks[watched] = other
                self._others.register(watched, select.POLLIN)

    def holds(self, tensor: Tensor) -> bool:
        """Whether numbers of this type are added up here, from where they are."""
        return tensor.device.type == "cpu" and str(tensor.dtype)[6:] in _TYPES

    def add_(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all ranks.

        Args:
            tensor: One that it `holds`, contiguous.

        Raises:
            RuntimeError: Another rank's process has ended.
        """
        vector = tensor.detach().view(-1).numpy()
        while not self._sum.add(vector, _PATIENCE):
            if gone := self._others.poll(0):
                if self._sum.add(vector, 0.0):  # it had come to this sum before it ended
                    return
                raise RuntimeError(f"the process of rank {self._ranks[gone[0][0]]} has ended")
