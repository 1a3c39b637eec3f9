"""Rows of data wherever they lie: Python lists, JSON lines, CSV, Parquet, folders, the hub.

A row is a dictionary; what its fields mean is records.py's. Every row comes with the words that
name its place in an error ("file, line 3"). Parquet needs pyarrow, saved data sets and `hub:NAME`
the datasets library; both come with `pip install 'playout[data]'`. No row is skipped; of a folder
or data set with a split named train, that one is read.
"""

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from playout.agents.runs.checkpoint.durable_io import replace_file
from playout.errors import DataError

__all__ = [
    "Row",
    "Source",
    "at_row",
    "check_text",
    "csv_lines",
    "name_of",
    "number_field",
    "read_bytes",
    "read_rows",
    "read_split",
    "suffix_of",
    "text_field",
    "to_text",
    "with_split",
    "write_rows",
]

MAX_BYTES = 1 << 30
Row = dict[str, Any]
Source = str | os.PathLike[str] | Iterable[Mapping[str, Any]]
"""A file, a folder, `hub:NAME[@CONFIG][:split]`, or the rows themselves."""

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


def suffix_of(path: str | os.PathLike[str]) -> str:
    """The end of a file's name in lower case, such as `.csv` of DATA.CSV."""
    return Path(path).suffix.lower()


def name_of(source: object) -> str:
    """What errors call a source: its path, or that the rows were given."""
    return os.fspath(source) if isinstance(source, str | os.PathLike) else "the list given"


@contextmanager
def at_row(where: str) -> Iterator[None]:
    """Inside, a DataError begins with the words that name a row's place, if there are any."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{where}: {error}" if where else str(error)) from None


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file of bounded size."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} is larger than {MAX_BYTES >> 20} MiB; split it")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def to_text(data: bytes, source: str) -> str:
    """UTF-8 bytes as text; DataError naming the place of a wrong byte."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{source} is not UTF-8 text: byte {data[error.start]:#04x} in line {line}"
        ) from None


def read_rows(source: Source) -> Iterator[tuple[str, Row]]:
    """(words that name its place, row) of every row of a source, in order.

    Args:
        source: Dictionaries, a .jsonl, .json (a list of objects), .csv or .parquet file, a folder
            (saved by the datasets library, or of such files), or `hub:NAME[@CONFIG][:split]`.

    Raises:
        DataError: It cannot be read, or a row of it is none.
    """
    if not isinstance(source, str | os.PathLike):
        for number, row in enumerate(source, 1):
            if not isinstance(row, Mapping):
                raise DataError(f"row {number} should be a dictionary, not {type(row).__name__}")
            yield f"row {number}", dict(row)
        return
    if str(source).startswith("hub:"):
        yield from _hub_rows(str(source))
        return
    path = Path(source)
    if path.is_dir():
        yield from _folder_rows(path)
    elif suffix_of(path) == ".parquet":
        yield from _parquet_rows(path)
    elif suffix_of(path) == ".csv":
        yield from _csv_rows(path)
    elif suffix_of(path) in (".jsonl", ".json"):
        yield from _json_rows(path)
    else:
        raise DataError(
            f"{path}: the name should end in {', '.join(SUFFIXES)}; plain text is for pretrain "
            "--text and for prompts"
        )


def read_split(source: str | Path, split: str) -> Iterator[tuple[str, Row]]:
    """`read_rows`; of the hub those of a split if none is named, or of train if there is no such.

    Raises:
        DataError: As of read_rows.
    """
    named = with_split(str(source), split)
    if not str(source).startswith("hub:") or named == str(source):
        yield from read_rows(source)
        return
    try:
        found = [*read_rows(named)]
    except DataError as error:
        if "Unknown split" not in str(error):
            raise
        found = [*read_rows(source)]
    yield from found


def _csv_rows(path: Path) -> Iterator[tuple[str, Row]]:
    lines = csv_lines(path)
    _, header = next(lines, ("", []))
    for where, fields in lines:
        if len(fields) != len(header):
            raise DataError(f"{where}: not as many fields as the header has")
        yield where, dict(zip(header, fields, strict=True))


