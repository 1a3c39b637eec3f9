"""Code of the person's own that is named as "module" or "module:Name": found, imported, trusted.

What a person types (a name on the command line, `--trust MODULE`, an argument in Python) is their
word, and `trust_modules` keeps it for this process. What a file names is used only if that word (or
the environment variable PLAYOUT_TRUST) covers its module, or the person's program has imported it,
and if it was written there: not what is merely imported there, nor what every program has, such as
os. Leaves out what is done with the object.
"""

import contextlib
import functools
import glob
import importlib
import importlib.machinery
import importlib.util
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from inspect import ismodule
from pathlib import Path
from types import ModuleType
from typing import Any

from playout.errors import ConfigError, likely_names

# Packages whose environments may be made because a run names them.
_KNOWN_PACKAGES = ("gymnasium", "pettingzoo", "playout", "ale_py")
# Classes of environments, which take plain settings as those of registered ids do; and the names of
# functions that make them where PettingZoo keeps one in a module of its own.
_ENVIRONMENTS = frozenset(
    {
        ("gymnasium.core", "Env"),
        ("gymnasium.vector.vector_env", "VectorEnv"),
        ("pettingzoo.utils.env", "AECEnv"),
        ("pettingzoo.utils.env", "ParallelEnv"),
    }
)
_MAKERS = frozenset({"env", "raw_env", "parallel_env"})
_trusted: set[str] = set()  # "module", and "module:Name" where a person has said that much
_importing = 0  # modules whose import is under way


def import_module(name: str) -> ModuleType:
    """A module by its name; one in the current folder comes before an installed one.

    The command line's `sys.path` begins where the command is installed, not here. The script that
    runs is not imported a second time under its own name.

    Raises:
        ConfigError: it is not there, or raised while it was imported (the file and line are named).
    """
    global _importing
    if name not in sys.modules and name == main_name():
        return sys.modules["__main__"]
    here, head = os.getcwd(), name.partition(".")[0]
    first = head not in _KNOWN_PACKAGES and _stands_here(head)
    if first:
        sys.path.insert(0, here)
    new = name not in sys.modules
    _importing += new
    try:
        importlib.invalidate_caches()
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and not f"{name}.".startswith(f"{error.name}."):
            raise _faulty(name, error) from error  # it is there, but not what it needs
        raise ConfigError(f"cannot import the module {name!r}: {error}") from error
    except (Exception, SystemExit) as error:
        raise _faulty(name, error) from error
    finally:
        _importing -= new
        if first:
            sys.path.remove(here)
            if here not in sys.path:  # for what it imports later, when it is used
                sys.path.append(here)


def _stands_here(head: str) -> bool:
    """Whether the current folder holds a module or package of that name."""
    return bool(glob.glob(f"{glob.escape(head)}.*")) or os.path.isdir(head)


def main_name() -> str | None:
    """The name under which the script that runs could be imported; None where there is none."""
    main = sys.modules.get("__main__")
    spec, path = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:  # python -m package.module
        return None if spec.name.endswith("__main__") else str(spec.name)
    stem, suffix = os.path.splitext(os.path.basename(path or ""))
    return stem if suffix == ".py" and stem.isidentifier() else None


def refuse_while_importing(what: str) -> None:
    """Stops a script that trains as soon as it is imported, before it trains inside itself.

    Raises:
        ConfigError: a module of the person's is being imported just now.
    """
    if _importing:
        raise ConfigError(
            f"{what} was begun while a module was being imported; put what that script does under "
            'if __name__ == "__main__":'
        )


def _faulty(name: str, error: BaseException) -> ConfigError:
    """One line for a module that raised while it was imported; the traceback is its cause."""
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((x for x in reversed(frames) if not x.filename.startswith("<frozen")), frames[-1])
    where = "" if isinstance(error, SyntaxError) else f" ({frame.filename}, line {frame.lineno})"
    return ConfigError(f"cannot import the module {name!r}: {type(error).__name__}: {error}{where}")


def fault_of(error: BaseException) -> str:
    """What a person's code raised, and where, in one line.

    The place is the last line of theirs before libraries (whatever was installed) took over; of a
    call that no line of theirs answered, as one with the wrong arguments, there is none.
    """
    what = f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")
    frames = traceback.extract_tb(error.__traceback__)
    here = os.path.dirname(os.path.abspath(__file__))
    rooms = (os.path.join(here, room, "") for room in ("envs", "mcts", "agents", "rlhf"))
    ours = (*rooms, os.path.abspath(__file__), "<frozen")
    installed = {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}
    others = [frame for frame in frames if not frame.filename.startswith(ours)]
    own = [frame for frame in others if not frame.filename.startswith((*installed,))]
    if not others:
        return what
    frame = (own or others)[-1]
    return f"{what} ({frame.filename}, line {frame.lineno})"


