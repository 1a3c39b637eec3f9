"""Records of text, and the local files that hold them: text, JSON lines and CSV.

Five kinds: plain texts, demonstrations, labelled texts, rated texts and preferences. A reader
either returns every record or raises DataError naming file, line and fault. Downloads are
downloads.py's, made-up text is synthetic.py's, token ids and batches are batches.py's.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from playout.errors import DataError

__all__ = [
    "Demonstration",
    "Labelled",
    "Preference",
    "Rated",
    "merge_votes",
    "read_demonstrations",
    "read_labelled",
    "read_preferences",
    "read_prompts",
    "read_rated",
    "read_texts",
    "split_by_text",
]

MAX_BYTES = 1 << 30
T = TypeVar("T")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt and the answer to imitate."""

    prompt: str
    response: str


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text and the name of its class."""

    text: str
    label: str


@dataclass(frozen=True, slots=True)
class Rated:
    """A text and what each rater thought of it."""

    text: str
    ratings: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean rating."""
        return float(np.mean(self.ratings))


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to a prompt and the votes between them; a vote may be a tie."""

    prompt: str
    first: str
    second: str
    wins: float = 1.0
    """Votes for the first."""
    losses: float = 0.0
    """Votes for the second."""
    ties: float = 0.0
    """Votes for neither."""
    margin: float = 0.0
    """By how much the winner's score should lead; 0 asks for no more than the order."""


def split_by_text(
    items: Sequence[T], share: float, *, texts: Callable[[T], Sequence[str]], seed: int = 0
) -> tuple[list[T], list[T]]:
    """Two lists, the second with about `share` of all texts, no text on both sides.

    A text's side is a function of the text and the seed alone, so equal texts stay together and a
    longer file keeps the sides of what it already held. An item whose texts lie on both sides is
    in neither list.
    """
    limit = int(share * 2**32)

    def held_out(text: str) -> bool:
        digest = hashlib.sha256(f"{seed}\n{' '.join(text.split()).lower()}".encode()).digest()
        return int.from_bytes(digest[:4], "little") < limit

    train: list[T] = []
    test: list[T] = []
    for item in items:
        sides = {held_out(text) for text in texts(item)}
        if len(sides) == 1:
            (test if sides.pop() else train).append(item)
    return train, test


# Reading


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


def _rows(path: str | Path) -> Iterator[tuple[str, Row]]:
    """("file, line n", record) of a .jsonl or .csv file."""
    path = Path(path)
    text = to_text(read_bytes(path), str(path))
    if path.suffix == ".csv":
        reader = csv.DictReader(io.StringIO(text, newline=""))
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise DataError(f"{where}: not as many fields as the header has")
            yield where, row
        return
    if path.suffix not in (".jsonl", ".json"):
        raise DataError(f"{path}: the name should end in .jsonl or .csv")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f"{where}: should be an object")
        yield where, row


def _field(row: Row, where: str, *names: str, empty: bool = False) -> str:
    """The first of the named fields that the row has, as text."""
    for name in names:
        if name in row:
            value = row[name]
            if not isinstance(value, str):
                raise DataError(f"{where}: {name} should be text")
            if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
                raise DataError(f"{where}: {name} holds half a surrogate pair, which is no text")
            if not empty and not value.strip():
                raise DataError(f"{where}: {name} is empty")
            return value
    raise DataError(f"{where}: there is no field {names[0]!r}")


