"""How many threads torch uses while a model reads or writes for somebody: by a rule.

No clock chooses, and a busy machine does not matter: a step of decoding is a few hundred short
products with a meeting of all threads after each, which costs more than the products where another
program runs. OMP_NUM_THREADS overrules all. Threads of training are stages/threads.py's.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from playout.agents.runs.devices import cores
from playout.rlhf.data.messages import Prompt
from playout.rlhf.generation.decoder import MAX_ROWS
from playout.rlhf.model.transformer import Transformer

__all__ = ["MAX_TOKENS", "decoding_threads", "reading_threads", "threads_to_decode"]

# Multiply-adds of a step that are worth a thread; a compiled step sees to waiting threads itself.
STEP, COMPILED_STEP = 1 << 28, 1 << 24
MAX_TOKENS = 8192
"""Tokens that are read at once, at most; each is worth as much as a row that is written."""
_LETTERS = 4  # of a token, about


def threads_to_decode(parameters: int, rows: int) -> int:
    """Threads for a token at a time, in so many rows, through a model of so many parameters."""
    worth = COMPILED_STEP if rows <= MAX_ROWS else STEP
    return max(1, min(cores(), parameters * rows // worth))


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
    if threads:
        torch.set_num_threads(threads)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


@contextmanager
def reading_threads(model: Transformer, texts: Sequence[Prompt], threads: int = 0) -> Iterator[int]:
    """The same where whole texts are read, each of their tokens counted as a row."""
    letters = sum(
        len(text) if isinstance(text, str) else sum(len(part["content"]) for part in text)
        for text in texts
    )
    with decoding_threads(model, min(MAX_TOKENS, 1 + letters // _LETTERS), threads) as found:
        yield found
