"""What a person names or hands over as an environment, told apart: `find_source`.

An id, `module:Env-v0`, `module:Name` (a class or function that makes an environment, an environment
or a game), `parallel:` and `aec:` names of PettingZoo, a game; or the thing itself from Python. A
`Source` knows its kind, how one is made, and the text by which a run finds it again. Leaves out
stepping (factory.py, pettingzoo.py) and self-play (ppo/league).
"""

import copy
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, Literal

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game, game_text, games
from playout.envs.game_text import import_name, origin, read, write
from playout.errors import ConfigError, EnvironmentFault, PlayoutError
from playout.own_code import import_module, load_object, trust_given, trust_modules

Kind = Literal["id", "single", "vector", "parallel", "aec", "game"]

EnvSource = Any
"""Text, a class or function that makes an environment, an environment, a vector environment, a
PettingZoo environment, a game, or a `Source`."""

# What PettingZoo's environments import, where the package is called as its module is. Others are
# not offered: a misspelt module of one's own is no package to install.
_PACKAGES = frozenset({"pettingzoo", "pygame", "pymunk", "chess", "rlcard", "shimmy"})


@dataclass(frozen=True, slots=True)
class Source:
    """One kind of environments and how they are made.

    Attributes:
        text: What tables call it, and a run stores.
        kind: "id" is Gymnasium's registry, "single" makes one `gymnasium.Env`, "vector" a vector
            environment, "parallel" and "aec" PettingZoo's; a "game" is learned by self-play.
        make: Makes one, with the environment's options as keywords; of a game the game itself.
        named: Whether `text` leads back to it, from another process too.
    """

    text: str
    kind: Kind
    make: Callable[..., Any]
    named: bool = True


def find_source(given: EnvSource, options: dict[str, Any] | None = None) -> Source:
    """The source that a text or an object stands for.

    Args:
        given: See `EnvSource`.
        options: Keywords of the environment; a function may have to be called once with them to
            learn what it makes.

    Raises:
        ConfigError: It is none, its module cannot be imported, or making one failed.
    """
    if isinstance(given, Source):
        return given
    if isinstance(given, str):
        return _from_text(given, options or {})
    if isinstance(given, NativeGame) or _is_game(given):
        return _game(given)
    if callable(given) and not isinstance(given, gym.Env | VectorEnv):
        name = import_name(given)
        text = name or str(getattr(given, "__name__", type(given).__name__))
        return _from_factory(given, text, name is not None, options or {})
    return _from_instance(given)


def given_source(given: EnvSource, options: dict[str, Any] | None = None) -> Source:
    """As `find_source`, of what the person has named or handed over: its module is so trusted."""
    if isinstance(given, str):
        trust_modules(given.removeprefix("aec:").removeprefix("parallel:"))
    source = find_source(given, dict(options or {}))
    if source.named and ":" in source.text:
        trust_given(source.text)
    return source


def is_game_text(text: str) -> bool:
    """Whether a text names a built-in or registered game."""
    return text.partition("(")[0] in {info.name for info in games()}


def _from_text(text: str, options: dict[str, Any]) -> Source:
    head, _, name = text.partition(":")
    if head in ("parallel", "aec"):
        kind: Kind = "aec" if head == "aec" else "parallel"
        if ":" not in name and "/" not in name:
            name = _pettingzoo_module(name).__name__
        return Source(f"{kind}:{name}", kind, partial(_make_pettingzoo, kind, name))
    if is_game_text(text):
        return _game(text)
    if ":" not in text or re.search(r"-v\d+$", text):
        return Source(text, "id", gym.make)
    name, params = read(text)
    found = load_object(name, "environment")
    if _is_game(found):
        return Source(text, "game", partial(game, text))
    if isinstance(found, gym.Env | VectorEnv) or _agents(found) is not None:
        if params:
            raise ConfigError(f"{name} is an environment already: it takes no parameters")
        return Source(text, *_copied(found))
    if not callable(found):
        raise ConfigError(f"{text} is neither an environment nor what makes one: {found!r:.60}")
    return _from_factory(partial(found, **params) if params else found, text, True, options)


def _game(given: Any) -> Source:
    made = game(given)
    text = game_text(made)
    return Source(text or made.name, "game", lambda: made, text is not None)


def _is_game(thing: Any) -> bool:
    capsule = type(thing).__name__ == "PyCapsule" or isinstance(thing, NativeGame)
    return capsule or (hasattr(thing, "initial_state") and hasattr(thing, "legal_actions"))


def _agents(thing: Any) -> Kind | None:
    """Which of PettingZoo's two kinds an environment is, if it is one."""
    if isinstance(thing, type) or not hasattr(thing, "possible_agents"):
        return None
    return "aec" if hasattr(thing, "agent_iter") else "parallel"


