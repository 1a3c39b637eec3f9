"""Games by name: `game("connect_four", width=5)`, `games()`, `register_game(name, factory)`.

Names and parameters are plain data, read without evaluating anything: a run directory or a record
can name a game of this table only, never a module to import.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from playout.envs.catalogue import GAMES
from playout.envs.core.game import NativeGame
from playout.errors import ConfigError, GameError

Factory = Callable[..., Any]
_FORM = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]{0,62})\s*(?:\((.*)\))?\s*", re.DOTALL)
_ARGUMENT = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*([^\s=,()][^=,()]*?)\s*")
_registered: dict[str, Factory] = {}


class GameInfo(NamedTuple):
    """A game that `game(name)` knows."""

    name: str
    params: dict[str, Any]


def games() -> list[GameInfo]:
    """All known games, each with its parameters and their defaults."""
    found = [GameInfo(name, dict(entry.params)) for name, entry in GAMES.items()]
    found += [GameInfo(name, _defaults(factory)) for name, factory in _registered.items()]
    return sorted(found)


def register_game(name: str, factory: Factory) -> None:
    """Makes a game known by name.

    Args:
        name: An identifier that is not taken yet.
        factory: Called with the parameters as keywords; returns a capsule, a NativeGame or an
            object that follows `playout.envs.core.python_game.Game`.
    """
    if (
        not isinstance(name, str)
        or not _FORM.fullmatch(name)
        or "(" in name
        or name != name.strip()
    ):
        raise ConfigError(f"{name!r} cannot be a game's name: use letters, digits and _")
    if name in GAMES or name in _registered:
        raise ConfigError(f"a game named {name!r} is known already")
    if not callable(factory):
        raise TypeError(f"the factory of {name!r} must be callable, got {type(factory).__name__}")
    _registered[name] = factory


def unregister_game(name: str) -> None:
    """Forgets a game that `register_game` made known."""
    if _registered.pop(name, None) is None:
        raise ConfigError(f"no game named {name!r} was registered")


def game(game: object, **params: Any) -> NativeGame:
    """A game, by name or from whatever can be made into one.

    Args:
        game: A name ("connect_four"), a name with parameters in text ("connect_four(width=5)"),
            a NativeGame (returned as it is), a capsule, or a Python object that follows
            `playout.envs.core.python_game.Game`.
        **params: Parameters of a game that is given by name.

    Raises:
        ConfigError: Unknown game or parameter, or a value that the game cannot be played with.
        GameError: A capsule or Python object that is not a proper game.
    """
    if isinstance(game, str):
        name, given = parse_form(game)
        twice = sorted(given.keys() & params.keys())
        if twice:
            raise ConfigError(f"{name}: parameter {twice[0]!r} is given twice")
        return _by_name(name, {**given, **params})
    if params:
        raise ConfigError("parameters can only be given together with a game's name")
    return _wrap(game, {})


def parse_form(text: str) -> tuple[str, dict[str, Any]]:
    """Splits "name(key=value, ...)" into its name and parameters (numbers, true, false or text)."""
    match = _FORM.fullmatch(text) if len(text) <= 1000 else None
    if match is None:
        raise ConfigError(f"{text[:80]!r} is not a game: write name or name(key=value, ...)")
    name, arguments = match.group(1), match.group(2)
    params: dict[str, Any] = {}
    for part in arguments.split(",") if arguments and arguments.strip() else []:
        argument = _ARGUMENT.fullmatch(part)
        if argument is None:
            raise ConfigError(f"{name}: {part.strip()[:40]!r} is not of the form key=value")
        if argument.group(1) in params:
            raise ConfigError(f"{name}: parameter {argument.group(1)!r} is given twice")
        params[argument.group(1)] = _value(argument.group(2))
    return name, params


def _value(text: str) -> int | float | bool | str:
    if text in ("true", "True"):
        return True
    if text in ("false", "False"):
        return False
    if re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    if re.fullmatch(r"[+-]?\d{0,17}\.\d{0,17}", text) and any(letter.isdigit() for letter in text):
        return float(text)
    return text.strip("'\"")


def _by_name(name: str, params: dict[str, Any]) -> NativeGame:
    if name in _registered:
        factory, known = _registered[name], _defaults(_registered[name])
    elif name in GAMES:
        factory, known = import_module(GAMES[name].module).make, dict(GAMES[name].params)
    else:
        names = ", ".join(info.name for info in games())
        raise ConfigError(f"no game is named {name!r}; known are {names}")
    for key in params:
        if key not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ConfigError(f"{name} has no parameter {key!r}: {takes}")
    if name in GAMES:
        for key, value in params.items():
            if isinstance(value, bool) or not isinstance(value, int):
                raise ConfigError(f"{name}: {key} must be an integer, got {value!r}")
    try:
        return _wrap(factory(**params), {**known, **params})
    except OverflowError:
        raise ConfigError(f"{name}: a parameter in {params} is too large") from None
    except (ValueError, TypeError) as error:
        if isinstance(error, GameError):
            raise
        raise ConfigError(str(error)) from error


def _wrap(made: Any, params: Mapping[str, Any]) -> NativeGame:
    if isinstance(made, NativeGame):
        return made
    if type(made).__name__ == "PyCapsule":
        return NativeGame(made, params=params)
    if hasattr(made, "initial_state") and hasattr(made, "legal_actions"):
        from playout.envs.core.python_game import from_python

        return from_python(made, params=params)
    raise GameError(
        f"{type(made).__name__} is not a game: expected a name, a NativeGame, a capsule or an "
        "object with the methods of playout.envs.core.python_game.Game"
    )


def _defaults(factory: Factory) -> dict[str, Any]:
    """The parameters of a registered factory, from its signature; None stands for "no default"."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {
        p.name: None if p.default is inspect.Parameter.empty else p.default
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
