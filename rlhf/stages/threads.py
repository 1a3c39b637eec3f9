"""How many threads torch uses: by a rule, kept with a run.

Sums may differ in their last bit with the number of threads. A clock would choose another number on
another day, so the size of the model and the number of cores decide, and what was chosen is stored
with a run: the same command with the same seed gives the same weights whatever else the machine
does, and a resumed run equals one that was not stopped. OMP_NUM_THREADS overrules all.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from playout.agents.runs import ranks
from playout.agents.runs.devices import cores
from playout.agents.runs.directory import RunDir
from playout.rlhf.generation.decoder import MAX_ROWS
from playout.rlhf.model.transformer import Transformer

__all__ = [
    "decoding_threads",
    "set_threads",
    "threads_to_decode",
    "threads_to_train",
    "use_threads",
]

# A thread has at least so many columns of a layer's matrices to itself, or waiting costs more.
COLUMNS = 64
# Multiply-adds of a decoding step that are worth a thread. A step is a few hundred short products
# with a meeting of all threads after each; on a busy machine those cost more than the products. A
# compiled step sees to that itself.
STEP, COMPILED_STEP = 1 << 28, 1 << 24


def threads_to_train(hidden_size: int) -> int:
    """Threads for whole batches through a model of that width."""
    return max(1, min(cores(), hidden_size // COLUMNS))


def threads_to_decode(parameters: int, rows: int) -> int:
    """Threads for a token at a time, in so many rows, through a model of so many parameters."""
    worth = COMPILED_STEP if rows <= MAX_ROWS else STEP
    return max(1, min(cores(), parameters * rows // worth))


def use_threads(threads: int) -> None:
    """Set torch's threads as a command says; 0 leaves them as they are."""
    if threads:
        torch.set_num_threads(threads)


@contextmanager
def decoding_threads(model: Transformer, rows: int, threads: int = 0) -> Iterator[int]:
    """Inside, torch uses the threads that suit decoding; gives their number.

    Args:
        model: What decodes.
        rows: Prompts at once.
        threads: The person's own choice; 0 for none.
    """
    before = torch.get_num_threads()
    if not threads and not os.environ.get("OMP_NUM_THREADS"):
        threads = threads_to_decode(sum(p.numel() for p in model.parameters()), rows)
    use_threads(threads)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


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
