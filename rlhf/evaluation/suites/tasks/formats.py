"""Suites in the formats in which they are published, read from local files or from the hub.

MMLU (Hendrycks et al. 2021): a folder of CSV files without a header, rows with question, choices
and answer, or such rows of the hub with their examples. Rows (.jsonl, .json, .csv, .parquet,
`hub:NAME`): ARC, HellaSwag, PIQA, BLiMP and what looks like them. Tasks of BIG-bench are
bigbench.py's, tests of code code.py's.
"""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from playout.errors import DataError
from playout.rlhf.data.rows import (
    Row,
    check_text,
    csv_lines,
    name_of,
    read_rows,
    read_split,
    text_field,
    with_split,
)
from playout.rlhf.evaluation.suites.suite import Choice, Item, Suite, Written

__all__ = ["is_mmlu", "is_text", "read_mmlu", "read_suite"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


# MMLU


def is_mmlu(path: Path) -> bool:
    """Whether a folder looks like MMLU's: SUBJECT_test.csv files, perhaps below test/."""
    return path.is_dir() and bool(_mmlu_files(path, "test"))


def _mmlu_files(path: Path, part: str) -> list[Path]:
    return sorted([*path.glob(f"*_{part}.csv"), *(path / part).glob(f"*_{part}.csv")])


def _asked(question: str, choices: Sequence[str]) -> str:
    """A question as MMLU's authors write it, up to where the letter follows."""
    lines = [question.strip(), *(f"{LETTERS[n]}. {c}" for n, c in enumerate(choices))]
    return "\n".join([*lines, "Answer:"])


def _lettered(question: str, choices: Sequence[str], right: int, group: str) -> Choice:
    return Choice(
        _asked(question, choices),
        tuple(f" {LETTERS[n]}" for n in range(len(choices))),
        tuple(float(n == right) for n in range(len(choices))),
        group,
        question,
    )


def _mmlu_rows(path: Path, subject: str) -> list[Choice]:
    found = []
    for number, (_, row) in enumerate(csv_lines(path), 1):
        where = f"{path}, row {number}"
        if len(row) < 4 or len(row) > 2 + len(LETTERS):
            raise DataError(f"{where}: {len(row)} fields; a question, its choices and a letter")
        question, *choices, letter = row
        right = LETTERS.find(letter.strip()) if len(letter.strip()) == 1 else -1
        if not 0 <= right < len(choices):
            last = LETTERS[len(choices) - 1]
            raise DataError(f"{where}: the answer is {letter!r}, not a letter from A to {last}")
        found.append(_lettered(question, choices, right, subject))
    return found


def read_mmlu(source: str | Path, *, name: str = "mmlu") -> Suite:
    """MMLU: test/SUBJECT_test.csv, and for examples dev/SUBJECT_dev.csv, of a folder or the hub.

    Args:
        source: A folder, or `hub:NAME[@CONFIG][:split]`, whose split is by default test and whose
            examples are those of dev, where there is such.
        name: Of the suite.

    Raises:
        DataError: It is not there, or a row of it, which is named, is none.
    """
    if str(source).startswith("hub:"):
        items, examples = _mmlu_of_hub(str(source))
    else:
        items, examples = _mmlu_of_folder(Path(source))
    headers = {}
    for subject in {item.group: None for item in items}:  # in their order
        about = f" about {subject.replace('_', ' ')}" if subject else ""
        headers[subject] = f"The following are multiple choice questions (with answers){about}.\n\n"
    return Suite(
        name=name,
        items=tuple(items),
        headers=headers,
        examples=examples,
        about=f"multiple choice in {len(headers)} subjects, by the letter of the answer",
    )


def _mmlu_of_folder(path: Path) -> tuple[list[Choice], dict[str, list[str]]]:
    """The questions, and of each subject examples."""
    items, examples = list[Choice](), {}
    for file in _mmlu_files(path, "test"):
        subject = file.name.removesuffix("_test.csv")
        items += _mmlu_rows(file, subject)
        dev = [one for one in _mmlu_files(path, "dev") if one.name == f"{subject}_dev.csv"]
        examples[subject] = [row.example for one in dev for row in _mmlu_rows(one, subject)]
    if not items:
        raise DataError(f"{path} holds no SUBJECT_test.csv with questions, as MMLU's folder does")
    return items, examples


def _mmlu_of_hub(source: str) -> tuple[list[Choice], dict[str, list[str]]]:
    """The questions, and of each subject the examples of split dev, where there is such a split."""
    source = with_split(source, "test")
    hub, _, split = source.rpartition(":")
    items = [_mmlu_row(row, where) for where, row in read_rows(source)]
    examples: dict[str, list[str]] = {}
    if split.partition("[")[0] == "dev":  # its own questions would tell their answers
        return items, examples
    try:
        rows = [*read_rows(f"{hub}:dev")]
    except DataError as error:
        if "Unknown split" not in str(error):
            raise
        return items, examples
    examples = {item.group: [] for item in items}
    for where, row in rows:
        item = _mmlu_row(row, where)
        examples.setdefault(item.group, []).append(item.example)
    return items, examples


def _mmlu_row(row: Row, where: str) -> Choice:
    """A row of the hub as a question that is answered by a letter."""
    missing = [key for key in ("question", "choices", "answer") if key not in row]
    if missing:
        raise DataError(f"{where}: it has no {missing[0]}, as MMLU's rows have")
    return _questioned(row, where, _group(row, where))


# Rows


def read_suite(source: str | Path) -> Suite:
    """Rows of a file, a folder or `hub:NAME[@CONFIG][:split]`, of whatever kind their fields show.

    `question, choices, answer` (MMLU; the answer a number or a letter); `question` with `choices`
    of texts and labels and `answerKey` (ARC; as first published both stand in `question`); `ctx,
    endings, label` (HellaSwag); `goal, sol1, sol2, label` (PIQA); `sentence_good, sentence_bad`
    (BLiMP); `prompt, options, answer` (the right option's place or text); `prompt, answer` (to be
    written); `text` alone: its last word is to be written (LAMBADA).

    Raises:
        DataError: Names the row and what it lacks.
    """
    items: list[Item] = []
    for where, row in read_split(source, "test"):
        items.append(_item(row, where))
        if type(items[-1]) is not type(items[0]):
            raise DataError(f"{where}: the rows before it are of another kind")
    called = Path(str(source).removeprefix("hub:")).stem
    if not items:
        raise DataError(f"{name_of(source)} holds no questions")
    return Suite(name=called, items=tuple(items), by_length=_by_length(items))


def is_text(value: object) -> bool:
    """Whether it is a text that says something."""
    return isinstance(value, str) and bool(value.strip())


def _by_length(items: Sequence[Item]) -> bool:
    """Whether options are of such different lengths that a byte's share says more."""
    choices = [item for item in items if isinstance(item, Choice) and item.prompt]
    lengths = [np.array([len(option) for option in item.options]) for item in choices]
    return bool(lengths) and float(np.mean([n.max() / n.mean() for n in lengths])) > 1.15


def _group(row: Row, where: str) -> str:
    for key in ("subject", "category", "UID", "linguistics_term", "activity_label"):
        if isinstance(row.get(key), str):
            check_text(row[key], where, key)
            return str(row[key])
    return ""


def _item(row: Row, where: str) -> Item:
    group = _group(row, where)
    if "sentence_good" in row:
        pair = tuple(text_field(row, where, key) for key in ("sentence_good", "sentence_bad"))
        return Choice("", pair, (1.0, 0.0), group)
    if "sol1" in row:
        options = [text_field(row, where, key) for key in ("sol1", "sol2")]
        goal = text_field(row, where, "goal")
        return _choice(_answerable(goal), options, row.get("label"), where, group, goal)
    if "endings" in row:
        options = _texts(row["endings"], where, "endings")
        return _choice(text_field(row, where, "ctx"), options, row.get("label"), where, group)
    if "choices" in row or isinstance(row.get("question"), dict):
        return _questioned(row, where, group)
    if "options" in row:
        options = _texts(row["options"], where, "options")
        prompt = text_field(row, where, "prompt", "question", empty=True)
        return _choice(prompt, options, row.get("answer", row.get("label")), where, group)
    if "prompt" in row or "question" in row:
        answers = row.get("answers", row.get("answer", row.get("target")))
        answers = [answers] if isinstance(answers, str) else answers
        if isinstance(answers, list) and answers and all(map(is_text, answers)):
            prompt = text_field(row, where, "prompt", "question")
            for answer in answers:
                check_text(answer, where, "answer")
            return Written(prompt, tuple(answers), group)
        raise DataError(f"{where}: there is no answer, a text or a list of texts")
    text = text_field(row, where, "text").rstrip()
    found = re.fullmatch(r"(.*\S)(\s+)(\S+)", text, re.DOTALL)
    if found is None:
        raise DataError(f"{where}: a text of one word leaves nothing to read before its last one")
    head, blank, word = found.groups()
    # What is written counts up to the end of its line, so that no answer may begin with one.
    if "\n" in blank:
        head, blank = head + blank, ""
    return Written(head, (blank + word,), group)


def _questioned(row: Row, where: str, group: str) -> Choice:
    choices, question = row.get("choices"), row.get("question")
    if isinstance(question, dict):  # ARC as it was first published
        choices, question = question.get("choices", choices), question.get("stem")
    labels: list[str] = []
    if isinstance(choices, list) and choices and all(isinstance(c, dict) for c in choices):
        labels = [str(c.get("label")) for c in choices]
        choices = [c.get("text") for c in choices]
    elif isinstance(choices, dict):
        labels = [str(label) for label in choices.get("label") or ()]
        choices = choices.get("text")
    options = _texts(choices, where, "choices")
    asked = text_field({"question": question}, where, "question")
    if "answerKey" in row:
        key = str(row["answerKey"])
        if key not in labels:
            raise DataError(f"{where}: answerKey {key!r} is none of {', '.join(labels)}")
        return _choice(_answerable(asked), options, labels.index(key), where, group, asked)
    right = _place(row.get("answer"), options, where)
    return _lettered(asked, options, right, group)


def _texts(value: Any, where: str, field: str) -> list[str]:
    if isinstance(value, str):  # of CSV, which has no lists
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    if not isinstance(value, list | tuple) or len(value) < 2 or not all(map(is_text, value)):
        raise DataError(f"{where}: {field} should be a list of two texts or more")
    if len(value) > len(LETTERS):
        raise DataError(f"{where}: {len(value)} {field} are more than {len(LETTERS)}")
    for text in value:
        check_text(text, where, field)
    return [str(text) for text in value]


def _answerable(question: str) -> str:
    """A question as it is shown where options are texts."""
    return f"Question: {question}\nAnswer:"


def _choice(
    prompt: str, options: list[str], right: Any, where: str, group: str, question: str = ""
) -> Choice:
    place = _place(right, options, where)
    spaced = bool(prompt) and not prompt[-1].isspace()
    return Choice(
        prompt,
        tuple(f" {text}" if spaced and not text[:1].isspace() else text for text in options),
        tuple(float(n == place) for n in range(len(options))),
        group,
        question,
    )


def _place(right: Any, options: Sequence[str], where: str) -> int:
    """Which option an answer means: its text, its number from 0, or its letter."""
    if isinstance(right, str):
        if right in options:
            return list(options).index(right)
        letter = LETTERS.find(right.strip()) if len(right.strip()) == 1 else -1
        right = int(right) if right.strip().isdecimal() else letter
    if isinstance(right, bool) or not isinstance(right, int) or not 0 <= right < len(options):
        raise DataError(f"{where}: the answer is none of the {len(options)} options")
    return right
