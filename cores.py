"""How many processor cores this process may use: what threads and processes are counted by.

A container, a job of a cluster or `taskset` may allow fewer than the machine has. No torch, so that
a search can ask as well.
"""

import os

__all__ = ["usable_cores"]


def usable_cores() -> int:
    """Cores that the system lets this process run on, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
