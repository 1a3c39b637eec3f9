"""Registers playout's environments with Gymnasium and PettingZoo the moment those are imported.

`import playout` stays cheap, and `gym.make("playout/CartPole-v1")` works whichever of the two was
imported first. A finder stands before the usual ones, wraps the loader of the two packages, and
steps aside once they are loaded.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

from playout.envs.farama.registration import register_gymnasium, register_pettingzoo

# package not imported yet -> what registers the environments with it
_WAITING: dict[str, Callable[[], None]] = {
    "gymnasium": register_gymnasium,
    "pettingzoo": register_pettingzoo,
}


class _ThenRegister(importlib.abc.Loader):
    """Loads a package as its own loader does, then registers our environments with it."""

    def __init__(self, loader: importlib.abc.Loader, register: Callable[[], None]) -> None:
        self._loader = loader
        self._register = register

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader  # leave no trace in the loaded package
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._register()


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        register = _WAITING.pop(name, None)
        if register is None:
            return None
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenRegister(spec.loader, register)
        else:
            _WAITING[name] = register  # not installed now; it may be later
        return spec


def install() -> None:
    """Registers with what is already imported and waits for the rest."""
    for package, register in list(_WAITING.items()):
        if package in sys.modules:
            del _WAITING[package]
            register()
    if _WAITING and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
