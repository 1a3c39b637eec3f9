"""Records of text: plain texts, demonstrations, labelled texts, rated texts and preferences.

A reader takes what rows.py reads and either returns every record or raises DataError naming file,
line and fault. Downloads are downloads.py's, made-up text is synthetic.py's, token ids and batches
are batches.py's.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from playout.errors import DataError
from playout.rlhf.data.conversations import (
    demonstration_parts,
    join_texts,
    listed,
    preference_parts,
    turns_of,
)
from playout.rlhf.data.downloads import is_vote_name, votes_source
from playout.rlhf.data.messages import Prompt
from playout.rlhf.data.rows import (
    SUFFIXES,
    Row,
    Source,
    check_text,
    name_of,
    number_field,
    read_bytes,
    read_rows,
    suffix_of,
    text_field,
    to_text,
)

__all__ = [
    "Demonstration",
    "Labelled",
    "Preference",
    "Rated",
    "Tell",
    "is_vote_folder",
    "merge_votes",
    "prompt_key",
    "prompt_rows",
    "read_demonstrations",
    "read_labelled",
    "read_preferences",
    "read_rated",
    "read_texts",
    "read_votes",
    "split_by_text",
    "text_key",
]

T = TypeVar("T")

Tell = Callable[[str], None]
"""Is told, in a sentence, what a reader did with the rows."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt and the answer to imitate."""

    prompt: Prompt
    response: str
    learned_from: int = -1
    """The first message, counted from the prompt's first, from which on the assistant's earlier
    answers are learned too; -1 for none."""
    turns: tuple[str, ...] = ()
    """What follows of an episode of plain texts: replies and further answers in turn."""
    where: str = field(default="", compare=False, repr=False)
    """File and line, for errors."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text, the name of its class, and file and line for errors."""

    text: str
    label: str
    where: str = field(default="", compare=False, repr=False)


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

    prompt: Prompt
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
    voter: str = ""
    """Whose vote it is, where it is one vote and that is known."""
    where: str = field(default="", compare=False, repr=False)
    """File and line, for errors; of equal pairs the first's."""


def text_key(text: str) -> str:
    """What equal texts share: case and the width of blanks tell none apart."""
    return " ".join(text.split()).lower()


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
        digest = hashlib.sha256(f"{seed}\n{text_key(text)}".encode()).digest()
        return int.from_bytes(digest[:4], "little") < limit

    train: list[T] = []
    test: list[T] = []
    for item in items:
        sides = {held_out(text) for text in texts(item)}
        if len(sides) == 1:
            (test if sides.pop() else train).append(item)
    return train, test


# Reading


def _not_empty(found: list[T], source: Source | Iterable[str]) -> list[T]:
    if not found:
        raise DataError(f"{name_of(source)} holds no records")
    return found


def read_texts(source: Source | Iterable[str]) -> list[str]:
    """Documents: the field `text` of rows, texts in a list, or a file's paragraphs of plain text.

    A paragraph ends at an empty line; without empty lines every line is one.
    """
    if not _is_plain(source):
        rows = _as_rows(source, "text")
        return _not_empty([text_field(row, where, "text") for where, row in rows], source)
    path = _path(source)
    text = to_text(read_bytes(path), str(path)).replace("\r\n", "\n")
    found = [part.strip("\n") for part in text.split("\n\n") if part.strip()]
    if len(found) == 1:
        found = [line for line in text.split("\n") if line.strip()]
    if not found:
        raise DataError(f"{path} is empty")
    return found


def _path(source: object) -> Path:
    assert isinstance(source, str | os.PathLike)
    return Path(source)


def _is_plain(source: object) -> bool:
    """Whether a source is a file of plain text."""
    if not isinstance(source, str | os.PathLike) or str(source).startswith("hub:"):
        return False
    return suffix_of(source) not in SUFFIXES and not Path(source).is_dir()


def _as_rows(source: Source | Iterable[str], field: str) -> Iterator[tuple[str, Row]]:
    """Rows of a source; plain texts in a list become rows with one field."""
    if isinstance(source, str | os.PathLike):
        return read_rows(source)
    return read_rows([{field: row} if isinstance(row, str) else row for row in source])


