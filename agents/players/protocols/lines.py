"""Lines from a peer that nobody vouches for: bounded, cleaned, and read while a search runs.

`LineReader` reads a text stream on a thread of its own, so that a search can look whether a new
command waits. Lines longer than MAX_LINE are cut, control characters fall away. What lines mean is
left to gtp.py and uci.py.
"""

from __future__ import annotations

import queue
import re
import threading
from typing import IO

MAX_LINE = 4096
"""Characters of a line where nothing else is said."""

_MAX_WAITING = 1000  # lines read ahead of the engine; a peer that sends more has to wait
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def cleaned(line: str, limit: int = MAX_LINE) -> str:
    """A line without control characters, tabs made blanks, cut to `limit` characters."""
    return _CONTROL.sub("", line.replace("\t", " ")).strip()[:limit]


class LineReader:
    """Reads lines ahead.

    Args:
        lines: A text stream, such as standard input.
        limit: Characters of a line; the rest of a longer one is dropped.
    """

    def __init__(self, lines: IO[str], limit: int = MAX_LINE) -> None:
        self._lines, self._limit = lines, limit
        self._queue = queue.Queue[str | None](_MAX_WAITING)
        self._kept: list[str | None] = []
        threading.Thread(target=self._read, name="engine input", daemon=True).start()

    def _read(self) -> None:
        try:
            while line := self._lines.readline(self._limit + 1):
                end = line
                while len(end) > self._limit and not end.endswith("\n"):
                    end = self._lines.readline(self._limit + 1)
                self._queue.put(line[: self._limit])
        except (OSError, ValueError):  # the stream was closed, or holds what is no text
            pass
        self._queue.put(None)

    def next(self) -> str | None:
        """The next line, waiting for it; None at the end of input, and ever after."""
        if not self._kept:
            self._kept.append(self._queue.get())
        return self._kept.pop() if self._kept[0] is not None else None

    def peek(self) -> tuple[bool, str | None]:
        """(True, the next line) if there is one or the input is over, without taking it."""
        if not self._kept:
            try:
                self._kept.append(self._queue.get_nowait())
            except queue.Empty:
                return False, None
        return True, self._kept[0]

    @property
    def waiting(self) -> bool:
        """Does a line wait, or is the input over?"""
        return self.peek()[0]
