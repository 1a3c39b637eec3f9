"""The files of the tree and who imports whom, as the contract tests see them.

Sources are parsed, never imported, and an import inside a function is an arrow like any other: a
cycle that is put off is a cycle. Imports for type checkers alone are left out where asked.
"""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ["envs", "mcts", "agents", "rlhf", "benchmarks"]
FOLDERS = [*PACKAGES, "examples", "tests", "docs"]
SKIPPED = {"build", "__pycache__", ".venv", ".pytest_cache"}


def sources(*suffixes, folders=FOLDERS):
    """Files with one of the suffixes in the root and below `folders`, sorted."""
    found = [path for suffix in suffixes for path in ROOT.glob(f"*{suffix}")]
    for folder in folders:
        for suffix in suffixes:
            found += (ROOT / folder).rglob(f"*{suffix}")
    return sorted(path for path in found if not SKIPPED.intersection(path.relative_to(ROOT).parts))


def shown(path):
    """A path as a reader of a failure wants it."""
    return path.relative_to(ROOT).as_posix()


@cache
def parse(path):
    """The syntax tree of a Python file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def modules():
    """Module name -> its file (.py, or the .pyi of a compiled one), for all of the package."""
    found = {}
    for path in sources(".pyi", ".py", folders=PACKAGES):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts != ("setup",):
            found[".".join(["playout", *(part for part in parts if part != "__init__")])] = path
    return found


def imports(tree, known):
    """(module, line, whether for type checkers alone) of every import of one of `known`."""
    typing_only = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.dump(test.test)
        for statement in test.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in inner]
        for name in sorted(name for name in {*names} if name in known):
            yield name, node.lineno, id(node) in typing_only


@cache
def arrows(*, typing=True):
    """Module -> the modules that it imports; without `typing`, those for type checkers are not."""
    known = modules()
    return {
        module: {
            name
            for name, _, only in imports(parse(path), known)
            if name != module and (typing or not only)
        }
        for module, path in known.items()
    }
