"""The grammar of SGF, FF[4]: game trees as text, without a word about any game.

A collection is game trees in brackets, a tree is nodes and variations, a node properties with
values. Only the first variation of each tree is kept, which is the main line; errors name line and
column. What the values mean is sgf.py's.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from playout.errors import DataError

_BLANK = re.compile(r"\s*")
_NAME = re.compile(r"[A-Za-z]{1,32}")
_VALUE = re.compile(r"([^\\\]]*(?:\\.[^\\\]]*)*)\]", re.DOTALL)
_SOFT_BREAK = re.compile(r"\\(\r\n|\n\r|\n|\r)")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_BREAK = re.compile(r"\r\n|\n\r|\r")
_CHARSET = re.compile(rb"CA\s*\[\s*([A-Za-z0-9_.:-]{1,40})\s*\]")
MAX_DEPTH = 10_000  # variations inside variations


@dataclass(slots=True)
class Node:
    """One node: its properties, and where it stands in the text.

    Attributes:
        text: the whole text.
        at: where in it the node begins.
        values: for each property, by its capital letters, its values.
    """

    text: str = field(repr=False)
    at: int
    values: dict[str, list[str]] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Such as "line 3, column 7"."""
        return place_of(self.text, self.at)

    def first(self, name: str) -> str | None:
        """The property's first value, or None."""
        found = self.values.get(name)
        return found[0] if found else None


def place_of(text: str, at: int) -> str:
    """Line and column of a character, counted from 1."""
    line = text.count("\n", 0, at)
    return f"line {line + 1}, column {at - text.rfind(chr(10), 0, at)}"


def decoded(data: bytes) -> str:
    """The text of a file: UTF-8, or what its first CA says, or Latin-1, which is SGF's own."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    if charset := _CHARSET.search(data, 0, 1 << 16):
        with contextlib.suppress(LookupError, UnicodeError):
            text = data.decode(charset[1].decode(), errors="replace")
            # Some charsets give halves of surrogate pairs, which no file could hold again.
            return text.encode("utf-8", errors="replace").decode()
    return data.decode("latin-1")


def trees(text: str) -> Iterator[list[Node]]:
    """The main line of each game tree: its nodes, the root first.

    Raises:
        DataError: Text that is no SGF.
    """
    at = text.find("(")
    if at < 0 or text[:at].strip("\ufeff \t\r\n"):
        raise DataError(f"{place_of(text, 0)}: a game in SGF begins with '('")
    while at < len(text):
        nodes, at = _tree(text, at)
        yield nodes
        at = _skip(text, at)
        if at < len(text) and text[at] != "(":
            raise DataError(f"{place_of(text, at)}: expected '(' or the end, not {text[at]!r}")


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _tree(text: str, start: int) -> tuple[list[Node], int]:
    """The main line of the tree whose bracket is at `start`, and where the text goes on."""
    nodes: list[Node] = []
    closed = [0]  # for each open bracket how many variations in it are over
    branches = 0  # open variations that are not their tree's first
    at = start + 1
    while closed:
        at = _skip(text, at)
        sign = text[at : at + 1]
        if sign == ";" and not closed[-1]:
            node, at = _node(text, at)
            if not branches:
                nodes.append(node)
        elif sign == "(":
            if len(closed) >= MAX_DEPTH:
                raise DataError(f"{place_of(text, at)}: too many variations inside each other")
            branches += branches > 0 or closed[-1] > 0
            closed.append(0)
            at += 1
        elif sign == ")":
            closed.pop()
            branches -= branches > 0
            if closed:
                closed[-1] += 1
            at += 1
        else:
            what = f"not {sign!r}" if sign else "but the text ends; it may be cut off"
            raise DataError(f"{place_of(text, at)}: expected ';', '(' or ')', {what}")
    if not nodes:
        raise DataError(f"{place_of(text, start)}: a game without nodes")
    return nodes, at


def _node(text: str, at: int) -> tuple[Node, int]:
    node = Node(text, at)
    at = _skip(text, at + 1)
    while name := _NAME.match(text, at):
        letters = "".join(letter for letter in name[0] if letter.isupper())  # FF[3]: SiZe is SZ
        at = _skip(text, name.end())
        if text[at : at + 1] != "[":
            raise DataError(f"{place_of(text, at)}: expected '[' after {name[0]}")
        values = node.values.setdefault(letters, [])
        while text[at : at + 1] == "[":
            value = _VALUE.match(text, at + 1)
            if value is None:
                raise DataError(f"{place_of(text, at)}: this value of {name[0]} has no end")
            values.append(unescape(value[1]))
            at = _skip(text, value.end())
    return node, at


def unescape(value: str) -> str:
    """A value as it is meant: without soft line breaks and the signs that protect others."""
    return _BREAK.sub("\n", _ESCAPED.sub(r"\1", _SOFT_BREAK.sub("", value)))


def escape(value: str) -> str:
    """A value as it is written between brackets."""
    return value.replace("\\", "\\\\").replace("]", "\\]")
