"""Rooms stay clear: how much a folder and a file may hold; and what prose names exists."""

import ast
import re

import pytest
from project import FOLDERS, PACKAGES, ROOT, SKIPPED, modules, parse, shown, sources

MAX_ENTRIES = 14
MAX_LINES = 400
FILE = re.compile(r"(?<![\w/.{<*-])((?:[a-z_]+/)*_?[a-z_0-9]+\.(?:py|pyx|pyi|h|sh))\b")
PLACE = re.compile(rf"(?<![\w/.:-])((?:{'|'.join(FOLDERS)})/[a-z_0-9/.]*)")
MODULE = re.compile(rf"\bplayout\.((?:{'|'.join(PACKAGES)})(?:\.\w+)*)")


def entries(folder):
    """Names in a folder without suffixes: a kernel's .pyx, .pyi and built module are one entry."""
    return {
        path.name.split(".")[0]
        for path in folder.iterdir()
        if path.name not in SKIPPED and not path.name.startswith(".")
    }


def rooms():
    """Every folder with sources, documents or data of the project."""
    found = [path.parent for path in sources(".*") if path.parent != ROOT]
    return sorted(
        {place for path in found for place in (path, *path.parents) if ROOT in place.parents}
    )


# The root is no room: git, setuptools, pip and make look for their files there.
@pytest.mark.parametrize("folder", rooms(), ids=shown)
def test_a_folder_holds_about_a_dozen_entries(folder):
    assert len(entries(folder)) <= MAX_ENTRIES, sorted(entries(folder))


def test_no_source_is_longer_than_400_lines():
    assert not {
        shown(path): count
        for path in sources(".py", ".pyx", ".h", ".pxd", ".pyi", ".c", ".sh")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }


def prose(path):
    """Comments and strings of a source; all of a document."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        strings = [n.value for n in ast.walk(parse(path)) if isinstance(n, ast.Constant)]
        return "\n".join([*(s for s in strings if isinstance(s, str)), *re.findall("#.*", text)])
    if path.suffix == ".pyx":
        return "\n".join(re.findall(r'(?s)""".*?"""|#[^\n]*|from "[^"]*"', text))
    return text


def stale(text, paths, names):
    """What `text` names that is not there: files, folders and modules of the project."""
    for match in FILE.finditer(text):
        if not any(path == match[1] or path.endswith("/" + match[1]) for path in paths):
            yield match[1]
    for match in PLACE.finditer(text):
        if not any(path.startswith(match[1].rstrip(".")) for path in paths):
            yield match[1]
    for match in MODULE.finditer(text):
        parts = ["playout", *match[1].split(".")]
        while ".".join(parts) not in names and len(parts) > 1:
            last = parts.pop()
        known = names[".".join(parts)]
        complete = len(parts) > len(match[1].split(".")) or known.suffix == ".pyi"
        if not complete and not re.search(rf"\b{last}\b", known.read_text(encoding="utf-8")):
            yield match[0]


PATHS = [shown(path) for path in sources(".*")]
READ = [
    path
    for path in sources(".py", ".pyx", ".pyi", ".h", ".c", ".md", ".toml", ".sh")
    if path.relative_to(ROOT).parts[0] != "tests"
] + [ROOT / name for name in ("Makefile", "MANIFEST.in", ".importlinter", ".ci/run")]


@pytest.mark.parametrize(
    "text", ["see nowhere.py", "in agents/nowhere/", "`playout.agents.nowhere`", "mcts/gone.h"]
)
def test_what_is_not_there_is_found(text):
    assert list(stale(text, PATHS, modules()))


def test_what_is_there_is_not_found():
    text = "cli.py, agents/runs/, `playout.agents.runs.directory.RunDir`, playout_game.h"
    assert not list(stale(text, PATHS, modules()))


def test_every_file_and_module_that_is_named_exists():
    names = modules()
    found = {shown(path): list(stale(prose(path), PATHS, names)) for path in READ}
    assert not {path: gone for path, gone in found.items() if gone}
