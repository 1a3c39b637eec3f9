"""metrics.jsonl, the truth about a run: one JSON object an update, cut back on resume.

A row is {"update", "step", tag: value ...}. Keys below time/ depend on the clock and take no part
in "the same run gives the same metrics". Values that are not finite become null. The digest of all
rows so far goes into each checkpoint. Leaves out TensorBoard (tensorboard.py).
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from playout.agents.runs.checkpoint import durable_io
from playout.errors import CheckpointError, RunError

FILE = "metrics.jsonl"
_MAX_LINE = 1 << 20


def encode_row(update: int, step: int, metrics: Mapping[str, float]) -> bytes:
    """One line of the file."""
    row: dict[str, Any] = {"update": update, "step": step}
    for key, value in metrics.items():
        number = float(value)
        whole = isinstance(value, int) and not isinstance(value, bool)
        row[key] = value if whole else number if math.isfinite(number) else None
    return (json.dumps(row, separators=(",", ":"), allow_nan=False) + "\n").encode("utf-8")


class MetricsLog:
    """Appends rows to a run's metrics.jsonl.

    Args:
        folder: the run directory.
        resume: what `mark()` returned at the checkpoint that training continues from; rows after it
            are cut off. None starts anew.

    Raises:
        CheckpointError: the rows up to the checkpoint are not those that were written.
        RunError: the file cannot be opened or written.
    """

    def __init__(self, folder: Path, resume: Mapping[str, Any] | None = None) -> None:
        self._path = folder / FILE
        self._hash = hashlib.sha256()
        self._size = 0
        self._entered = False
        try:
            self._descriptor = durable_io.open_regular(self._path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise RunError(f"cannot open {self._path}: {durable_io.describe(error)}") from error
        try:
            if resume is not None and os.fstat(self._descriptor).st_size:
                self._skip(resume)
            os.ftruncate(self._descriptor, self._size)
            os.lseek(self._descriptor, self._size, os.SEEK_SET)
        except BaseException:
            os.close(self._descriptor)
            raise

    def _skip(self, resume: Mapping[str, Any]) -> None:
        size, digest = resume.get("bytes"), resume.get("sha256")
        if type(size) is not int:
            raise CheckpointError(f"the checkpoint does not say how long {self._path} was")
        while self._size < size:
            chunk = os.read(self._descriptor, min(1 << 20, size - self._size))
            if not chunk:
                break
            self._hash.update(chunk)
            self._size += len(chunk)
        if self._size != size or self._hash.hexdigest() != digest:
            raise CheckpointError(
                f"{self._path} is not what it was at the checkpoint: it was shortened, edited or "
                "damaged; move it away to continue with an empty log"
            )

    def append(self, update: int, step: int, metrics: Mapping[str, float]) -> None:
        """Add a row (in the operating system's hands at once, on the disk at the next `mark`)."""
        line = encode_row(update, step, metrics)
        try:
            durable_io.write_all(self._descriptor, line)
        except OSError as error:
            raise RunError(f"cannot write {self._path}: {durable_io.describe(error)}") from error
        self._hash.update(line)
        self._size += len(line)

    def mark(self) -> dict[str, Any]:
        """Make all rows durable; returns what a checkpoint needs to know to come back here."""
        try:
            os.fsync(self._descriptor)
            if not self._entered:
                # The file's name must outlive a power cut too: the checkpoint relies on the rows.
                durable_io.fsync_folder(self._path.parent)
                self._entered = True
        except OSError as error:
            raise RunError(f"cannot write {self._path}: {durable_io.describe(error)}") from error
        return {"bytes": self._size, "sha256": self._hash.hexdigest()}

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def last_measures(folder: Path) -> dict[str, float]:
    """The latest number of each measure below eval/ in a run's metrics; see `read_rows`."""
    return {
        key: value
        for row in read_rows(folder)
        for key, value in row.items()
        if key.startswith("eval/") and value is not None
    }


def read_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of a run's metrics, oldest first; an unfinished last line is left out.

    Raises:
        CheckpointError: a line is not a row.
    """
    path = folder / FILE
    if not path.exists() and not path.is_symlink():
        return
    with os.fdopen(durable_io.open_to_read(path), "rb") as file:
        number = 0
        while line := file.readline(_MAX_LINE):
            number += 1
            if not line.endswith(b"\n"):
                if len(line) >= _MAX_LINE:
                    raise CheckpointError(f"{path} line {number} is too long")
                return
            row = durable_io.parse_json(line, path)
            if not isinstance(row, dict) or type(row.get("step")) is not int:
                raise CheckpointError(f"{path} line {number} is not a row of metrics")
            yield row
