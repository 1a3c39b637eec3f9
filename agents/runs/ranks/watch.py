"""Notices a rank that is stopped or whose machine is gone, and lets one rank alone say so.

Each rank counts up a number in torchrun's store every few seconds, from a thread of its own, so
that long work is no silence. Rank 0 reads all numbers, the others that of rank 0. Whoever finds one
that stands still for a minute says which, and every process ends. A process that dies is noticed
earlier: its connections break (messages.py).
"""

import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from playout.agents.runs.ranks.place import is_first, rank, world
from playout.errors import ConfigError

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

LIMIT = "PLAYOUT_RANK_TIMEOUT"
"""The variable that sets how many seconds a rank may be silent."""

_SILENCE = 60.0  # seconds
_BEATS = 12  # so many in that time
_LEFT = 1 << 40  # the number of a rank that has finished its work
EXIT_CODE = 2

_watch: list["_Watch"] = []


def begin(token: str) -> None:
    """Start to watch and to be watched.

    Args:
        token: A word that all ranks of this job share, and no other job.
    """
    _watch.append(_Watch(token, _limit()))
    _watch[0].thread.start()
    atexit.register(_watch[0].leave)


def _limit() -> float:
    text = os.environ.get(LIMIT, str(_SILENCE))
    with contextlib.suppress(ValueError):
        if 0 < (found := float(text)) < 1e7:
            return found
    raise ConfigError(f"the variable {LIMIT} must be a positive number of seconds, not {text!r}")


def may_speak() -> bool:
    """Whether this rank is the one that says why the job ends: the first that asks."""
    if not _watch:
        return True
    with contextlib.suppress(RuntimeError):  # the store went with the machine that had it
        return int(_watch[0].connect().add(f"{_watch[0].token}/said", 1)) == 1
    return True


class Silences:
    """How long each rank's number has stood still, by this rank's clock.

    Args:
        ranks: Who is watched.
        now: Seconds, as all times here.
    """

    def __init__(self, ranks: Iterable[int], now: float) -> None:
        self._seen = dict.fromkeys(ranks, (-1, now))
        self._checked = now

    def add(self, numbers: dict[int, int], now: float, *, limit: float) -> list[int]:
        """Take note of the numbers; returns the ranks that have been silent for the limit.

        Where this process itself stood still, nobody can be blamed: all begin anew.
        """
        paused = now - self._checked > limit / 2
        self._checked = now
        for one, number in numbers.items():
            if paused or number >= _LEFT or self._seen[one][0] != number:
                self._seen[one] = (number, now)
        return [one for one, (_, since) in self._seen.items() if now - since >= limit]


class _Watch:
    """The thread that counts up and looks at the others."""

    def __init__(self, token: str, limit: float) -> None:
        self.token, self.limit = f"playout/{token}", limit
        self.thread = threading.Thread(target=self._run, name="playout-ranks", daemon=True)
        self._leaving = threading.Event()

    def connect(self) -> "Store":
        """A connection to torchrun's store; each thread needs its own.

        Raises:
            RuntimeError: The store is gone.
        """
        from datetime import timedelta

        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        wait = timedelta(seconds=min(self.limit, 10.0))
        return TCPStore(host, port, None, False, timeout=wait, wait_for_workers=False)

    def leave(self) -> None:
        """End the watch, as a process does that has finished: its silence is none."""
        self._leaving.set()
        self.thread.join(self.limit)

    def _run(self) -> None:
        try:
            self._watch(self.connect())
        except RuntimeError:
            # Rank 0's machine is gone, or the whole job ends; what the main thread says is better.
            if not self._leaving.wait(self.limit):
                self._end("the machine of rank 0 does not answer any more")

    def _watch(self, store: "Store") -> None:
        watched = [one for one in range(world()) if one] if is_first() else [0]
        silences = Silences(watched, time.monotonic())
        while not self._leaving.is_set():
            store.add(f"{self.token}/{rank()}", 1)
            if store.add(f"{self.token}/over", 0):
                time.sleep(self.limit / _BEATS)  # for the one that speaks
                os._exit(EXIT_CODE)
            numbers = {one: int(store.add(f"{self.token}/{one}", 0)) for one in watched}
            if silent := silences.add(numbers, time.monotonic(), limit=self.limit):
                store.add(f"{self.token}/over", 1)
                names = ", ".join(str(one) for one in silent[:8])
                self._end(f"rank {names} has not answered for {self.limit:g} s")
            self._leaving.wait(self.limit / _BEATS)
        store.add(f"{self.token}/{rank()}", _LEFT)

    def _end(self, reason: str) -> None:
        if may_speak():
            show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
            text = f"{show_cursor}\nerror: {reason}; the job ends, its run is as last saved\n"
            with contextlib.suppress(OSError):  # nobody may be listening
                os.write(2, text.encode("ascii", "replace"))
        os._exit(EXIT_CODE)