def read_demonstrations(
    source: Source, *, join: bool = False, tell: Tell | None = None
) -> list[Demonstration]:
    """Prompts (may be empty) with a `response` (or `completion`), or whole conversations.

    Args:
        source: Rows with `messages`; or `prompt` and `response`, texts or messages; or `turns`.
        join: Put a space between a text and its answer where they would run into one word.
        tell: Is told how often that was done.
    """
    found, spaces = [], 0
    for where, row in read_rows(source):
        if row.get("turns") is not None:
            (first, second, *rest), start = turns_of(row, where)
            found.append(Demonstration(first, second, start, tuple(rest), where))
            continue
        prompt, answer, start = demonstration_parts(row, where)
        joined = join_texts(prompt, answer) if join else answer
        spaces += joined != answer
        start = -1 if isinstance(prompt, str) else start
        found.append(Demonstration(prompt, joined, start, where=where))
    _tell_spaces(spaces, len(found), tell)
    return _not_empty(found, source)


def _tell_spaces(spaces: int, rows: int, tell: Tell | None) -> None:
    if spaces and tell is not None:
        tell(
            f"in {spaces} of {rows} rows a space was put between the prompt and the answer "
            "(--join none leaves them as they are)"
        )


def read_labelled(source: Source) -> list[Labelled]:
    """Fields `text` and `label`."""
    found = []
    for where, row in read_rows(source):
        text, label = text_field(row, where, "text"), row.get("label")
        missing = label is None or label != label  # NaN, in tables
        if not (name := "" if missing else str(label).strip()):
            raise DataError(f"{where}: there is no label")
        check_text(name, where, "label")
        found.append(Labelled(text, name, where))
    return _not_empty(found, source)


def read_rated(source: Source) -> list[Rated]:
    """Fields `text` and `ratings` (a list, or numbers between spaces) or `rating` (one number)."""
    found = []
    for where, row in read_rows(source):
        values = listed(row.get("rating" if row.get("ratings") is None else "ratings"))
        if isinstance(values, str):
            values = values.replace(",", " ").strip(" []").split()
        elif not isinstance(values, list | tuple):
            values = [values]
        ratings = tuple(number_field(value, where, "rating") for value in values)
        if not ratings:
            raise DataError(f"{where}: there is no rating")
        found.append(Rated(text_field(row, where, "text"), ratings))
    return _not_empty(found, source)


def prompt_rows(source: Source | Iterable[str]) -> Iterator[tuple[str, Row]]:
    """(words that name its place, row) of prompts: rows, texts in a list, else a text a line."""
    if not _is_plain(source):
        yield from _as_rows(source, "prompt")
        return
    path = _path(source)
    # Not splitlines(): U+2028, form feeds and the like may stand in a prompt.
    lines = to_text(read_bytes(path), str(path)).replace("\r\n", "\n").split("\n")
    for number, line in enumerate((line for line in lines if line.strip()), 1):
        yield f"{path}, prompt {number}", {"prompt": line}


_CROWD = "crowd-comparisons.csv"
_WINNERS = {
    **dict.fromkeys(("left", "first", "a", "1", "model_a"), (1.0, 0.0, 0.0)),
    **dict.fromkeys(("right", "second", "b", "2", "model_b"), (0.0, 1.0, 0.0)),
    **dict.fromkeys(("tie", "both", "neither", "tie (bothbad)"), (0.0, 0.0, 1.0)),
}


def read_preferences(
    source: Source, *, join: bool = False, tell: Tell | None = None
) -> list[Preference]:
    """Preferences of either form, or votes joined to answers: a folder, or a data set by its name.

    `prompt, chosen, rejected[, margin]` says which is better, and nothing may say the opposite;
    `prompt, left, right, winner` (left, right or tie) is one vote, and voters may disagree. Equal
    pairs are merged. A prompt is a text or messages; so are `chosen` and `rejected`, which may also
    be two whole conversations. A folder holds `crowd-comparisons.csv` beside `results.jsonl` and
    `prompts.jsonl`. With `join`, a space is put between a prompt and `chosen` or `rejected` where
    they would run into one word, and `tell` is told how often; votes are left as they are.
    """
    return merge_votes(read_votes(source, join=join, tell=tell))


def is_vote_folder(source: object) -> bool:
    """Whether a source is a folder of votes joined to answers, or the name of one to fetch."""
    if is_vote_name(source):
        return True
    return isinstance(source, str | os.PathLike) and (Path(source) / _CROWD).exists()


