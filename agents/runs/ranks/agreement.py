"""What the ranks of a job must have alike before they say anything else to each other.

Ranks of other code, versions or commands would send each other messages that do not fit, and wait
for ever. So each tells what it runs as they meet (meeting.py); rank 0 compares. Leaves out the
settings of a training and a person's own code, which are known later (options.py).
"""

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from playout.agents.runs.ranks import memory
from playout.agents.runs.ranks.alike import code_digest, versions
from playout.agents.runs.ranks.place import own_restarts

OF_MACHINE = frozenset({"device", "threads"})
"""Options that each machine of a job may have for itself."""


def statement() -> str:
    """What this rank tells of itself."""
    alike = {
        "versions": versions(),
        "the code of playout": code_digest(),
        "their command": _words(sys.argv[1:]),
        f"the variable {memory.VARIABLE}": os.environ.get(memory.VARIABLE, "1"),
    }
    return json.dumps([alike, own_restarts()])


def decide(statements: Sequence[str]) -> str:
    """What follows from the statements of all ranks, in order of rank: see `decided`."""
    told = [json.loads(one) for one in statements]
    problem = ""
    for what, first in told[0][0].items():
        for number, (alike, _) in enumerate(told):
            if not problem and alike[what] != first:
                problem = differ(what, first, alike[what], number)
    return json.dumps([problem, max(restarts for _, restarts in told)])


def decided(decision: str) -> tuple[str, int]:
    """Why the ranks cannot work together, "" if they can; and how often the job has begun again."""
    problem, restarts = json.loads(decision)
    return problem, restarts


def differ(what: str, first: Any, other: Any, number: int) -> str:
    """The line that says in what rank 0 and another one differ, and where exactly.

    Args:
        what: What it is: "settings".
        first: Of rank 0: a text, which may be a JSON object, a table or a list of words.
        other: Of the other rank.
        number: Its number.
    """
    here, there = _difference(first, other)
    return f"ranks differ in {what}: rank 0 has {here}, rank {number} has {there}"


def _words(arguments: Sequence[str]) -> list[str]:
    """The words of a command line but for options that each machine may have for itself."""
    kept: list[str] = []
    value = False
    for word in arguments:
        option, equals, _ = word.partition("=")
        if not value and option.removeprefix("--") in OF_MACHINE and option.startswith("--"):
            value = not equals
        elif value:
            value = False
        else:
            kept.append(word)
    return kept


def _difference(one: Any, other: Any) -> tuple[str, str]:
    """What differs between two values, in short."""
    from playout.agents.runs.config import dotted

    sides = [one, other]
    if isinstance(one, str) and isinstance(other, str):
        with contextlib.suppress(ValueError):
            sides = [json.loads(one), json.loads(other)]
    if all(isinstance(side, dict) for side in sides):
        tables = [dict(dotted(side)) for side in sides]
        keys = sorted(tables[0].keys() | tables[1].keys())
        keys = [key for key in keys if tables[0].get(key) != tables[1].get(key)]
        shown = [", ".join(f"{key} {table.get(key)!r}" for key in keys) for table in tables]
        return shown[0][:300], shown[1][:300]
    if isinstance(one, list):
        alike = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))))
        if 0 < alike < min(len(one), len(other)) and one[alike - 1].startswith("-"):
            alike -= 1  # the option whose value differs
        shown = [" ".join(words[alike:])[:100] or "nothing more" for words in (one, other)]
        return shown[0], shown[1]
    return one[:100], other[:100]
