"""How the ranks of a job find each other in torchrun's store, which outlives them.

A job that torchrun begins again uses the same store, and torch would take addresses there that dead
processes left. So rank 0 makes up a word for each beginning, everything is kept under it, and a
rank believes the word when rank 0 has answered it in person. What each says of itself, and what
follows from that (agreement.py), goes the same way: nothing else may be said before.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from playout.agents.runs.ranks.place import rank, world

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

_PAUSE = 0.02  # seconds between two looks


def meet(
    patience: timedelta, told: str, decide: Callable[[Sequence[str]], str]
) -> tuple[Store, str, str]:
    """Meet the others in the store.

    Args:
        patience: How long to wait for them.
        told: What this rank tells of itself.
        decide: What follows from all that is told, in order of rank; asked on rank 0.

    Returns:
        The store of this beginning of the job, the word that its keys begin with, and what `decide`
        said, on every rank.

    Raises:
        RuntimeError: There is no store, or the others did not come.
    """
    from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

    store, _, _ = next(rendezvous("env://", rank(), world(), timeout=patience))
    until = time.monotonic() + patience.total_seconds()
    if rank() == 0:
        word, decision = _answer_all(store, until, told, decide)
    else:
        word, decision = _be_answered(store, until, told)
    return PrefixStore(f"playout/{word}", store), word, decision


def _answer_all(
    store: Store, until: float, told: str, decide: Callable[[Sequence[str]], str]
) -> tuple[str, str]:
    word, came = os.urandom(8).hex(), {0: ["", told]}
    store.set("playout/word", word)
    while len(came) < world():
        missing = [one for one in range(world()) if one not in came]
        _wait(until, f"rank {', '.join(map(str, missing[:8]))} did not come")
        for one in missing:
            if store.check([f"playout/{word}/here/{one}"]):
                came[one] = json.loads(store.get(f"playout/{word}/here/{one}"))
    decision = decide([came[one][1] for one in range(world())])
    for one in range(1, world()):
        store.set(f"playout/{word}/answer/{one}", json.dumps([came[one][0], decision]))
    return word, decision


def _be_answered(store: Store, until: float, told: str) -> tuple[str, str]:
    own, word = os.urandom(8).hex(), ""
    while True:
        if store.check(["playout/word"]):
            if word != (word := store.get("playout/word").decode()):
                store.set(f"playout/{word}/here/{rank()}", json.dumps([own, told]))
            answer = f"playout/{word}/answer/{rank()}"
            if store.check([answer]):
                whom, decision = json.loads(store.get(answer))
                if whom == own:
                    return word, decision
        _wait(until, "rank 0 did not come")


def _wait(until: float, problem: str) -> None:
    if time.monotonic() > until:
        raise RuntimeError(problem)
    time.sleep(_PAUSE)
