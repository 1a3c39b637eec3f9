"""How a game is written: `connect_four(width=5)`, `my_module:MyGame(size=6, komi=7.5)`.

`read` splits such a text into a name and plain parameters without evaluating anything, `write` puts
one together, and `origin` finds the text that makes an object of Python again: its class or
function, and the parameters that it keeps as attributes. Importing and making games is the
registry's part (core/registry.py).
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from playout.errors import ConfigError
from playout.own_code import main_name

_NAME = r"[A-Za-z_][A-Za-z0-9_]{0,62}"
_FORM = re.compile(
    rf"\s*({_NAME}|[A-Za-z_][\w.]{{0,200}}:[A-Za-z_][\w.]{{0,200}})\s*(?:\((.*)\))?\s*", re.DOTALL
)
_ARGUMENT = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(\S.*?)\s*", re.DOTALL)
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_REAL = re.compile(r"[+-]?(?=\.?\d)\d{0,17}\.?\d{0,20}(?:[eE][+-]?\d{1,3})?")  # as repr() writes
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'', re.DOTALL)
_BARE = re.compile(r"[^\s=,()\[\]'\"][^=,()\[\]'\"]*")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "none": None}
_MAX_LENGTH = 1000


def is_name(name: object) -> bool:
    """Whether it can be the name of a registered game: an identifier."""
    return isinstance(name, str) and re.fullmatch(_NAME, name) is not None


def read(text: str) -> tuple[str, dict[str, Any]]:
    """Splits "name(key=value, ...)" into its name and parameters.

    Values are whole and real numbers, true, false, none, text (in quotes where it holds a comma or
    a bracket), and tuples of these in brackets.

    Raises:
        ConfigError: it is not of this form.
    """
    match = _FORM.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if match is None:
        raise ConfigError(
            f"{text[:80]!r} is not a game: write name or name(key=value, ...), and "
            "module:Name for one of your own"
        )
    name, arguments = match.group(1), match.group(2)
    params: dict[str, Any] = {}
    for part in _split(arguments, name) if arguments and arguments.strip() else []:
        argument = _ARGUMENT.fullmatch(part)
        if argument is None:
            raise ConfigError(f"{name}: {part.strip()[:40]!r} is not of the form key=value")
        if argument.group(1) in params:
            raise ConfigError(f"{name}: parameter {argument.group(1)!r} is given twice")
        params[argument.group(1)] = _value(argument.group(2), name)
    return name, params


def _split(text: str, name: str) -> list[str]:
    """The parts between commas that stand in no brackets and no quotes."""
    parts, depth, begin, at = list[str](), 0, 0, 0
    while at < len(text):
        letter = text[at]
        if letter in "'\"":
            string = _STRING.match(text, at)
            if string is None:
                raise ConfigError(f"{name}: {text[at : at + 40]!r} has no closing quote")
            at = string.end()
            continue
        depth += (letter in "([") - (letter in ")]")
        if depth < 0 or depth > 8:
            break
        if letter == "," and depth == 0:
            parts.append(text[begin:at])
            begin = at + 1
        at += 1
    if depth:
        raise ConfigError(f"{name}: the brackets in {text[:40]!r} do not match")
    return [*parts, text[begin:]]


def _value(text: str, name: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _REAL.fullmatch(text):
        return float(text)
    if text[0] + text[-1] in ("()", "[]"):
        parts = _split(text[1:-1], name)
        if not parts[-1].strip():  # (1,) and ()
            parts.pop()
        if all(part.strip() for part in parts):
            return tuple(_value(part.strip(), name) for part in parts)
    elif _STRING.fullmatch(text):
        return _unquoted(text, name)
    elif _BARE.fullmatch(text):
        return text
    raise ConfigError(f"{name}: {text[:40]!r} is no number, true, false, none, text or tuple")


def _unquoted(text: str, name: str) -> str:
    if text[0] == "'":
        return text[1:-1]
    try:
        return str(json.loads(text))
    except ValueError:
        raise ConfigError(f"{name}: {text[:40]!r} is not text in quotes") from None


def write(name: str, params: Mapping[str, Any]) -> str:
    """The text that `read` reads back; values that are not plain are written as Python shows them.

    A list becomes a tuple.
    """
    if not params:
        return name
    return f"{name}({', '.join(f'{key}={_written(value)}' for key, value in params.items())})"


def _written(value: Any) -> str:
    if isinstance(value, tuple | list):
        parts = [_written(part) for part in value]
        return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
    if isinstance(value, str):
        bare = _BARE.fullmatch(value) and value == value.strip()
        number = _INTEGER.fullmatch(value) or _REAL.fullmatch(value)
        return json.dumps(value) if not bare or number or value.lower() in _WORDS else value
    return str(value)


def is_plain(value: Any) -> bool:
    """Whether `write` and `read` give a parameter back as it is."""
    if isinstance(value, tuple):
        return all(map(is_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return abs(value) < 10**18
    return value is None or isinstance(value, str)


def parameters(factory: Callable[..., Any]) -> dict[str, Any] | None:
    """The parameters of a factory and their defaults, `REQUIRED` where there is none.

    Returns:
        None where they cannot be known, or where it takes any.
    """
    found = _signature(factory)
    if found is None or any(p.kind is p.VAR_KEYWORD for p in found):
        return None
    return {p.name: p.default for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


REQUIRED = inspect.Parameter.empty


def _signature(factory: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """A factory's parameters; None where they cannot be known."""
    cls: Any = factory if inspect.isclass(factory) else None
    if cls is not None:
        plain = cls.__init__ is object.__init__ and cls.__new__ is object.__new__
        # A subclass of a protocol has a constructor of typing's until it is first made.
        if plain or getattr(cls.__init__, "__module__", "") == "typing":
            return []
    try:
        return list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):
        return None


def import_name(thing: Any) -> str | None:
    """The "module:Name" that a class or function can be imported by, or None.

    What stands in the script that runs has the script's name as its module.
    """
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
    if not isinstance(module, str) or not name or "<" in name:
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    written = main_name() if module == "__main__" else module
    return f"{written}:{name}" if found is thing and written is not None else None


def origin(made: Any) -> tuple[str, dict[str, Any]] | None:
    """How to make a Python object again: its class by `import_name`, and the parameters.

    Those of a dataclass are its fields; of another class they are the constructor's, looked up as
    attributes of the same names.

    Returns:
        None if the class cannot be imported, or a parameter is not kept or not plain.
    """
    cls = type(made)
    name, params = import_name(cls), instance_params(made)
    return None if name is None or params is None else (name, params)


def instance_params(made: Any) -> dict[str, Any] | None:
    """The constructor's parameters of an object, or None if not all are kept and plain."""
    cls = type(made)
    if dataclasses.is_dataclass(cls):
        names = [field.name for field in dataclasses.fields(cls) if field.init]
    else:
        found = _signature(cls)
        if found is None or any(
            p.kind not in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in found
        ):
            return None
        names = [p.name for p in found]
    if not all(hasattr(made, name) for name in names):
        return None
    params = {name: as_tuple(getattr(made, name)) for name in names}
    return params if all(map(is_plain, params.values())) else None


def as_tuple(value: Any) -> Any:
    """A value with tuples in place of lists."""
    return tuple(map(as_tuple, value)) if isinstance(value, list) else value
