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

_NUMBERS = (signal.SIGINT, signal.SIGTERM)
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
        with _handled(self._handle):
            yield self


def _act_on_both(action: signal.Handlers) -> None:
    for number in _NUMBERS:
        signal.signal(number, action)


@contextmanager
def stop_at_once(left: str) -> Iterator[None]:
    """Lets SIGINT and SIGTERM end the work inside at once, where there is nothing to save.

    Args:
        left: what the person is told is left now.

    Raises:
        Interrupted: a signal came.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        # Threads may still finish what they do; a second signal ends them too.
        _act_on_both(signal.SIG_DFL)
        with suppress(OSError):  # nobody may be listening
            if ranks.is_first():
                os.write(2, f"\nstopped: {left}\n".encode("utf-8", "backslashreplace"))
        raise Interrupted(number)

    with _handled(handle):
        yield


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Lets SIGINT and SIGTERM act only after the work inside, which is short and has to be whole.

    A second one ends the process at once. It would not be enough to block them in this thread: the
    system then hands them to another one, and Python calls the handler in this thread all the same.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        _act_on_both(signal.SIG_DFL)

    with _handled(note):
        yield
    if came:
        signal.raise_signal(came[0])


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Gives SIGINT and SIGTERM to a handler, in the main thread; afterwards they act as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    try:
        for number in _NUMBERS:
            signal.signal(number, handler)
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier if earlier is not None else signal.SIG_DFL)
