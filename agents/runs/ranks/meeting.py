"""How the ranks of a job find each other in torchrun's store, which outlives them.

A job that torchrun begins again uses the same store, and torch would take addresses there that dead
processes left. So rank 0 makes up a word for each beginning, everything is kept under it, and a
rank believes the word when rank 0 has answered it in person.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from playout.agents.runs.ranks.place import rank, world

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

_PAUSE = 0.02  # seconds between two looks


def meet(patience: timedelta) -> tuple[Store, str]:
    """The store of this beginning of the job, and the word that its keys begin with.

    Args:
        patience: How long to wait for the others.

    Raises:
        RuntimeError: There is no store, or the others did not come.
    """
    from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

    store, _, _ = next(rendezvous("env://", rank(), world(), timeout=patience))
    until = time.monotonic() + patience.total_seconds()
    word = _answer_all(store, until) if rank() == 0 else _be_answered(store, until)
    return PrefixStore(f"playout/{word}", store), word


def _answer_all(store: Store, until: float) -> str:
    word = os.urandom(8).hex()
    store.set("playout/word", word)
    missing = set(range(1, world()))
    while missing:
        for one in sorted(missing):
            if store.check([f"playout/{word}/here/{one}"]):
                came = store.get(f"playout/{word}/here/{one}").decode()
                store.set(f"playout/{word}/answer/{one}", came)
                missing.discard(one)
        _wait(until, f"rank {', '.join(map(str, sorted(missing)[:8]))} did not come")
    return word


def _be_answered(store: Store, until: float) -> str:
    own, word = os.urandom(8).hex(), ""
    while True:
        if store.check(["playout/word"]):
            if word != (word := store.get("playout/word").decode()):
                store.set(f"playout/{word}/here/{rank()}", own)
            answer = f"playout/{word}/answer/{rank()}"
            if store.check([answer]) and store.get(answer).decode() == own:
                return word
        _wait(until, "rank 0 did not come")


def _wait(until: float, problem: str) -> None:
    if time.monotonic() > until:
        raise RuntimeError(problem)
    time.sleep(_PAUSE)
