"""SIGINT and SIGTERM: a request to end soon, or an end at once where there is nothing to save.

Python calls handlers in the main thread only; elsewhere both leave signals as they are. Leaves out
what is saved before the end (loop.py).
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from playout.agents.runs import ranks

_ECHO = 1.0  # seconds in which a job's ranks are asked again by torchrun


class Interrupted(SystemExit):
    """Training stopped on a signal after saving; the exit code is 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = number


class Signals:
    """Turns the first SIGINT or SIGTERM into a request; the second acts as if nobody had asked.

    In a job it has to come a second later: what asks all processes of a machine asks torchrun as
    well, which passes it on to its ranks.

    Args:
        notify: is called when the request comes; in a job only within `heeded`, for an update must
            not end early on one rank alone.
    """

    def __init__(self, notify: Callable[[], None]) -> None:
        self.received = 0
        self.notify = notify
        self.heeding = ranks.world() == 1

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        # The default action needs no interpreter: a second Ctrl-C ends even a native call.
        job = ranks.world() > 1
        _act_on_both(signal.SIG_IGN if job else signal.SIG_DFL)
        text = "\nstopping: finishing this update, then saving (again to stop at once)\n"
        show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
        if ranks.is_first():
            with suppress(OSError):  # nobody may be listening
                os.write(2, (show_cursor + text).encode("ascii"))
        if job:
            time.sleep(_ECHO)  # what comes meanwhile is dropped, and not put off
            _act_on_both(signal.SIG_DFL)
        if self.heeding:
            self.notify()

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Work of this rank alone, which a request may end, or one that came before."""
        before, self.heeding = self.heeding, True
        if self.received and not before:
            self.notify()
        try:
            yield
        finally:
            self.heeding = before

    @contextmanager
    def watch(self) -> Iterator["Signals"]:
        """Within, requests are taken note of; before and after, signals act as they did."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for number in before:
                signal.signal(number, self._handle)
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _act_on_both(action: signal.Handlers) -> None:
    signal.signal(signal.SIGINT, action)
    signal.signal(signal.SIGTERM, action)


@contextmanager
def stop_at_once(left: str) -> Iterator[None]:
    """Lets SIGINT and SIGTERM end the work inside at once, where there is nothing to save.

    Args:
        left: what the person is told is left now.

    Raises:
        Interrupted: a signal came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        # Threads may still finish what they do; a second signal ends them too.
        _act_on_both(signal.SIG_DFL)
        with suppress(OSError):  # nobody may be listening
            if ranks.is_first():
                os.write(2, f"\nstopped: {left}\n".encode("utf-8", "backslashreplace"))
        raise Interrupted(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
