"""Finds the environment that a command line names: a kind with a prefix, or a class of one's own.

`game:connect_four` and the other prefixes of KINDS are modules of this folder or of adaptors/, each
with a function `make(name, options) -> EnvironmentFactory`; anything else is `module:Class`. A
class that only a run names is imported on the person's word alone (own_code.py).
"""

import importlib
import importlib.util
import inspect
import itertools
import re
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from playout.envs.game_text import read
from playout.errors import ConfigError, EnvironmentFault
from playout.own_code import fault_of, load_object, trust, trust_module
from playout.rlhf.environments.checked import (
    STOPS,
    in_time,
    kept_process,
    kind_of,
    seed_generators,
)
from playout.rlhf.environments.environment import Environment, EnvironmentFactory, Split, Task

__all__ = [
    "GOAL_TOLD",
    "KINDS",
    "code_of",
    "load_environment",
    "read_options",
    "stored_options",
    "trust_language_environment",
]

KINDS = ("game", "reasoning_gym", "textarena", "verifiers", "trl")
"""Prefixes, each the name of a module."""
GOAL_TOLD = "goal_told"
"""A run that has this setting was made when prompts of games could say what wins."""
MAX_OPTIONS = 990
"""Characters of the text of all options."""
MAX_TASKS = 1 << 22  # a generator may have no end
# A text in quotes, which is left as it is, or a key without a value.
_EMPTY_VALUE = re.compile(r"""("[^"]*"|'[^']*')|=\s*(?=,|$)""")


def read_options(text: str) -> dict[str, Any]:
    """The options in `key=value,...` as `--env-options` takes them; values as a game's parameters.

    A key with nothing behind it is an empty text; what reads as a number, true, false or none is
    a text in quotes only.

    Raises:
        ConfigError: The text is not of this form.
    """
    text = _EMPTY_VALUE.sub(lambda found: found[1] or '=""', text)
    if len(text) > MAX_OPTIONS:
        raise ConfigError(
            f"options: the text has {len(text):,} characters, and at most {MAX_OPTIONS} are read"
        )
    return read(f"options({text})")[1] if text.strip() else {}


def stored_options(config: Mapping[str, Any]) -> str:
    """The options of the environment that a run acts in, under today's names.

    Runs of earlier versions learned from prompts that did not say what wins, and are shown no
    others.
    """
    text = str(config.get("env_options") or "")
    of_game = str(config.get("env") or "").startswith("game:")
    if not of_game or config.get(GOAL_TOLD) or "goal" in read_options(text):
        return text
    return f"{text},goal=false" if text.strip() else "goal=false"


def load_environment(
    name: str, options: Mapping[str, Any] | None = None, *, seconds: float = 60.0
) -> EnvironmentFactory:
    """The environment of that name.

    Args:
        name: `KIND:rest` or `module:Class`; the module is found from the current folder on.
        options: Keyword arguments of the class, or options of the kind.
        seconds: That making an object of one's own class, and asking it for tasks, may take; 0
            sets no limit.

    Raises:
        ConfigError: There is no such environment, or it cannot be made with these options.
        EnvironmentFault: It cannot be made in time.
    """
    kind, _, rest = name.partition(":")
    if not rest:
        known = ", ".join(f"{kind}:NAME" for kind in KINDS)
        raise ConfigError(f"{name!r} is no environment: write {known}, or module:Class")
    if kind in KINDS:
        room = "" if kind == "game" else "adaptors."
        module = f"playout.rlhf.environments.{room}{kind}"
        if importlib.util.find_spec(module) is None:
            raise ConfigError(f"environments of the kind {kind}: are not part of this version")
        make: Callable[[str, Any], EnvironmentFactory] = importlib.import_module(module).make
        given = dict(options or {})
        if kind != "trl":  # what others make of their own may well take long
            return make(rest, given)
        return in_time(seconds, f"the environment {name}: making it", lambda: make(rest, given))
    maker = load_object(name, "the environment")
    return own_environment(maker, name, options, seconds=seconds)