def load_object(name: str, what: str) -> Any:
    """The object called "module:Name"; importing runs that module's code.

    Args:
        name: Module and attribute, which may have dots but leads into no module outside.
        what: What it is to be, for the error.
    """
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ConfigError(f"cannot find {what} {name!r}: write module:Name")
    try:
        found: Any = import_module(module)
        for part in attribute.split("."):
            if part.startswith("__"):  # what Python keeps there, loaders and globals among it
                raise AttributeError(f"{part} is nobody's own")
            if not hasattr(found, part):
                raise AttributeError(_absent(found, part))
            found = getattr(found, part)
            if ismodule(found) and not f"{found.__name__}.".startswith(f"{module}."):
                raise AttributeError(f"{part} is the module {found.__name__}, imported there")
        return found
    except (ImportError, AttributeError, ConfigError) as error:
        raise ConfigError(f"cannot find {what} {name!r}: {error}") from error


def _absent(owner: Any, name: str) -> str:
    """That a module or class has no such name, and which one of its own may be meant."""
    close = likely_names(name, (known for known in dir(owner) if not known.startswith("_")))
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{getattr(owner, '__name__', owner)} has no {name}{hint}"


def trust_modules(*names: str) -> None:
    """Takes the person's word for modules, "module" or "module:Name": they may be imported.

    What was written in a module may then be used, and of what it has imported the names given here.
    """
    plain = [name.partition("(")[0].strip() for name in names]
    _trusted.update(*((name, name.partition(":")[0]) for name in plain))


def trust_given(name: str) -> None:
    """Takes what a person has handed over in Python for their word about its name, and no more."""
    _trusted.add(name.partition("(")[0].strip())


def is_known(module: str) -> bool:
    """Whether a module belongs to a package whose environments a run may always name."""
    return module.partition(".")[0] in _KNOWN_PACKAGES


def trust(name: str, where: object, what: str = "the code") -> None:
    """Refuse code named by a file, unless it is the person's own or they have allowed it.

    Args:
        name: "module:Name", perhaps with parameters in brackets.
        where: The file or folder that names it.
        what: What it is to be, for an error.

    Raises:
        ConfigError: Nobody has said that the module may be imported, it is not there, or it was
            only imported there.
    """
    name = name.partition("(")[0].strip()
    if name in _words():
        return
    module = name.partition(":")[0]
    trust_module(module, where, name)
    written = _written_in(load_object(name, what))
    if written is None or not _belongs(written, module):
        raise ConfigError(
            f"{where} names {name}, which {module} has only imported"
            f"{f' from {written}' if written else ''}; if you trust it, add --trust {name} "
            f'(in Python trust="{name}")'
        )


def trust_module(module: str, where: object, name: str = "") -> None:
    """As `trust`, where a module is imported and only what it offers by a fixed name is used."""
    if module not in _words() and not _is_persons(module):
        raise ConfigError(
            f"{where} names code to import ({name or module}); if you trust it, add --trust "
            f'{module} (in Python trust="{module}")'
        )


def _words() -> set[str]:
    """The names and modules for which there is a person's word."""
    said = [name.strip() for name in os.environ.get("PLAYOUT_TRUST", "").split(",")]
    return {*_trusted, *said, *(name.partition(":")[0] for name in said)} - {""}


def _is_persons(module: str) -> bool:
    """Whether the person's program has imported it; what is installed, any program may have."""
    found = sys.modules.get("__main__" if module == main_name() else module)
    path = getattr(found, "__file__", None)
    if path is None or is_known(module):
        return False
    path = os.path.realpath(path)
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    libraries = [os.path.realpath(sysconfig.get_path(name)) for name in names]
    installed = {"site-packages", "dist-packages"} & {*path.split(os.sep)}
    return not installed and not any(path.startswith(f"{one}{os.sep}") for one in libraries)


def _written_in(found: Any) -> str | None:
    """The module of a class or function, or of an object's class; "" for what nobody can call."""
    while isinstance(found, functools.partial):
        found = found.func
    if not callable(found):
        return ""
    module = getattr(found, "__module__", None)
    return module if isinstance(module, str) else None


