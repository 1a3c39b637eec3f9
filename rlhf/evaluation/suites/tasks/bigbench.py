"""Tasks of BIG-bench (Srivastava et al. 2022) from the JSON files in which they are published.

Examples offer choices with scores, or want a text. Tasks that are programs are left out.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from playout.errors import DataError
from playout.rlhf.data.rows import Row, check_text, read_bytes, suffix_of, text_field, to_text
from playout.rlhf.evaluation.suites.suite import Choice, Item, Suite, Written
from playout.rlhf.evaluation.suites.tasks.formats import is_text

__all__ = ["is_bigbench", "read_bigbench"]

_TEXTS = {
    "name": "",
    "description": "",
    "task_prefix": "",
    "example_input_prefix": "\nQ: ",
    "example_output_prefix": "\nA: ",
    "choice_prefix": "\n  choice: ",
    "few_shot_example_separator": "\n",
}
"""Texts of a task, and what they are where it does not say."""


def is_bigbench(path: Path) -> bool:
    """Whether a file is a task of BIG-bench, or a folder that holds one."""
    path = path / "task.json" if path.is_dir() else path
    if suffix_of(path) != ".json" or not path.is_file():
        return False
    text = to_text(read_bytes(path), str(path)).strip()
    first, _, others = text.partition("\n")
    rows = bool(others) and first.count("{") == first.count("}")  # an object a line
    return text.startswith("{") and not rows


def read_bigbench(path: Path) -> Suite:
    """A task of BIG-bench in JSON: examples with target_scores, or with targets to be written.

    Raises:
        DataError: It is no such task; what is wrong with which example.
    """
    path = path / "task.json" if path.is_dir() else path
    text = to_text(read_bytes(path), str(path))
    try:
        task = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    rows = task.get("examples") if isinstance(task, dict) else None
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path} is no task of BIG-bench: it has no examples")
    for key, value in task.items():
        if isinstance(value, str):
            check_text(value, str(path), key)
    given = {key: _given(task, key, usual, path) for key, usual in _TEXTS.items()}
    before, after = given["example_input_prefix"], given["example_output_prefix"]
    listed = given["choice_prefix"]
    shown = task.get("append_choices_to_input", True)
    if not isinstance(shown, bool):
        raise DataError(f"{path}: append_choices_to_input is true or false, not {shown!r}")
    items: list[Item] = []
    for number, row in enumerate(rows, 1):
        where = f"{path}, example {number}"
        if not isinstance(row, dict) or not isinstance(row.get("input"), str):
            raise DataError(f"{where}: it has no input")
        check_text(row["input"], where, "input")
        asked, scores = before + row["input"], row.get("target_scores")
        if isinstance(scores, dict) and scores:
            values = [_score(value, where) for value in scores.values()]
            for option in scores:
                text_field({"target_scores": option}, where, "target_scores")
            if shown:
                asked += "".join(f"{listed}{option}" for option in scores)
            prompt, options = asked + after.rstrip(" "), _spaced(after, scores)
            items.append(Choice(prompt, options, tuple(values), question=row["input"]))
            continue
        targets = row.get("target")
        targets = [targets] if isinstance(targets, str) else targets
        if not isinstance(targets, list) or not targets or not all(map(is_text, targets)):
            raise DataError(f"{where}: it has neither target_scores nor a target")
        for text in targets:
            check_text(text, where, "target")
        prompt = asked + after.rstrip(" ")
        items.append(Written(prompt, _spaced(after, targets), question=row["input"]))
    if len({type(item) for item in items}) > 1:
        raise DataError(f"{path}: some examples offer choices and others want a text")
    return Suite(
        name=given["name"] or path.stem,
        items=tuple(items),
        headers={"": given["task_prefix"]},
        between=given["few_shot_example_separator"],
        about=given["description"],
    )


def _given(task: Row, key: str, usual: str, path: Path) -> str:
    """A text of a task of BIG-bench, or what it is by default."""
    value = task.get(key)
    if value is None:
        return usual
    if not isinstance(value, str):
        raise DataError(f"{path}: {key} should be a text, not {value!r}")
    return value


def _spaced(after: str, options: Iterable[str]) -> tuple[str, ...]:
    """Options with the blank that stands between them and what introduces an answer."""
    blank = " " if after.endswith(" ") else ""
    return tuple(blank + option for option in options)


def _score(value: object, where: str) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise DataError(f"{where}: the score {value!r} is not a number from 0 to 1")
    return float(value)
