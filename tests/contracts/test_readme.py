"""Every page shows what is there: commands work, code resolves, links and names lead somewhere.

A fenced `sh` or `python` block right after a line `<!-- run -->` is run, line by line, in one empty
folder. Of the others, and of commands inside a sentence, each `playout ...` must be a known command
whose flags parse, `make X` a target, `python FILE` and `python -m MODULE` must exist; Python is
compiled and what it takes from playout looked up; JSON and TOML are read. Links, anchors, paths in
backticks and the names in [`name`](file) must exist. Leaves out what a command prints.
"""

import ast
import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import forked
import pytest
from playout import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "tests/**/*.md")
    for page in ROOT.glob(pattern)
)
FENCE = re.compile(r"^(<!-- run -->\s*\n+)?```(\w*)\n(.*?)^```", re.M | re.S)
SHELL = {"sh", "bash", "console"}
KNOWN = {*SHELL, "python", "json", "toml", "text", "c", "cython"}
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
# Words in capitals that stand for something: paths of the test's own folder, and names.
NAMES = {"COMMAND": "ppo", "STAGE": "sft", "SUBJECT": "envs", "ENV": "CartPole-v1"}
NAMES |= {"GAME": "connect_four", "FORMAT": "onnx"}
PATHS = ("RUN", "DIR", "FILE", "OUT", "MODEL")


def named(page):
    """A page's path, as the name of a test."""
    return str(page.relative_to(ROOT))


def blocks(run, languages, pages=PAGES):
    """(page:line, text) of the fenced blocks that are to be run, or only to be parsed."""
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if bool(match[1]) == run and match[2] in languages:
                line = text.count("\n", 0, match.start(3)) + 1
                yield pytest.param(match[3], id=f"{named(page)}:{line}")


def prose(page):
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def lines_of(text):
    """Commands of a block: continuation lines joined, comments and prompts removed."""
    for line in text.replace("\\\n", " ").splitlines():
        line = line.strip().removeprefix("$ ")
        if line and not line.startswith("#"):
            yield line


def placeholders(words, folder):
    """RUN, FILE and the like stand for paths, GAME, STAGE and the like for names."""
    known = NAMES | {name: folder / name.lower() for name in PATHS}
    return [str(known.get(word, word)) for word in words]


def parses(words):
    """Whether the arguments of `playout` name a command and its flags parse."""
    if not words or words[0] in ("--help", "--version"):
        return
    name, rest = words[0], words[1:]
    table = cli.commands()
    assert name in table, f"unknown command {name}"
    module = table[name][0]
    if name == "rlhf":
        if not rest or rest[0] == "--help":
            return
        assert rest[0] in cli.stages(), f"unknown stage {rest[0]}"
        module, rest = cli.stages()[rest[0]], rest[1:]
    # A run that is resumed is not there while the page is only read.
    if name == "rlhf":
        rest = ["--run" if word == "--resume" else word for word in rest]
    rest = [word for word in rest if word != "--resume"]
    command = import_module(module).Command
    if not rest:  # a command spoken of, or one that needs no more
        return
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            cli.parse(command, rest, "playout")
    except SystemExit as stop:
        assert stop.code == 0, errors.getvalue()


def check_line(line, folder, targets, room=ROOT):
    """Whether a line of shell names commands, targets, modules and scripts that exist."""
    for part in re.split(r"\s(?:&&|;|\|)\s", line):
        words = shlex.split(part, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if not words:
            continue
        if words[0] == "make":
            asked = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
            assert set(asked) <= targets, part
        elif words[0] == "playout":
            parses(placeholders(words[1:], folder))
        elif words[0] == "python" and words[1] == "-m":
            assert find_spec(words[2]), f"no module {words[2]}"
        elif words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).exists() or (room / words[1]).exists(), part


def targets_of_make():
    """Names after which `make` can be asked."""
    return set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.M))


def check_python(text):
    """Whether a piece of Python compiles and finds what it takes from playout."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "playout":
                    import_module(alias.name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "playout":
            module = import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    submodule = f"{node.module}.{alias.name}"
                    found = hasattr(module, "__path__") and find_spec(submodule)
                    assert found, f"{node.module} has no {alias.name}"
        elif isinstance(node, ast.Attribute):
            parts = ast.unparse(node).split(".")
            if parts[0] == "playout" and all(part.isidentifier() for part in parts):
                found = import_module("playout")
                for part in parts[1:]:
                    assert hasattr(found, part), f"{ast.unparse(node)}: there is no {part}"
                    found = getattr(found, part)


def anchors(page):
    """What a link into a page can name: its headings, as GitHub writes them."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def check_link(page, text, target):
    """Whether a link leads to a file, to a heading that is there, to a name that the file has."""
    if "://" in target:
        return
    path, _, anchor = target.partition("#")
    found = (page.parent / path).resolve() if path else page
    assert found.exists(), f"{target} does not exist"
    if anchor:
        assert anchor in anchors(found), f"{path} has no heading {anchor}"
    name = re.fullmatch(r"`[\w.]*?(\w+)(\(\))?`", text)
    if name and found.is_file() and not text.strip("`").endswith(found.name):
        content, word = found.read_text(encoding="utf-8"), name[1]
        defined = rf"\b{word}\b"
        if found.suffix == ".py":
            defined = rf"^ *(async )?(def|class) {word}\b|^{word} *[:=]"
        assert re.search(defined, content, re.M), f"{path} defines no {word}"


