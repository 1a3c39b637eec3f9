"""How many threads torch uses: measured once a process, kept with a run.

On a busy machine two threads that wait for each other are many times slower than one. The number
is stored with a run, because sums may differ in their last bit with it and a resumed run must
equal one that was not stopped. OMP_NUM_THREADS overrules all.
"""

import os
import statistics
import time

import torch
from playout.agents.runs.directory import RunDir

__all__ = ["set_threads", "use_threads"]

_REPEATS = 5


def _seconds(threads: int) -> float:
    """Median time of work like a small Transformer's on so many threads."""
    torch.set_num_threads(threads)
    x, w = torch.ones(512, 256), torch.ones(688, 256)
    found = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        for _ in range(2):
            torch.nn.functional.silu(x @ w.T) @ w
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def measure_threads() -> int:
    """The faster of one thread and one a core."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if cores == 1:
        return 1
    _seconds(1)
    return cores if _seconds(cores) < 0.9 * _seconds(1) else 1


_chosen = 0


def use_threads(threads: int) -> None:
    """Set torch's threads as a command says; 0 leaves them as they are."""
    if threads:
        torch.set_num_threads(threads)


def set_threads(run: RunDir, threads: int = 0) -> int:
    """Set torch's threads and return their number.

    Args:
        run: Its number is taken again; where it has none, one is chosen and noted there.
        threads: The person's own choice; 0 for none.
    """
    global _chosen
    if threads:
        torch.set_num_threads(threads)
        return threads
    if os.environ.get("OMP_NUM_THREADS"):
        return torch.get_num_threads()
    kept = run.record.get("threads")
    if isinstance(kept, int) and kept > 0:
        torch.set_num_threads(kept)
        return kept
    _chosen = _chosen or measure_threads()
    torch.set_num_threads(_chosen)
    with run.lock():
        run.update(threads=_chosen)
    return _chosen
