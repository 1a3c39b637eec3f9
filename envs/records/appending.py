"""Adding text to a file of records: one write under a lock, taken back if it fails.

What formats have in common (json_lines.py, pgn.py); what the text says is theirs.
"""

from __future__ import annotations

import fcntl
import os

from playout.errors import DataError


def append_text(path: str | os.PathLike[str], text: str, *, remedy: str = "") -> None:
    """Adds text that ends with a line's end to a file (made if missing): all of it or nothing.

    Args:
        path: The file.
        text: UTF-8 is written.
        remedy: What to do about a file whose last line is cut off, for the error's text.

    Raises:
        DataError: The file's last line is cut off, or UTF-8 cannot hold the text.
        OSError: The disk is full, or the file cannot be written.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        what = error.object[error.start].encode("unicode_escape").decode()
        raise DataError(f"{what} is half a character, which a file cannot hold") from None
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            raise DataError(f"{os.fspath(path)}: the last line is cut off{remedy}")
        try:
            written = 0
            while written < len(data):
                written += os.write(descriptor, data[written:])
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
