"""Every command shown to people works: `<!-- run -->` blocks are executed, the others must parse.

A fenced `sh` block right after a line `<!-- run -->` is run, line by line, in one empty folder; in
any other `sh` block each `playout ...` line must be a known command whose flags parse, and `make X`
a target of the Makefile. Python blocks after `<!-- run -->` are run too. Leaves out what a command
prints.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from playout import cli

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(600)  # a busy machine may be many times slower
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "examples").rglob("*.md"))]
FENCE = re.compile(r"^(<!-- run -->\s*\n+)?```(sh|bash|console|python)\n(.*?)^```", re.M | re.S)


def blocks(run, languages):
    """(page:line, text) of the fenced blocks that are to be run, or only to be parsed."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8") if page.exists() else ""
        for match in FENCE.finditer(text):
            if bool(match[1]) == run and match[2] in languages:
                line = text.count("\n", 0, match.start(3)) + 1
                yield pytest.param(match[3], id=f"{page.name}:{line}")


def lines_of(text):
    """Commands of a block: continuation lines joined, comments and prompts removed."""
    for line in text.replace("\\\n", " ").splitlines():
        line = line.strip().removeprefix("$ ")
        if line and not line.startswith("#"):
            yield line


def placeholders(words, folder):
    """RUN, DIR, FILE and OUT stand for paths; A and B for players."""
    known = {"RUN": folder, "DIR": folder, "FILE": folder / "file", "OUT": folder / "out"}
    return [str(known.get(word, word)) for word in words]


def parses(words):
    """Whether the arguments of `playout` name a command and its flags parse."""
    name, rest = words[0], words[1:]
    if name in ("--help", "--version"):
        return
    table = cli.commands()
    assert name in table, f"unknown command {name}"
    module = table[name][0]
    if name == "rlhf":
        module, rest = cli.stages()[rest[0]], rest[1:]
    # A run that is resumed is not there while the page is only read.
    without = [word for word in rest if word != "--resume"]
    command = import_module(module).Command
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            cli.parse(command, without if "--resume" in rest else rest, "playout")
    except SystemExit as stop:
        assert stop.code == 0, errors.getvalue()


@pytest.mark.parametrize("text", list(blocks(False, {"sh", "bash", "console"})))
def test_commands_that_are_shown_are_real(text, tmp_path):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for line in lines_of(text):
        for part in re.split(r"\s(?:&&|;|\|)\s", line):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words and words[0] == "make":
                named = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
                assert set(named) <= targets, part
            elif words and words[0] == "playout":
                parses(placeholders(words[1:], tmp_path))


@pytest.mark.parametrize("text", list(blocks(True, {"sh", "bash", "console"})))
def test_commands_that_are_marked_run(text, tmp_path):
    folder = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    for line in lines_of(text):
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=500,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-1000:]}{done.stderr[-2000:]}"


@pytest.mark.parametrize("text", list(blocks(True, {"python"})))
def test_python_that_is_marked_runs(text, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_reader_of_pages_finds_its_blocks():
    page = (
        "a\n<!-- run -->\n```sh\nplayout list\n```\n"
        "```sh\nplayout inspect RUN\n```\n```text\nx\n```\n"
    )
    found = [(bool(match[1]), match[2], match[3]) for match in FENCE.finditer(page)]
    assert found == [(True, "sh", "playout list\n"), (False, "sh", "playout inspect RUN\n")]
    parses(["inspect", "runs/x", "--no-verify"])
    with pytest.raises(AssertionError):
        parses(["inspect", "runs/x", "--nonsense"])
    with pytest.raises(AssertionError, match="unknown command"):
        parses(["nonsense"])