def _belongs(written: str, module: str) -> bool:
    """Whether code of the module `written` may be called because a file names it in `module`."""
    if not written or f"{written}.".startswith(f"{module}."):
        return True
    same = written.partition(".")[0] == module.partition(".")[0]
    return (same and not is_known(module)) or written in _words() or _is_persons(written)


def module_of_environment(env: str) -> str | None:
    """The module that an environment's name imports, if any.

    "module:Env-v0" imports the module, and so do PettingZoo's dotted names behind "aec:" and
    "parallel:"; every other name is looked up in a registry.
    """
    kind, _, name = env.partition(":")
    if kind not in ("aec", "parallel"):
        return kind if name else None
    return name.partition(":")[0] if ":" in name or "/" not in name else None


def trust_environment(env: str, where: object) -> None:
    """As `trust`, for an environment's name in a file.

    Ids of a registry may be those of a module that any program has imported, and so may classes of
    environments.
    """
    module = module_of_environment(env)
    if module is None:
        return
    imported = is_known(module) or module in sys.modules
    name = env.partition("(")[0].strip()
    for kind in ("aec:", "parallel:"):
        name = name.removeprefix(kind)
    if ":" not in name:  # what such a module makes, it makes by a name of PettingZoo's
        if not is_known(module):
            trust_module(module, where)
    elif name == env and re.search(r"-v\d+$", env):
        if not imported:
            trust_module(env.rpartition(":")[0], where, env)
    elif not (imported and _makes_environments(load_object(name, "environment"), module)):
        trust(name, where, "environment")


def _makes_environments(found: Any, module: str) -> bool:
    if isinstance(found, type):
        return any((base.__module__, base.__name__) in _ENVIRONMENTS for base in found.__mro__)
    return is_known(module) and getattr(found, "__name__", "") in _MAKERS


# Settings that may name code of one's own.
_ENVIRONMENT_SETTINGS = frozenset({"env", "game"})
# Kinds of language environments, which stand before the name of one.
_TEXT_ENVIRONMENTS = frozenset({"game", "reasoning_gym", "textarena", "verifiers", "trl"})
_OBJECT_SETTINGS = frozenset({"network", "reward", "rewards", "trunk", "encoder"})


def trust_words(settings: Mapping[str, object]) -> str:
    """What a command that uses a run needs besides: " --trust MODULE" for each module it names.

    Args:
        settings: The run's, in nested tables.
    """
    return "".join(f" --trust {module}" for module in dict.fromkeys(_modules(settings)))


def _modules(settings: Mapping[str, object]) -> Iterator[str]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _modules(value)
            continue
        for text in value if isinstance(value, list | tuple) else (value,):
            if not isinstance(text, str):
                continue
            if key in _ENVIRONMENT_SETTINGS:
                head = text.partition("(")[0]
                kind, _, rest = head.partition(":")
                if kind in _TEXT_ENVIRONMENTS:  # behind these stands a name, or code of one's own
                    head = rest if ":" in rest else ""
                    if kind == "verifiers":
                        head = f"{rest.rpartition('/')[2].replace('-', '_')}:environment"
                module = module_of_environment(head)
                yield from _foreign(module)
            elif key in _OBJECT_SETTINGS:
                for name in text.split(","):  # several rewards
                    yield from _foreign(name.partition(":")[0] if ":" in name else None)


def own_sources(settings: Mapping[str, object]) -> dict[str, list[Path]]:
    """The Python files of what is a person's own here, by module; nothing is imported for it.

    Those are the modules that settings name, those that the person trusts, and their script.

    Args:
        settings: A run's, in nested tables.
    """
    modules = {*_modules(settings), *(name.partition(":")[0] for name in _words())}
    found = {module: _files_of(module) for module in sorted(modules) if not is_known(module)}
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if script and (name := main_name()) and not is_known(name):
        found[name] = [Path(script)]
    return {module: files for module, files in found.items() if files}


def _files_of(module: str) -> list[Path]:
    """The Python files of a module's whole package; of a compiled module there are none."""
    head, spec = module.partition(".")[0], None
    with contextlib.suppress(ValueError, ImportError):  # one that was never looked for
        if _stands_here(head):
            spec = importlib.machinery.PathFinder.find_spec(head, [os.getcwd()])
        spec = spec or importlib.util.find_spec(head)
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [
            file for place in spec.submodule_search_locations for file in Path(place).rglob("*.py")
        ]
    return [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []


def _foreign(module: str | None) -> Iterator[str]:
    if module and module.replace(".", "_").isidentifier() and not is_known(module):
        yield module
