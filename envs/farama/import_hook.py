"""Registers playout's environments with Gymnasium and PettingZoo the moment those are imported.

`import playout` stays cheap, and `gym.make("playout/CartPole-v1")` works whichever of the two was
imported first. A finder stands before the usual ones, wraps the loader of the two packages, and
steps aside once they are loaded.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

# package -> the module of ours whose import registers the environments
_WAITING = {
    "gymnasium": "playout.envs.farama.gymnasium_registration",
    "pettingzoo": "playout.envs.farama.pettingzoo_registration",
}


class _ThenRegister(importlib.abc.Loader):
    """Loads a package as its own loader does, then registers our environments with it."""

    def __init__(self, loader: importlib.abc.Loader, registers: str) -> None:
        self._loader = loader
        self._registers = registers

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader  # leave no trace in the loaded package
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        importlib.import_module(self._registers)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        registers = _WAITING.pop(name, None)
        if registers is None:
            return None
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenRegister(spec.loader, registers)
        else:
            _WAITING[name] = registers  # not installed now; it may be later
        return spec


def install() -> None:
    """Registers with what is already imported and waits for the rest."""
    for package, registers in list(_WAITING.items()):
        if package in sys.modules:
            del _WAITING[package]
            importlib.import_module(registers)
    if _WAITING and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