def own_environment(
    maker: Any,
    called: str | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    seconds: float = 60.0,
) -> EnvironmentFactory:
    """A class of one's own (or a function that makes objects) with its options.

    Args:
        maker: The class or the function.
        called: What errors call it; by default its own name.
        options: Keyword arguments of `maker`.
        seconds: That making the first one, and asking it for the tasks of a side, may take; 0 sets
            no limit.

    Raises:
        ConfigError: It does not take the options, or what it makes has no `reset` and `step`.
        EnvironmentFault: It cannot be made in time.
    """
    given = dict(options or {})
    name = called or str(getattr(maker, "__name__", type(maker).__name__))
    if not callable(maker):
        raise ConfigError(
            f"the environment {name!r} is neither a class nor a function: an object serves one "
            "episode, so give what makes them"
        )
    _check_options(maker, name, given)

    def create() -> Environment:
        return maker(**given)  # type: ignore[no-any-return]

    try:
        # What it draws is the same in a run that goes on.
        with kept_process():
            seed_generators(name)
            first = in_time(seconds, f"the environment {name}: making it", create)
    except (*STOPS, EnvironmentFault):
        raise
    except BaseException as error:
        raise ConfigError(f"the environment {name} cannot be made: {fault_of(error)}") from error
    for method in ("reset", "step"):
        if not callable(getattr(first, method, None)):
            raise ConfigError(
                f"the environment {name} has no method {method}; it needs reset(task, seed) and "
                "step(answer)"
            )

    def find_tasks(split: Split) -> Sequence[Task] | None:
        asked = getattr(first, "tasks", None)
        if asked is None:
            return None

        def ask() -> Any:
            found = asked(split) if callable(asked) else asked[split]
            if found is None or isinstance(found, Sequence | Mapping | Set):
                return found
            return list(itertools.islice(found, MAX_TASKS + 1))

        try:
            with kept_process():
                seed_generators(name, split)
                found = in_time(seconds, f"the environment {name}: tasks({split!r})", ask)
        except (*STOPS, EnvironmentFault):
            raise
        except BaseException as error:
            raise ConfigError(
                f"the environment {name} has no tasks for {split}; tasks({split!r}) should be a "
                f"list: {fault_of(error)}"
            ) from error
        if isinstance(found, str | bytes | Mapping | Set):
            why = ": a set has no order that another run would see again"
            raise ConfigError(
                f"the environment {name}: tasks({split!r}) returned {kind_of(found)}, not a list"
                + (why if isinstance(found, Set) else "")
            )
        if found is not None and len(found) > MAX_TASKS:
            raise ConfigError(
                f"the environment {name} has more than {MAX_TASKS} tasks for {split}; without "
                "tasks the seed says what an episode is about"
            )
        if found is not None and not len(found):
            raise ConfigError(f"the environment {name} has no tasks for {split}")
        return found

    return EnvironmentFactory(name, create, find_tasks)


def _check_options(maker: Any, name: str, options: Mapping[str, Any]) -> None:
    try:
        known = inspect.signature(maker).parameters.values()
    except (TypeError, ValueError):  # a class in C says nothing about itself
        return
    for parameter in known:
        # `kind=none` is None; whoever declares a text means the word.
        texts = parameter.annotation in (str, "str") and parameter.default is not None
        if texts and options.get(parameter.name, "") is None:
            raise ConfigError(
                f"the environment {name}: its option {parameter.name!r} is a text, and none is "
                f"read as None; the word is {parameter.name}='none'"
            )
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known):
        return
    names = [parameter.name for parameter in known]
    for option in options:
        if option not in names:
            listed = f"; it has {', '.join(names)}" if names else "; it has none"
            raise ConfigError(f"the environment {name} has no option {option!r}{listed}")


def code_of(name: str) -> str | None:
    """The module of the person's own that an environment's name imports, if any."""
    kind, _, rest = name.partition(":")
    if kind not in KINDS:
        return kind if rest else None
    if kind == "verifiers":  # names a module even without a colon
        return rest.rpartition("/")[2].partition("@")[0].replace("-", "_") or None
    head = rest.partition("(")[0] if kind == "game" else rest
    return head.partition(":")[0] if ":" in head else None


def trust_language_environment(name: str, where: object) -> None:
    """Refuses code that only a run names, unless its module is trusted (own_code.py)."""
    module, kind = code_of(name), name.partition(":")[0]
    if module is None:
        return
    if kind == "verifiers":
        trust_module(module, where, name)
    else:
        trust(name.partition(":")[2] if kind in KINDS else name, where, "the environment")
