"""How many threads torch uses in training: by a rule, kept with a run.

Sums may differ in their last bit with the number of threads. A clock would choose another number on
another day, so the size of the model and the number of cores decide, and what was chosen is stored
with a run: the same command with the same seed gives the same weights whatever else the machine
does, and a resumed run equals one that was not stopped. OMP_NUM_THREADS overrules all. Threads of
reading and writing are model/threads.py's.
"""

import os

import torch
from playout.agents.runs import ranks
from playout.agents.runs.devices import cores
from playout.agents.runs.directory import RunDir

__all__ = ["set_threads", "threads_to_train"]

# A thread has at least so many columns of a layer's matrices to itself, or waiting costs more.
COLUMNS = 64


def threads_to_train(hidden_size: int) -> int:
    """Threads for whole batches through a model of that width."""
    return max(1, min(cores(), hidden_size // COLUMNS))


def set_threads(run: RunDir, hidden_size: int, threads: int = 0) -> int:
    """Set torch's threads for training and return their number.

    Args:
        run: Its number is taken again; where it has none, one is chosen and noted there.
        hidden_size: Of the model that learns.
        threads: The person's own choice; 0 for none.
    """
    if threads:
        torch.set_num_threads(threads)
        return threads
    if os.environ.get("OMP_NUM_THREADS"):
        return torch.get_num_threads()
    chosen = ranks.by_first(lambda: _kept_threads(run, hidden_size))
    torch.set_num_threads(chosen)
    return chosen


def _kept_threads(run: RunDir, hidden_size: int) -> int:
    """The number that a run has, or the one that it gets."""
    kept = run.record.get("threads")
    if isinstance(kept, int) and kept > 0:
        return kept
    chosen = threads_to_train(hidden_size)
    with run.lock():
        run.update(threads=chosen)
    return chosen
