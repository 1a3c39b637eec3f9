"""What the game commands share in telling people and files: a bar, tables, JSON.

The bar goes to the error stream and only to a terminal, so that what a command prints can be piped.
What is reported is the commands' affair.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from playout.agents.runs.durable_io import replace_file
from playout.errors import DataError


class Tell(Protocol):
    """Sets how far a progress bar is."""

    def __call__(self, done: int, text: str = "") -> None:
        """`done` of the total, and a short text beside it."""


def _nothing(done: int, text: str = "") -> None:
    """Shows no progress."""


@contextmanager
def progress(title: str, total: int, *, unit: str, quiet: bool = False) -> Iterator[Tell]:
    """A bar with rate and time left; the function given takes how many are done, and a text."""
    if quiet or not sys.stderr.isatty():
        yield _nothing
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, text="")

        def tell(done: int, text: str = "") -> None:
            bar.update(task, completed=done, text=text)

        yield tell


def must_be_writable(path: Path) -> None:
    """Finds out before the work whether a result can be written to a file.

    Raises:
        DataError: It cannot.
    """
    folder = path.absolute().parent
    if path.is_dir():
        raise DataError(f"cannot write {path}: it is a folder")
    if not folder.is_dir():
        raise DataError(f"cannot write {path}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise DataError(f"cannot write {path}: permission denied")


def write_json(path: Path, value: Any) -> None:
    """Writes a file that readers see whole or not at all; a list of objects gets one line each."""
    if isinstance(value, list):
        text = "[\n" + ",\n".join(json.dumps(item, allow_nan=False) for item in value) + "\n]\n"
        text = text if value else "[]\n"
    else:
        text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    replace_file(path.absolute(), text.encode("utf-8"))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table; the first column is text, the others numbers."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    out = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        out.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        out.add_row(*row)
    # A pipe has no width of its own, and a cut table is of no use there.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(out)


def bar(share: float, width: int = 20) -> str:
    """A share from 0 to 1 as a bar of text."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + ("" if not rest else " ▏▎▍▌▋▊▉"[rest])