@pytest.mark.parametrize("text", list(blocks(False, SHELL)))
def test_commands_that_are_shown_are_real(text, tmp_path):
    for line in lines_of(text):
        check_line(line, tmp_path, targets_of_make())


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_inside_a_sentence_are_real(page, tmp_path):
    for line in re.findall(r"`((?:playout|make|python) [^`]+)`", prose(page)):
        check_line(line, tmp_path, targets_of_make(), page.parent)


@pytest.mark.parametrize("text", list(blocks(True, SHELL)))
def test_commands_that_are_marked_run(text, tmp_path):
    folder = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    for line in lines_of(text):
        if re.fullmatch(r"playout[\w ./:=-]*", line):  # nothing that a shell would change
            words = line.split()[1:]
            code, out, err = forked.run("-P", "-m", "playout", *words, folder=tmp_path)
        else:
            done = subprocess.run(
                ["bash", "-c", line],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=500,
            )
            code, out, err = done.returncode, done.stdout, done.stderr
        assert code == 0, f"{line}\n{out[-1000:]}{err[-2000:]}"


@pytest.mark.parametrize("text", list(blocks(True, {"python"})))
def test_python_that_is_marked_runs(text, tmp_path):
    code, _, err = forked.run("-c", text, folder=tmp_path, timeout=500)
    assert code == 0, err[-2000:]


@pytest.mark.parametrize("text", [*blocks(False, {"python"}), *blocks(True, {"python"})])
def test_python_that_is_shown_finds_what_it_names(text):
    check_python(text)


@pytest.mark.parametrize("text", list(blocks(False, {"json"})))
def test_json_that_is_shown_can_be_read(text):
    for part in text.strip().split("\n\n"):
        json.loads(part)


@pytest.mark.parametrize("text", list(blocks(False, {"toml"})))
def test_toml_that_is_shown_can_be_read(text):
    tomllib.loads(text)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_to_files_headings_and_names_that_exist(page):
    for text, target in LINK.findall(prose(page)):
        check_link(page, text, target)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_paths_in_backticks_exist(page):
    rooms = "agents|benchmarks|docs|envs|examples|mcts|rlhf|tests"
    for path in re.findall(rf"`((?:{rooms})/[\w./-]+)`", prose(page)):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_says_what_language_it_is_in(page):
    found = {match[2] for match in FENCE.finditer(page.read_text(encoding="utf-8"))}
    assert found <= KNOWN, found - KNOWN


def test_pictures_on_pages_are_all_used():
    shown = {
        (page.parent / target).resolve()
        for page in PAGES
        for _, target in LINK.findall(prose(page))
        if "://" not in target
    }
    pictures = set((ROOT / "docs" / "images").glob("*.*"))
    assert pictures and pictures <= shown


def test_pictures_can_be_drawn_again(tmp_path):
    run, into = tmp_path / "run", tmp_path / "into"
    run.mkdir()
    (run / "summary.png").write_bytes(b"a picture that a demo left")
    command = [
        sys.executable,
        "benchmarks/tools/make_images.py",
        "--demo",
        str(run),
        "--into",
        str(into),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    drawn = {path.name for path in into.iterdir()}
    assert drawn == {path.name for path in (ROOT / "docs" / "images").iterdir()}
    assert (into / "environments.png").stat().st_size > 10_000  # bytes: it shows something


def test_the_reader_of_pages_finds_its_blocks():
    page = (
        "a\n<!-- run -->\n```sh\nplayout list\n```\n"
        "```sh\nplayout inspect RUN\n```\n```text\nx\n```\n"
    )
    found = [(bool(match[1]), match[2], match[3]) for match in FENCE.finditer(page)]
    assert found == [
        (True, "sh", "playout list\n"),
        (False, "sh", "playout inspect RUN\n"),
        (False, "text", "x\n"),
    ]
    parses(["inspect", "runs/x", "--no-verify"])
    with pytest.raises(AssertionError):
        parses(["inspect", "runs/x", "--nonsense"])
    with pytest.raises(AssertionError, match="unknown command"):
        parses(["nonsense"])
    with pytest.raises(AssertionError, match="unknown stage"):
        parses(["rlhf", "nonsense"])


def test_the_reader_of_pages_notices_what_is_not_there(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A heading, here\n\n```text\n# none\n```\n")
    (tmp_path / "code.py").write_text("def there(): ...\n")
    check_link(page, "x", "#a-heading-here")
    check_link(page, "`Class.there`", "code.py")
    for text, target in (("x", "gone.md"), ("x", "#none"), ("`Class.gone`", "code.py")):
        with pytest.raises(AssertionError):
            check_link(page, text, target)
    check_python("import playout\nplayout.game('tic_tac_toe').initial_state()")
    for code in ("import playout\nplayout.nonsense()", "from playout.envs.core.game import Gone"):
        with pytest.raises(AssertionError):
            check_python(code)
    for line in ("make nonsense", "python -m playout.benchmarks.gone", "python gone.py"):
        with pytest.raises(AssertionError):
            check_line(line, tmp_path, targets_of_make())
