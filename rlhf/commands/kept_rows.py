"""Rows of a result file as they come: a command that is stopped leaves what is done.

The file is written anew from time to time, whole each time: a list, or a line a row where its name
ends in .jsonl. Standard output is written once, at the end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from playout.agents.runs.reporting import must_be_writable, write_json
from playout.rlhf.data.rows import suffix_of, write_rows

SECONDS = 10.0  # after which rows are written that have come since
SHARE = 10.0  # at least so many times what writing them took
STDOUT = Path("-")


class KeptRows:
    """What is written of each row, by number.

    Args:
        path: The file.
        total: Rows that there will be.
        what: What they are, as a line of progress names them: "texts scored".

    Raises:
        DataError: The file cannot be written.
    """

    def __init__(self, path: Path, total: int, what: str) -> None:
        must_be_writable(path)
        self.path, self.total, self.what = path, total, what
        self._items: dict[int, Mapping[str, Any]] = {}
        self._saved = 0
        self._next = time.monotonic() + SECONDS

    def take(self, items: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Some more are complete, each with its number."""
        self._items.update(items)
        if time.monotonic() > self._next and self.path != STDOUT:
            self.save()
            progress(len(self._items), self.total, self.what)

    def save(self) -> None:
        """Write what is there, if there is more than before."""
        if len(self._items) == self._saved:
            return
        begun, self._saved = time.monotonic(), len(self._items)
        write(self.path, [self._items[row] for row in sorted(self._items)])
        now = time.monotonic()
        self._next = now + max(SECONDS, SHARE * (now - begun))


def write(path: Path, rows: list[Mapping[str, Any]]) -> None:
    """Rows as a list, or as lines."""
    if suffix_of(path) == ".jsonl":
        write_rows(path, rows)
    else:
        write_json(path, rows)


def progress(done: int, total: int, what: str) -> None:
    """A line for people who watch, while there is more to come."""
    if done < total and sys.stderr.isatty():
        print(f"{done} of {total} {what}", file=sys.stderr)