def csv_lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(words that name its last line, fields) of every row of CSV, a header included.

    Raises:
        DataError: It cannot be read, or is no CSV; empty lines are passed over.
    """
    csv.field_size_limit(MAX_BYTES)  # a document may be a field; the usual limit is 128 KiB
    reader = csv.reader(io.StringIO(to_text(read_bytes(path), str(path)), newline=""))
    try:
        for fields in reader:
            if fields:
                yield f"{path}, line {reader.line_num}", fields
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV: {error}") from None


def _json_rows(path: Path) -> Iterator[tuple[str, Row]]:
    text = to_text(read_bytes(path), str(path))
    if suffix_of(path) == ".json" and text.lstrip().startswith("["):
        found = _parsed(text, str(path))
        rows = [(f"{path}, row {number}", row) for number, row in enumerate(found, 1)]
    else:
        # Not splitlines(): U+2028 and its like may stand inside a JSON string.
        lines = enumerate(text.split("\n"), 1)
        kept = ((f"{path}, line {number}", line) for number, line in lines if line.strip())
        rows = ((where, _parsed(line, where)) for where, line in kept)  # type: ignore[assignment]
    for where, row in rows:
        if not isinstance(row, dict):
            raise DataError(f"{where}: should be an object")
        yield where, row


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON: {error}") from None


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        import pyarrow  # type: ignore[import-not-found,import-untyped,unused-ignore]
        from pyarrow import parquet  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise DataError(f"{path} needs pyarrow: pip install 'playout[data]'") from None
    try:
        number = 0
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _folder_rows(folder: Path) -> Iterator[tuple[str, Row]]:
    """A saved data set, or the files of a folder; of several splits the one named train."""
    if any((folder / name).exists() for name in ("dataset_info.json", "dataset_dict.json")):
        yield from _saved_rows(folder)
        return
    files = sorted(path for path in folder.rglob("*") if suffix_of(path) in SUFFIXES)
    for suffix in (".parquet", *SUFFIXES):  # the same rows may lie there in several forms
        if same := [path for path in files if suffix_of(path) == suffix]:
            files = same
            break
    if not files:
        raise DataError(f"{folder} holds no {', '.join(SUFFIXES)} file and no saved data set")
    learned = [path for path in files if _is_learned(path.relative_to(folder))]
    for path in learned or files:
        yield from read_rows(path)


def _is_learned(path: Path) -> bool:
    """Whether a path's innermost name of a split, the file's or a folder's, is that for training.

    As a word: constraints.jsonl names no split.
    """
    for name in reversed([*path.parent.parts, path.stem]):
        words = set(re.split("[^a-z]+", name.lower()))
        if words & {"train", "training"}:
            return True
        if words & {"test", "testing", "validation", "valid", "val", "dev", "eval"}:
            return False
    return False


def _saved_rows(folder: Path) -> Iterator[tuple[str, Row]]:
    datasets = _library(str(folder))
    try:
        found = datasets.load_from_disk(str(folder))
        yield from _numbered(_train_split(found, str(folder)), str(folder))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} cannot be read: {_first_line(error)}") from None


def with_split(name: str, split: str) -> str:
    """`hub:NAME[@CONFIG]:SPLIT`: the name as it is, or with `split` where it names none."""
    return name if ":" in name.removeprefix("hub:") else f"{name}:{split}"


def _hub_rows(name: str) -> Iterator[tuple[str, Row]]:
    datasets = _library(name)
    path, _, split = with_split(name, "train").removeprefix("hub:").partition(":")
    path, _, config = path.partition("@")
    try:
        found = datasets.load_dataset(path, config or None, split=split)
        yield from _numbered(found, name)
    except (OSError, ValueError, RuntimeError) as error:  # the last of one that is a program
        raise DataError(f"{name} cannot be loaded: {_first_line(error)}") from None


def _library(name: str) -> Any:
    try:
        import datasets  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        raise DataError(f"{name} needs the datasets library: pip install 'playout[data]'") from None
    return datasets


def _train_split(found: Any, name: str) -> Any:
    if not isinstance(found, dict):
        return found
    if "train" not in found:
        splits = ", ".join(found)
        raise DataError(f"{name} has no split train; name the folder of one of {splits}")
    return found["train"]


def _numbered(rows: Iterable[Row], name: str) -> Iterator[tuple[str, Row]]:
    for number, row in enumerate(rows, 1):
        yield f"{name}, row {number}", dict(row)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as JSON lines, whole or not at all.

    Raises:
        DataError: A row holds what JSON cannot.
    """
    lines = []
    for where, row in read_rows(rows):
        try:
            lines.append(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        except (TypeError, ValueError) as error:
            raise DataError(f"{where} cannot be kept with the run: {error}") from None
    replace_file(path, "".join(lines).encode("utf-8", "surrogatepass"))


def text_field(row: Row, where: str, *names: str, empty: bool = False) -> str:
    """The first of the named fields that the row has, as text; DataError if there is none.

    Args:
        row: A row.
        where: Names it in errors.
        names: Fields, the first of which errors name.
        empty: Whether nothing but spaces is allowed.
    """
    for name in names:
        if name in row and row[name] is not None:
            value = row[name]
            if not isinstance(value, str):
                raise DataError(f"{where}: {name} should be text")
            check_text(value, where, name)
            if not empty and not value.strip():
                raise DataError(f"{where}: {name} is empty")
            return value
    found = ", ".join(sorted(map(str, row))) or "none"
    raise DataError(f"{where}: there is no field {names[0]!r} (there are: {found})")


def check_text(value: str, where: str, name: str) -> None:
    """Refuse a text with half a surrogate pair, which no tokenizer reads; DataError names it."""
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise DataError(f"{where}: {name} holds half a surrogate pair, which is no text")


def number_field(value: Any, where: str, name: str) -> float:
    """A finite number out of a field's value; DataError if it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise DataError(f"{where}: {name}={value!r} is not a number")
    return number