def read_votes(source: Source, *, join: bool = False, tell: Tell | None = None) -> list[Preference]:
    """What `read_preferences` reads, one record a row, with who voted where it says so.

    That is the field `voter` or `worker`.
    """
    source = votes_source(source)
    if is_vote_folder(source):
        return _read_crowd(_path(source))
    found: list[Preference] = []
    order: dict[tuple[str, str, str], str] = {}
    spaces = 0
    for where, row in read_rows(source):
        if row.get("winner") is not None or ("winner" in row and row.get("chosen") is None):
            names = ("left" if "left" in row else "a"), ("right" if "right" in row else "b")
            prompt, first, second = preference_parts(row, where, *names)
            winner = str(row["winner"]).strip().lower()
            if winner not in _WINNERS:
                raise DataError(f"{where}: winner={winner!r} is not left, right or tie")
            if first == second and winner not in ("tie", "both", "neither"):
                raise DataError(f"{where}: both answers are the same text, yet one wins")
            votes = _WINNERS[winner]
            found.append(Preference(prompt, first, second, *votes, voter=_voter(row), where=where))
            continue
        prompt, chosen, rejected = preference_parts(row, where, "chosen", "rejected")
        margin = number_field(row.get("margin") or 0.0, where, "margin")
        if chosen == rejected:
            raise DataError(f"{where}: chosen and rejected are the same text")
        if margin < 0:
            raise DataError(f"{where}: margin {margin} is negative")
        key = prompt_key(prompt)
        opposite = order.get((key, rejected, chosen))
        if opposite:
            raise DataError(
                f"{where} contradicts {opposite.rpartition(', ')[2]}; if these are votes, "
                "give left, right and winner"
            )
        order[key, chosen, rejected] = where
        if join:
            after = [join_texts(prompt, answer) for answer in (chosen, rejected)]
            spaces += after != [chosen, rejected]
            chosen, rejected = after
        found.append(
            Preference(prompt, chosen, rejected, margin=margin, voter=_voter(row), where=where)
        )
    _tell_spaces(spaces, len(found), tell)
    return _not_empty(found, source)


def _voter(row: Row) -> str:
    named = next((row[name] for name in ("voter", "worker") if row.get(name) is not None), "")
    return str(named).strip()


def _read_crowd(folder: Path) -> list[Preference]:
    prompts = {row.get("id"): row.get("text") for _, row in read_rows(folder / "prompts.jsonl")}
    answers = {
        (row.get("prompt"), row.get("model")): row.get("result")
        for _, row in read_rows(folder / "results.jsonl")
    }
    found = []
    for where, row in read_rows(folder / _CROWD):
        try:
            number = int(row["prompt"])
            texts = [prompts[number]]
            texts += [answers[number, int(row[name])] for name in ("model_x", "model_y")]
            winner = _WINNERS[row["winner"]]
        except (KeyError, ValueError) as error:
            raise DataError(f"{where}: {error} cannot be joined to the answers") from None
        for text in texts:
            check_text(str(text), where, "prompt or answer")
        prompt, first, second = (str(text) for text in texts)
        found.append(Preference(prompt, first, second, *winner, voter=_voter(row), where=where))
    return found


def merge_votes(votes: Iterable[Preference]) -> list[Preference]:
    """One record a pair of texts, the votes added up, whichever side a text stood on."""
    merged: dict[tuple[str, str, str, float], tuple[Preference, list[float]]] = {}
    for vote in votes:
        prompt = prompt_key(vote.prompt)
        key = prompt, vote.first, vote.second, vote.margin
        counts = [vote.wins, vote.losses, vote.ties]
        swapped = prompt, vote.second, vote.first, vote.margin
        if swapped in merged and swapped != key:
            key, counts = swapped, [vote.losses, vote.wins, vote.ties]
        _, total = merged.setdefault(key, (vote, [0.0, 0.0, 0.0]))
        for place, count in enumerate(counts):
            total[place] += count
    return [
        replace(vote, wins=wins, losses=losses, ties=ties, voter="")
        for vote, (wins, losses, ties) in merged.values()
    ]


def prompt_key(prompt: Prompt) -> str:
    """A text that tells prompts apart: itself, or messages as JSON."""
    return prompt if isinstance(prompt, str) else "\0" + json.dumps(list(prompt), sort_keys=True)
