"""Games by name: `game("connect_four", width=5)`, `games()`, `register_game(name, factory)`.

A name is one of the table of built-in games, one that was registered, or "module:Name" for a game
of one's own, whose module is imported only if the person trusts it (own_code.py): a run directory
or a record names modules as well. `game_text` is the way back: what a run stores of a game. The
written form is game_text.py's part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import isclass, ismodule
from typing import Any, NamedTuple

import numpy as np
from playout.envs import game_text as form
from playout.envs.catalogue import GAMES
from playout.envs.core.game import NativeGame
from playout.errors import ConfigError, GameError, PlayoutError, likely_names
from playout.own_code import load_object, trust, trust_given, trust_modules

Factory = Callable[..., Any]
_registered: dict[str, Factory] = {}


class GameInfo(NamedTuple):
    """A game that `game(name)` knows."""

    name: str
    params: dict[str, Any]


def games() -> list[GameInfo]:
    """All known games, each with its parameters and their defaults."""
    found = [GameInfo(name, entry.parameters()) for name, entry in GAMES.items()]
    found += [GameInfo(name, _plain_defaults(factory)) for name, factory in _registered.items()]
    return sorted(found)


def register_game(name: str, factory: Factory) -> None:
    """Makes a game known by name.

    Args:
        name: An identifier that is not taken yet.
        factory: Called with the parameters as keywords; returns a capsule, a NativeGame or an
            object that follows `playout.envs.core.python_game.Game`.
    """
    if not form.is_name(name):
        raise ConfigError(f"{name!r} cannot be a game's name: use letters, digits and _")
    if name in GAMES or name in _registered:
        raise ConfigError(f"a game named {name!r} is known already")
    if not callable(factory):
        raise TypeError(f"the factory of {name!r} must be callable, got {type(factory).__name__}")
    _registered[name] = factory
    if (origin := form.import_name(factory)) is not None:
        trust_given(origin)


def unregister_game(name: str) -> None:
    """Forgets a game that `register_game` made known."""
    if _registered.pop(name, None) is None:
        raise ConfigError(f"no game named {name!r} was registered")


def game(game: object, **params: Any) -> NativeGame:
    """A game, by name or from whatever can be made into one.

    Args:
        game: A name ("connect_four"), a name with parameters in text ("connect_four(width=5)"),
            "module:Name" or "module:Name(size=6)" of a trusted module, where Name is a class or
            function that makes a game or a game itself; a NativeGame (returned as it is), a
            capsule, or a Python object that follows `playout.envs.core.python_game.Game`.
        **params: Parameters of a game that is given by name.

    Raises:
        ConfigError: Unknown game, module or parameter, a module that nobody trusts, or a value that
            the game cannot be played with.
        GameError: Something that is not a proper game.
    """
    if isinstance(game, str):
        name, given = form.read(game)
        twice = sorted(given.keys() & params.keys())
        if twice:
            raise ConfigError(f"{name}: parameter {twice[0]!r} is given twice")
        return _by_name(name, {**given, **params})
    if params:
        raise ConfigError("parameters can only be given together with a game's name")
    return _wrap(game)


def given_game(game: object, **params: Any) -> NativeGame:
    """As `game`, for what a person types or hands over: their word that its module is trusted."""
    if isinstance(game, str) and ":" in game:
        trust_modules(form.read(game)[0])
    made = _game(game, **params)
    if made.origin is not None and ":" in made.origin:
        trust_given(made.origin)
    return made


_game = game  # `given_game` has an argument of that name


def game_text(game: object) -> str | None:
    """The text that makes a game again by `game(text)`: what a run stores.

    Args:
        game: Whatever `game` takes.

    Returns:
        A built-in name, or "module:Name" for a game of one's own; a name that was registered where
        its factory cannot be imported. None for a game that only this program can make.
    """
    made = _game(game)
    if made.origin is not None:
        return made.origin
    if made.name in GAMES:
        text = form.write(made.name, made.params)
        try:
            return text if _game(text) == made else None
        except PlayoutError:
            return None
    return None


def built_in(game: NativeGame) -> bool:
    """Whether it is one of the games that come with playout, and not just called like one."""
    return game.origin is None and game.name in GAMES and game_text(game) is not None


def _by_name(name: str, params: dict[str, Any]) -> NativeGame:
    numbers = {key: int(value) for key, value in params.items() if isinstance(value, np.integer)}
    params = {**params, **numbers}
    if name not in GAMES:  # records hold lists
        params = {key: form.as_tuple(value) for key, value in params.items()}
    if ":" in name:
        return _own_game(name, params)
    if name in _registered:
        factory = _registered[name]
        return _make(name, factory, params, origin=form.import_name(factory) or name)
    if name not in GAMES:
        names = [info.name for info in games()]
        close = likely_names(name, names)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(names)}"
        raise ConfigError(f"no game is named {name!r}; {hint} (module:Name is one of your own)")
    entry = GAMES[name]
    if entry.module is None:  # its header checks and tells the parameters
        return NativeGame(_call(name, entry.make, params), prover=entry.prover)
    known = entry.parameters()
    _check_names(name, params, known)
    return _wrap(_call(name, entry.make, params), {**known, **params}, entry.prover)


def _own_game(name: str, params: dict[str, Any]) -> NativeGame:
    """The game that "module:Name" makes or is."""
    trust(name, "the game's name", "game")
    found = load_object(name, "game")
    if ismodule(found) and hasattr(found, "make"):  # a compiled game's module
        trust(f"{name}.make", "the game's name", "game")
        found = found.make
    if isclass(found) or (callable(found) and not _follows(found)):
        return _make(name, found, params, origin=name)
    if params:
        raise ConfigError(f"{name} is a game already: it takes no parameters")
    made = _wrap(found)
    made.origin = name
    return made


def _make(name: str, factory: Factory, params: dict[str, Any], *, origin: str) -> NativeGame:
    """What a factory of the person's own makes; `origin` is written with the parameters."""
    known = form.parameters(factory)
    if known is not None:
        _check_names(name, params, known)
        for key, default in known.items():
            if default is form.REQUIRED and key not in params:
                raise ConfigError(f"{name} needs the parameter {key!r}: write {name}({key}=...)")
    # Parameters that cannot be written stay at their defaults, or the game has no text.
    used = {key: value for key, value in (known or {}).items() if form.is_plain(value)} | params
    try:
        called = _call(name, factory, params)
    except ConfigError as error:
        # A function in C tells its parameters to nobody, but its game's table has them.
        if known is None and isinstance(error.__cause__, TypeError):
            _check_names(name, params, _table_parameters(factory) or params)
        raise
    made = _wrap(called, used)
    made.origin = form.write(origin, used) if all(map(form.is_plain, used.values())) else None
    return made


