"""What commands print and write: JSON, tables, bars of text.

A result goes into a file that readers see whole or not at all, or with `-` to standard output; then
nothing else is printed there. Its parts are noted as they are complete, for a command that a signal
ends. What is reported is the commands' affair; progress is console.py's.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.errors import DataError

_STDOUT = Path("-")
_noted: ContextVar[dict[str, Any] | None] = ContextVar("noted", default=None)
_json_stream: list[TextIO] = []  # standard output, while everything but JSON goes elsewhere


@contextlib.contextmanager
def only_json(path: Path | None) -> Iterator[None]:
    """With `--json -`, whatever else is printed meanwhile goes to the error stream."""
    if path != _STDOUT:
        yield
        return
    _json_stream.append(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _json_stream.pop()


def as_typed(program: str = "playout") -> str:
    """How a program of this installation is started from the folder where this command was.

    Args:
        program: Its name: playout, or another that was installed beside it.

    Returns:
        The name where PATH leads to it; else with the folder that was typed: ".venv/bin/playout".
    """
    folder, started = os.path.split(sys.argv[0])
    beside, found = os.path.join(folder, program), shutil.which(program)
    if started != "playout" or not os.path.exists(beside):
        return program
    if found is not None and os.path.samefile(found, beside):
        return program
    return shlex.quote(beside)


def as_word(path: str | os.PathLike[str]) -> str:
    """A path as one word of a command line that is printed."""
    return shlex.quote(os.fspath(path))


def must_be_writable(path: Path) -> None:
    """Finds out before the work whether a result can be written to a file.

    Raises:
        DataError: It cannot.
    """
    folder = path.absolute().parent
    if path == _STDOUT:
        return
    if path.is_dir():
        raise DataError(f"cannot write {path}: it is a folder")
    if not folder.is_dir():
        raise DataError(f"cannot write {path}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise DataError(f"cannot write {path}: permission denied")


def _finite(value: Any) -> Any:
    """JSON has no NaN: what has no value is null, as in metrics.jsonl."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> None:
    """Writes a result to a file, or with `-` to standard output; each item of a list is a line."""
    value = _finite(value)
    if isinstance(value, list):
        text = ",\n".join(json.dumps(item, ensure_ascii=False) for item in value)
        text = f"[\n{text}\n]\n" if value else "[]\n"
    else:
        text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    data = text.encode("utf-8", "backslashreplace")  # half a surrogate pair: as JSON escapes it
    if path == _STDOUT:
        stream = _json_stream[-1] if _json_stream else sys.stdout
        print(data.decode(), end="", file=stream, flush=True)
    else:
        replace_file(path.absolute(), data)


def note_found(found: Mapping[str, Any]) -> None:
    """Keeps parts of a result that are complete; nothing where nobody asks for them."""
    kept = _noted.get()
    if kept is not None:
        kept.update(found)


def noted() -> Mapping[str, Any]:
    """What was noted until now; nothing where nobody asks for it."""
    return dict(_noted.get() or {})


@contextlib.contextmanager
def keep_noted() -> Iterator[dict[str, Any]]:
    """Gives a dictionary of what is noted inside."""
    kept: dict[str, Any] = {}
    before = _noted.set(kept)
    try:
        yield kept
    finally:
        _noted.reset(before)


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
