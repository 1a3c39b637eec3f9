"""Says what is waited for while a position is solved, which may take minutes and tells nothing.

How long is known to nobody beforehand: a line comes on the error stream when it takes some seconds,
and another each time that the wait has doubled. Quiet commands and calls from Python that show
nothing (runs/console.py) are told nothing here either. Leaves out solving (mcts/exact/solver.py).
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from playout.agents.runs.console import counted, is_silent, short_time
from playout.envs.core.state_batch import StateBatch

__all__ = ["FIRST", "told_wait"]

FIRST = 5.0
"""Seconds after which the first line comes."""


@contextmanager
def told_wait(who: str, states: StateBatch) -> Iterator[None]:
    """While positions are solved inside, says from time to time that it goes on.

    Args:
        who: Solves them.
        states: The positions.
    """
    if is_silent():
        yield
        return
    done, begun = threading.Event(), time.monotonic()

    def tell() -> None:
        wait = FIRST
        while not done.wait(wait):
            spent = time.monotonic() - begun
            with suppress(OSError, ValueError):  # nobody may be listening any more
                print(
                    f"{who} solves {counted(len(states), 'position')} of {states.game}, "
                    f"{short_time(spent)} so far: early ones may take minutes each",
                    file=sys.stderr,
                    flush=True,
                )
            wait = spent

    teller = threading.Thread(target=tell, name="told-wait", daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