def _call(name: str, factory: Factory, params: dict[str, Any]) -> Any:
    try:
        return factory(**params)
    except OverflowError:
        raise ConfigError(f"{name}: a parameter in {params} is too large") from None
    except PlayoutError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from error
    except Exception as error:
        raise ConfigError(f"{name} raised {type(error).__name__}: {error}") from error


def _table_parameters(factory: Factory) -> dict[str, Any]:
    """The parameters that a factory's game names where none are given; {} if it cannot be made."""
    try:
        return _wrap(factory()).params
    except Exception:
        return {}


def _check_names(name: str, params: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for key in params:
        if key not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ConfigError(f"{name} has no parameter {key!r}: {takes}")


def _follows(made: object) -> bool:
    return hasattr(made, "initial_state") and hasattr(made, "legal_actions")


def _wrap(
    made: Any, params: Mapping[str, Any] | None = None, prover: str | None = None
) -> NativeGame:
    """A capsule or an object of Python as a NativeGame; `params` None: those that it keeps."""
    if isinstance(made, NativeGame):
        return made
    if type(made).__name__ == "PyCapsule":
        foreign = NativeGame(made, params=params, prover=prover)
        foreign.try_play()
        return foreign
    if _follows(made) and not isclass(made):
        from playout.envs.core.python_game import from_python

        found = form.instance_params(made) if params is None else params
        try:
            native = from_python(made, params=found)
        except PlayoutError:
            raise
        except Exception as error:
            kind = type(made).__name__
            raise GameError(f"{kind} raised {type(error).__name__}: {error}") from error
        if params is None:
            native.origin = _rebuilt(made, native)
        return native
    raise GameError(
        f"{made.__name__ if isclass(made) else type(made).__name__} is not a game: expected a "
        "name, a NativeGame, a capsule or an object with the methods of "
        f"playout.envs.core.python_game.Game{_lacking(made)}"
    )


def _lacking(made: object) -> str:
    """The methods that are missing, where an object could have any."""
    from playout.envs.core.python_game import METHODS

    missing = [name for name in METHODS if not callable(getattr(made, name, None))]
    return f"; it lacks {', '.join(missing)}" if missing else ""


def _rebuilt(made: Any, native: NativeGame) -> str | None:
    """The text that makes an object of Python again, if what it makes is the same game."""
    from playout.envs.core.python_game import from_python

    found = form.origin(made)
    if found is None:
        return None
    text = form.write(*found)
    try:
        again = from_python(type(made)(**form.read(text)[1]), params=native.params)
        same = again == native and again.initial_state().text == native.initial_state().text
    except Exception:
        return None
    return text if same else None


def _plain_defaults(factory: Factory) -> dict[str, Any]:
    """The parameters of a registered factory, for lists; None stands for "no default"."""
    found = form.parameters(factory) or {}
    return {key: None if value is form.REQUIRED else value for key, value in found.items()}