def _from_factory(
    make: Callable[..., Any], text: str, named: bool, options: dict[str, Any]
) -> Source:
    """What a class or function makes; a class of environments tells without being called."""
    if isinstance(make, type) and issubclass(make, gym.Env):
        return Source(text, "single", make, named)
    one = called(make, text, options)
    kind: Kind
    if isinstance(one, VectorEnv):
        kind = "vector"
    elif isinstance(one, gym.Env):
        kind = "single"
    elif (found := _agents(one)) is not None:
        kind = found
    elif _is_game(one):
        source = _game(one)
        return Source(text, "game", source.make, named)
    else:
        raise ConfigError(
            f"{text} makes a {type(one).__name__}, which is no gymnasium.Env, no vector "
            "environment, no PettingZoo environment and no game"
        )
    one.close()
    return Source(text, kind, make, named)


def called(make: Callable[..., Any], text: str, options: dict[str, Any]) -> Any:
    """What a factory makes; its errors in one line."""
    try:
        return make(**options)
    except PlayoutError:
        raise
    except TypeError as error:
        raise ConfigError(f"{text} cannot be made: {error}") from error
    except Exception as error:
        raise EnvironmentFault(f"{text} cannot be made: {type(error).__name__}: {error}") from error


def _from_instance(env: Any) -> Source:
    kind, make = _copied(env)
    spec = getattr(env, "spec", None)
    plain = {"max_episode_steps", "num_envs", "vectorization_mode"}  # what make_vec notes itself
    if spec is not None and set(spec.kwargs) <= plain and not spec.additional_wrappers:
        known = gym.registry.get(spec.id)
        if known is not None and known.entry_point == spec.entry_point:
            return Source(spec.id, kind, make)
    again = origin(env)
    if again is not None:
        return Source(write(*again), kind, make)
    return Source(type(getattr(env, "unwrapped", env)).__name__, kind, make, False)


def _copied(env: Any) -> tuple[Kind, Callable[..., Any]]:
    """The kind of an environment that is made already, and what makes another like it."""
    kind: Kind | None = "single" if isinstance(env, gym.Env) else _agents(env)
    if isinstance(env, VectorEnv):
        kind = "vector"
    if kind is None:
        raise ConfigError(
            f"{env!r:.80} is no environment: give an id, a class or function that makes one, a "
            "gymnasium.Env, a vector environment, a PettingZoo environment or a game"
        )
    return kind, partial(_copy, env)


def _copy(env: Any, **options: Any) -> Any:
    if options:
        raise ConfigError("an environment that is made already takes no options")
    if isinstance(env, SyncVectorEnv | AsyncVectorEnv):
        mode = env.metadata["autoreset_mode"]
        return type(env)(env.env_fns, autoreset_mode=mode)
    try:
        return copy.deepcopy(env)
    except Exception as error:
        raise ConfigError(
            f"{type(env).__name__} cannot be copied ({type(error).__name__}: {error}): give a "
            "function that makes it"
        ) from error


def takes(make: Callable[..., Any], name: str) -> bool:
    """Whether a factory has a parameter of this name."""
    try:
        return name in inspect.signature(make).parameters
    except (TypeError, ValueError):
        return False


def _make_pettingzoo(kind: str, name: str, **options: Any) -> Any:
    """`playout/pursuit-v0` (its registry), `pettingzoo.mpe.simple_spread_v3`, `module:function`."""
    try:
        if ":" in name:
            made = load_object(name, "environment")
            made = made(**options) if callable(made) else _copy(made, **options)
        elif "/" in name:
            import pettingzoo  # type: ignore[import-untyped]

            made = pettingzoo.make(kind, name, **options)
        else:
            attribute = "env" if kind == "aec" else "parallel_env"
            made = getattr(import_module(name), attribute)(**options)
    except Exception as error:
        raise _cannot_make(name, error) from error
    found = _agents(made)
    if found != kind:
        hint = f": write {found}:{name}" if found else ""
        raise ConfigError(f"{name} makes no {kind} environment of PettingZoo{hint}")
    return made


def _pettingzoo_module(name: str) -> ModuleType:
    """A module by its name, which may leave out the package: `classic.tictactoe_v3`."""
    try:
        return import_module(name)
    except ConfigError as error:
        missing = error.__cause__
        absent = isinstance(missing, ModuleNotFoundError) and missing.name == name.split(".")[0]
        if not absent or "." not in name:
            raise _cannot_make(name, error) from error
    try:
        return import_module(f"pettingzoo.{name}")
    except ConfigError as error:
        raise _cannot_make(name, error) from error


def _cannot_make(name: str, error: BaseException) -> ConfigError:
    """The error for an environment that PettingZoo does not make; names the package it lacks."""
    reason = error.__cause__ if isinstance(error, ConfigError) else error
    lacks = reason.name if isinstance(reason, ImportError) else None
    hint = f" (pip install {lacks})" if lacks in _PACKAGES else ""
    return ConfigError(f"cannot make the PettingZoo environment {name!r}: {error}{hint}")
