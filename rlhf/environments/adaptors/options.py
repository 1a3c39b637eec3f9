"""What the adaptors to other libraries share: finding the library, taking options one by one.

An option that is not there, or of the wrong kind, is named together with the environment, before
anything runs. What the options mean is each adaptor's business.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, TypeVar

from playout.errors import ConfigError

__all__ = ["Options", "import_package"]

T = TypeVar("T")


def import_package(package: str, where: str, extra: str) -> ModuleType:
    """A package that playout does not bring along.

    Args:
        package: Its import name.
        where: The environment that needs it, for the error.
        extra: The extra of playout that installs it.

    Raises:
        ConfigError: It is not installed, or cannot be imported; the line says what to install.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] != package.partition(".")[0]:
            raise ConfigError(f"{where} cannot be made: {package} needs {error.name}") from error
        raise ConfigError(
            f"{where} needs {package.partition('.')[0]}: pip install 'playout[{extra}]'"
        ) from error
    except Exception as error:
        fault = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(f"{where} cannot be made: importing {package} raised {fault}") from error


class Options:
    """The options of one environment, taken one after the other; what is left over is an error."""

    def __init__(self, where: str, given: Mapping[str, Any]) -> None:
        """Begin with `given`; `where` names the environment in errors."""
        self.where, self.left = where, dict(given)
        self.known: list[str] = []

    def take(self, name: str, default: T, *, choices: Sequence[str] = ()) -> T:
        """The option of that name, of the default's kind, or the default.

        Raises:
            ConfigError: It is of another kind, or none of `choices`.
        """
        self.known.append(name)
        value = self.left.pop(name, default)
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        kind = type(default)
        if type(value) is not kind:
            wanted = {bool: "true or false", int: "a whole number", float: "a number"}
            self.fail(f"{name} must be {wanted.get(kind, 'text')}, not {value!r}")
        if choices and value not in choices:
            self.fail(f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}, not {value!r}")
        return value  # type: ignore[no-any-return]

    def at_least(self, name: str, default: int, least: int) -> int:
        """A whole number that is not too small."""
        value = self.take(name, default)
        if value < least:
            self.fail(f"{name} must be at least {least}, not {value}")
        return value

    def check(self, known: Callable[[str], bool] = lambda name: False, more: str = "") -> None:
        """Refuses what is left and not `known`; `more` says which other names there are."""
        for name in self.left:
            if not known(name):
                self.fail(f"there is no option {name!r}; it has {', '.join(self.known)}{more}")

    def fail(self, fault: str) -> None:
        """Raises a ConfigError that names the environment."""
        raise ConfigError(f"{self.where}: {fault}")