def _number(value: Any, where: str, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise DataError(f"{where}: {name}={value!r} is not a number")
    return number


def _not_empty(found: list[T], path: str | Path, what: str = "records") -> list[T]:
    if not found:
        raise DataError(f"{path} holds no {what}")
    return found


def read_texts(path: str | Path) -> list[str]:
    """Documents: a .jsonl's or .csv's `text`, or any other file as paragraphs of plain text.

    A paragraph ends at an empty line; without empty lines every line is one.
    """
    path = Path(path)
    if path.suffix in (".jsonl", ".csv"):
        return _not_empty([_field(row, where, "text") for where, row in _rows(path)], path)
    text = to_text(read_bytes(path), str(path)).replace("\r\n", "\n")
    found = [part.strip("\n") for part in text.split("\n\n") if part.strip()]
    if len(found) == 1:
        found = [line for line in text.split("\n") if line.strip()]
    if not found:
        raise DataError(f"{path} is empty")
    return found


def read_demonstrations(path: str | Path) -> list[Demonstration]:
    """Fields `prompt` (may be empty) and `response` (or `completion`)."""
    return _not_empty(
        [
            Demonstration(
                _field(row, where, "prompt", empty=True),
                _field(row, where, "response", "completion"),
            )
            for where, row in _rows(path)
        ],
        path,
    )


def read_labelled(path: str | Path) -> list[Labelled]:
    """Fields `text` and `label`."""
    return _not_empty(
        [
            Labelled(_field(row, where, "text"), str(row.get("label", "")).strip())
            for where, row in _rows(path)
        ],
        path,
    )


def read_rated(path: str | Path) -> list[Rated]:
    """Fields `text` and `ratings` (a list, or numbers between spaces) or `rating` (one number)."""
    found = []
    for where, row in _rows(path):
        values = row.get("ratings", row.get("rating"))
        if isinstance(values, str):
            values = values.replace(",", " ").strip(" []").split()
        elif not isinstance(values, list):
            values = [values]
        ratings = tuple(_number(value, where, "rating") for value in values)
        if not ratings:
            raise DataError(f"{where}: there is no rating")
        found.append(Rated(_field(row, where, "text"), ratings))
    return _not_empty(found, path)


def read_prompts(path: str | Path) -> list[str]:
    """Prompts of a file: field `prompt` (or `text`) of .jsonl, else one a line."""
    if Path(path).suffix == ".jsonl":
        found = [_field(row, where, "prompt", "text") for where, row in _rows(path)]
    else:
        lines = to_text(read_bytes(path), str(path)).splitlines()
        found = [line for line in lines if line.strip()]
    return _not_empty(found, path, "prompts")


_WINNERS = {
    **dict.fromkeys(("left", "first", "a", "1", "model_a"), (1.0, 0.0, 0.0)),
    **dict.fromkeys(("right", "second", "b", "2", "model_b"), (0.0, 1.0, 0.0)),
    **dict.fromkeys(("tie", "both", "neither", "tie (bothbad)"), (0.0, 0.0, 1.0)),
}


def read_preferences(path: str | Path) -> list[Preference]:
    """Preferences of either form, or a folder of votes joined to answers.

    `prompt, chosen, rejected[, margin]` says which is better, and nothing may say the opposite;
    `prompt, left, right, winner` (left, right or tie) is one vote, and voters may disagree. Equal
    pairs are merged. A folder holds `crowd-comparisons.csv` beside `results.jsonl` and
    `prompts.jsonl`.
    """
    path = Path(path)
    if path.is_dir():
        return merge_votes(_read_crowd(path))
    found: list[Preference] = []
    order: dict[tuple[str, str, str], str] = {}
    for where, row in _rows(path):
        prompt = _field(row, where, "prompt", empty=True) if "prompt" in row else ""
        if "winner" in row:
            first, second = _field(row, where, "left", "a"), _field(row, where, "right", "b")
            winner = str(row["winner"]).strip().lower()
            if winner not in _WINNERS:
                raise DataError(f"{where}: winner={winner!r} is not left, right or tie")
            if first == second and winner not in ("tie", "both", "neither"):
                raise DataError(f"{where}: both answers are the same text, yet one wins")
            found.append(Preference(prompt, first, second, *_WINNERS[winner]))
            continue
        chosen, rejected = _field(row, where, "chosen"), _field(row, where, "rejected")
        margin = _number(row.get("margin") or 0.0, where, "margin")
        if chosen == rejected:
            raise DataError(f"{where}: chosen and rejected are the same text")
        if margin < 0:
            raise DataError(f"{where}: margin {margin} is negative")
        opposite = order.get((prompt, rejected, chosen))
        if opposite:
            raise DataError(
                f"{where} contradicts {opposite.rpartition(', ')[2]}; if these are votes, "
                "give left, right and winner"
            )
        order[prompt, chosen, rejected] = where
        found.append(Preference(prompt, chosen, rejected, margin=margin))
    return _not_empty(merge_votes(found), path)


def _read_crowd(folder: Path) -> list[Preference]:
    prompts = {row.get("id"): row.get("text") for _, row in _rows(folder / "prompts.jsonl")}
    answers = {
        (row.get("prompt"), row.get("model")): row.get("result")
        for _, row in _rows(folder / "results.jsonl")
    }
    found = []
    for where, row in _rows(folder / "crowd-comparisons.csv"):
        try:
            number = int(row["prompt"])
            texts = [prompts[number]]
            texts += [answers[number, int(row[name])] for name in ("model_x", "model_y")]
            winner = _WINNERS[row["winner"]]
        except (KeyError, ValueError) as error:
            raise DataError(f"{where}: {error} cannot be joined to the answers") from None
        prompt, first, second = (str(text) for text in texts)
        found.append(Preference(prompt, first, second, *winner))
    return found


def merge_votes(votes: Iterable[Preference]) -> list[Preference]:
    """One record a pair of texts, the votes added up, whichever side a text stood on."""
    merged: dict[tuple[str, str, str, float], list[float]] = {}
    for vote in votes:
        key = vote.prompt, vote.first, vote.second, vote.margin
        counts = [vote.wins, vote.losses, vote.ties]
        swapped = vote.prompt, vote.second, vote.first, vote.margin
        if swapped in merged and swapped != key:
            key, counts = swapped, [vote.losses, vote.wins, vote.ties]
        total = merged.setdefault(key, [0.0, 0.0, 0.0])
        for place, count in enumerate(counts):
            total[place] += count
    return [
        Preference(prompt, first, second, wins, losses, ties, margin)
        for (prompt, first, second, margin), (wins, losses, ties) in merged.items()
    ]
