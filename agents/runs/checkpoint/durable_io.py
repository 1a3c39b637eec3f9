"""Small durable file operations that the run directory is built from.

A file is written aside, fsynced and renamed; a folder is fsynced after a rename; symbolic links
inside a run directory are never followed, neither for reading nor for writing. Leaves out
everything that knows what the files mean.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from playout.errors import CheckpointError, RunError

MAX_JSON_BYTES = 64 << 20
_CHUNK = 1 << 20


def describe(error: OSError) -> str:
    """The reason of an operating-system error, with what to do about the common ones."""
    hints = {
        errno.ENOSPC: "no space left on the disk; free some and resume",
        errno.EDQUOT: "the disk quota is used up; free some space and resume",
        errno.EROFS: "the file system is read-only",
        errno.EACCES: "permission denied",
        errno.ELOOP: "it is a symbolic link, and links inside a run directory are not followed",
    }
    return hints.get(error.errno or 0, error.strerror or str(error))


def fsync_folder(path: Path) -> None:
    """Make renames and new names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: Any) -> None:
    """Write a whole buffer; `os.write` alone may stop early on a nearly full disk."""
    view = memoryview(data).cast("B")
    while view.nbytes:
        written = os.write(descriptor, view[: 1 << 30])
        view = view[written:]


def write_new(path: Path, chunks: Iterable[Any]) -> tuple[int, str]:
    """Create a file that must not exist, write the chunks, fsync. Returns its size and sha256."""
    digest = hashlib.sha256()
    size = 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)  # less the umask, as everybody's files
    try:
        for chunk in chunks:
            write_all(descriptor, chunk)
            digest.update(chunk)
            size += memoryview(chunk).nbytes
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return size, digest.hexdigest()


def replace_file(path: Path, *chunks: Any) -> None:
    """Write a file aside and rename it over `path`: readers see the old bytes or the new."""
    aside = path.with_name(path.name + ".tmp")
    try:
        remove(aside)
        write_new(aside, chunks)
        os.replace(aside, path)
        fsync_folder(path.parent)
    except OSError as error:
        _try_remove(aside)
        raise RunError(f"cannot write {path}: {describe(error)}") from error


def remove(path: Path) -> None:
    """Delete a file, a link (not what it points at) or a folder, if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)


def _try_remove(path: Path) -> None:
    # What cannot be removed now is swept when the run is next locked.
    with contextlib.suppress(OSError):
        remove(path)


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a regular file without following a link, and without hanging on a pipe or a device."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return descriptor


def open_to_read(path: Path) -> int:
    """Open a regular file for reading; whatever is in the way is a CheckpointError."""
    try:
        return open_regular(path)
    except OSError as error:
        missing = error.errno == errno.ENOENT
        reason = "is missing" if missing else f"cannot be read: {describe(error)}"
        raise CheckpointError(f"{path} {reason}") from error


def read_file(path: Path, max_bytes: int, *, exact: int | None = None) -> bytearray:
    """Read a whole file of at most `max_bytes`; with `exact`, of exactly that size.

    Raises:
        CheckpointError: the file is missing, too large, of another size, a link, or unreadable.
    """
    descriptor = open_to_read(path)
    try:
        size = os.fstat(descriptor).st_size
        if exact is not None and size != exact:
            raise CheckpointError(
                f"{path} has {size} bytes instead of {exact}: it is truncated or was changed"
            )
        if size > max_bytes:
            raise CheckpointError(
                f"{path} has {size} bytes, more than the {max_bytes} that are accepted"
            )
        data = bytearray(size)
        view, done = memoryview(data), 0
        while done < size:
            count = os.readv(descriptor, [view[done : done + (1 << 30)]])
            if count == 0:
                raise CheckpointError(f"{path} became shorter while it was read")
            done += count
        return data
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {describe(error)}") from error
    finally:
        os.close(descriptor)


def _pairs(path: Path) -> Any:
    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise CheckpointError(f"{path} holds a key twice")
        return found

    return collect


def parse_json(data: bytes | bytearray, path: Path) -> Any:
    """Strict JSON: UTF-8, no key twice, no NaN, bounded depth; `path` is for error messages."""

    def refuse(text: str) -> Any:
        raise CheckpointError(f"{path} holds {text}, which is not JSON")

    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=_pairs(path), parse_constant=refuse
        )
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error


def read_json(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read and parse a small JSON file strictly."""
    return parse_json(read_file(path, max_bytes), path)


def encode_json(value: Any) -> bytes:
    """JSON as people like to read it, one trailing newline, the same bytes for the same value."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode("utf-8")


def seal(value: dict[str, Any]) -> dict[str, Any]:
    """Add a digest of the rest under "check": a flipped bit anywhere in the file is noticed."""
    body = {key: item for key, item in value.items() if key != "check"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return {**body, "check": hashlib.sha256(text.encode("utf-8")).hexdigest()}


def check_seal(value: Any, path: Path, format_name: str) -> dict[str, Any]:
    """Return `value` if it is a sealed object of this format."""
    if not isinstance(value, dict) or value.get("format") != format_name:
        raise CheckpointError(f"{path} is not a {format_name} file")
    if seal(value)["check"] != value.get("check"):
        raise CheckpointError(f"{path} was changed or damaged: its digest does not match")
    return value


def sha256(data: Any) -> str:
    """Hexadecimal sha256 of a buffer."""
    return hashlib.sha256(data).hexdigest()


def hash_file(path: Path) -> tuple[int, str]:
    """Size and sha256 of a regular file, read in pieces."""
    descriptor = open_to_read(path)
    digest, size = hashlib.sha256(), 0
    try:
        while chunk := os.read(descriptor, _CHUNK):
            digest.update(chunk)
            size += len(chunk)
    finally:
        os.close(descriptor)
    return size, digest.hexdigest()
