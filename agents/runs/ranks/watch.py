"""Notices a rank that is stopped, stuck or whose machine is gone, and lets one rank alone say so.

Each rank counts up a number in torchrun's store every few seconds, from a thread of its own, so
that long work is no silence. Rank 0 reads all numbers, the others that of rank 0. Whoever finds one
that stands still for a minute says which, and every process ends. So it is where a rank comes to no
message for an hour while others have, or where the store itself does not answer. A process that
dies is noticed earlier: its connections break (messages.py).
"""

import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from playout.agents.runs.ranks.place import is_first, local_rank, rank, world
from playout.errors import ConfigError

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

LIMIT = "PLAYOUT_RANK_TIMEOUT"
"""The variable that sets how many seconds a rank may be silent."""
LAG = "PLAYOUT_RANK_LAG"
"""The variable that sets how many seconds a rank may keep others waiting; no less than LIMIT."""

_SILENCE = 60.0  # seconds
_BEATS = 12  # so many in that time
_WAITING = 3600.0  # seconds
_PATIENCE = 10.0  # seconds for an answer of the store, at most
_LEFT = 1 << 40  # the number of a rank that has finished its work
EXIT_CODE = 2

_watch: list["_Watch"] = []


def begin(token: str, messages: Callable[[], int]) -> None:
    """Start to watch and to be watched.

    Args:
        token: A word that all ranks of this job share, and no other job.
        messages: How many messages this rank has come to.
    """
    _watch.append(_Watch(token, messages, _seconds(LIMIT, _SILENCE), _seconds(LAG, _WAITING)))
    _watch[0].begin()
    atexit.register(_watch[0].leave)


def _seconds(variable: str, usual: float) -> float:
    text = os.environ.get(variable, str(usual))
    with contextlib.suppress(ValueError):
        if 0 < (found := float(text)) < 1e7:
            return found
    raise ConfigError(f"the variable {variable} must be a positive number of seconds, not {text!r}")


def may_speak() -> bool:
    """Whether this rank is the one that says why the job ends: the first that asks.

    Where nobody can be asked, because the ranks have not met or the store is gone, it is the first
    rank of each machine.
    """
    said = _watch[0].ask() if _watch else None
    return local_rank() == 0 if said is None else said


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
    """The threads that count up, look at the others, and see that this goes on."""

    def __init__(
        self, token: str, messages: Callable[[], int], limit: float, waiting: float
    ) -> None:
        self.token, self.limit, self.waiting = f"playout/{token}", limit, max(limit, waiting)
        self.rounds = 0  # of the first thread
        self._messages, self._told = messages, 0
        self._leaving = threading.Event()
        self._looks = threading.Thread(target=self._run, name="playout-ranks", daemon=True)
        self._guards = threading.Thread(target=self._guard, name="playout-store", daemon=True)

    def begin(self) -> None:
        """Start both threads."""
        self._looks.start()
        self._guards.start()

    def _connect(self) -> "Store":
        """A connection to torchrun's store; each thread needs its own.

        Raises:
            RuntimeError: The store is gone.
        """
        from datetime import timedelta

        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        wait = timedelta(seconds=min(self.limit, _PATIENCE))
        return TCPStore(host, port, None, False, timeout=wait, wait_for_workers=False)

    def ask(self) -> bool | None:
        """Whether nobody has asked before; None where the store does not answer."""
        found: list[bool] = []

        def ask() -> None:
            with contextlib.suppress(RuntimeError):
                found.append(self._connect().add(f"{self.token}/said", 1) == 1)

        # What a machine that is gone was asked has no end of its own.
        asking = threading.Thread(target=ask, name="playout-said", daemon=True)
        asking.start()
        asking.join(min(self.limit, _PATIENCE))
        return found[0] if found else None

    def leave(self) -> None:
        """End the watch, as a process does that has finished: its silence is none."""
        self._leaving.set()
        self._looks.join(min(self.limit, _PATIENCE))

    def _run(self) -> None:
        with contextlib.suppress(RuntimeError):  # the store is gone: that is the guard's
            self._watch(self._connect())

    def _guard(self) -> None:
        """End this process where the store does not answer: it went with the machine of rank 0."""
        silence = Silences([0], time.monotonic())
        while not self._leaving.wait(self.limit / _BEATS):
            if silence.add({0: self.rounds}, time.monotonic(), limit=self.limit):
                where = "torchrun's store, on the machine of rank 0,"
                self._say(f"{where} has not answered for {self.limit:g} s")
                os._exit(EXIT_CODE)

    def _watch(self, store: "Store") -> None:
        watched = [one for one in range(world()) if one] if is_first() else [0]
        silences = Silences(watched, time.monotonic())
        lags = Silences(range(world()), time.monotonic())
        while not self._leaving.is_set():
            store.add(f"{self.token}/{rank()}", 1)
            new = self._messages() - self._told
            self._told += new
            store.add(f"{self.token}/{rank()}/messages", new)
            if store.add(f"{self.token}/over", 0):
                os._exit(EXIT_CODE)
            numbers = {one: int(store.add(f"{self.token}/{one}", 0)) for one in watched}
            if silent := silences.add(numbers, time.monotonic(), limit=self.limit):
                self._end_all(store, silent, f"not answered for {self.limit:g} s")
            if is_first() and (late := self._late(store, numbers, lags)):
                self._end_all(store, late, f"kept the others waiting for {self.waiting:g} s")
            self.rounds += 1
            self._leaving.wait(self.limit / _BEATS)
        store.add(f"{self.token}/{rank()}", _LEFT)

    def _late(self, store: "Store", numbers: dict[int, int], lags: Silences) -> list[int]:
        """The ranks that have come to no message for long, though others have."""
        came = {one: int(store.add(f"{self.token}/{one}/messages", 0)) for one in range(world())}
        most = max(came.values())
        behind = {
            one: count if count < most and numbers.get(one, 0) < _LEFT else _LEFT
            for one, count in came.items()
        }
        return lags.add(behind, time.monotonic(), limit=self.waiting)

    def _end_all(self, store: "Store", ranks: list[int], what: str) -> None:
        self._say(f"rank {', '.join(str(one) for one in ranks[:8])} has {what}")
        store.add(f"{self.token}/over", 1)  # afterwards: an end would be another reason to speak
        os._exit(EXIT_CODE)

    def _say(self, reason: str) -> None:
        if may_speak():
            show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
            text = f"{show_cursor}\nerror: {reason}; the job ends, its run is as last saved\n"
            with contextlib.suppress(OSError):  # nobody may be listening
                os.write(2, text.encode("ascii", "replace"))
