"""Code of the person's own that is named as "module" or "module:Name": found, imported, trusted.

What a person types (a name on the command line, `--trust MODULE`, an argument in Python) is their
word, and `trust_modules` keeps it for this process. A name that comes out of a file is imported
only if it belongs to a known package, has been imported already, or is covered by that word (or by
the environment variable PLAYOUT_TRUST). Modules are looked for in the current folder as well.
Leaves out what is done with the object.
"""

import glob
import importlib
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from playout.errors import ConfigError

# Packages whose environments may be made because a run names them.
_KNOWN_PACKAGES = ("gymnasium", "pettingzoo", "playout", "ale_py")
_trusted: set[str] = set()
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
        name: Module and attribute.
        what: What it is to be, for the error.
    """
    module, _, attribute = name.partition(":")
    try:
        found: Any = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        return found
    except (ImportError, AttributeError, ConfigError) as error:
        raise ConfigError(f"cannot find {what} {name!r}: {error}") from error


def trust_modules(*names: str) -> None:
    """Takes the person's word for modules, "module" or "module:Name": they may be imported."""
    _trusted.update(name.partition(":")[0] for name in names)


def is_known(module: str) -> bool:
    """Whether a module belongs to a package whose environments a run may always name."""
    return module.partition(".")[0] in _KNOWN_PACKAGES


def trust(name: str, where: object) -> None:
    """Refuse to import code named by a file, unless the person has imported or allowed it.

    Args:
        name: "module:something".
        where: The file or folder that names it.

    Raises:
        ConfigError: nobody has said that the module may be imported.
    """
    module = name.partition(":")[0]
    allowed = {*_trusted, *os.environ.get("PLAYOUT_TRUST", "").split(",")}
    imported = module in sys.modules or module == main_name()
    if not is_known(module) and not imported and module not in allowed:
        raise ConfigError(
            f"{where} names code to import ({name}); if you trust it, add --trust {module} "
            f'(in Python trust="{module}")'
        )


def module_of_environment(env: str) -> str | None:
    """The module that an environment's name imports, if any.

    "module:Env-v0" imports the module, and so do PettingZoo's dotted names behind "aec:" and
    "parallel:"; every other name is looked up in a registry.
    """
    kind, _, name = env.partition(":")
    if kind not in ("aec", "parallel"):
        return kind if name else None
    return None if "/" in name else name.partition(":")[0]


def trust_environment(env: str, where: object) -> None:
    """As `trust`, for an environment's name in a file."""
    module = module_of_environment(env)
    if module is not None:
        trust(module, where)


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


def _foreign(module: str | None) -> Iterator[str]:
    if module and module.replace(".", "_").isidentifier() and not is_known(module):
        yield module
