"""What the sources must not contain, and which way imports go."""

import ast
import re
import subprocess
import sys

import pytest
from project import ROOT, parse, shown, sources

PYTHON = sources(".py")
MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "yaml",
}
BUILTINS = {"eval", "exec", "compile", "execfile"}
ATTRIBUTES = {
    ("torch", "load"),
    ("torch", "save"),
    ("hub", "load"),
    ("jit", "load"),
    ("np", "save"),
    ("os", "system"),
    ("os", "popen"),
    ("pd", "read_pickle"),
    ("runpy", "run_path"),
}
KEYWORDS = {"allow_pickle": True, "shell": True, "trust_remote_code": True, "weights_only": False}


def offences(tree):
    """(line, what) of everything that would read or run objects from a file, or run a shell."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in MODULES:
                    yield node.lineno, f"import {alias.name}"
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {alias.name for alias in node.names}
            if node.module.split(".")[0] in MODULES:
                yield node.lineno, f"from {node.module} import"
            if (node.module, "load") in ATTRIBUTES and names & {"load", "save"}:
                yield node.lineno, f"from {node.module} import load"
        elif isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            if (name, node.attr) in ATTRIBUTES:
                yield node.lineno, f"{name}.{node.attr}"
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in BUILTINS:
                yield node.lineno, f"{node.func.id}()"
            for keyword in node.keywords:
                value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                if keyword.arg in KEYWORDS and value is KEYWORDS[keyword.arg]:
                    yield node.lineno, f"{keyword.arg}={value}"


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('x')",
        "from torch import load",
        "eval('1')",
        "exec('1')",
        "np.load(f, allow_pickle=True)",
        "import yaml",
        "torch.jit.load('x')",
        "subprocess.run('x', shell=True)",
    ],
)
def test_the_check_finds_what_it_looks_for(text):
    assert list(offences(ast.parse(text)))


def test_the_check_leaves_harmless_code_alone():
    text = (
        "model.eval()\njson.load(f)\nnp.load(f, allow_pickle=False)\nsafetensors.torch.load_file(p)"
    )
    assert not list(offences(ast.parse(text)))


def test_no_source_reads_objects_or_runs_text():
    found = []
    for path in PYTHON:
        found += [f"{shown(path)}:{line}: {what}" for line, what in offences(parse(path))]
    assert not found, "\n".join(found)


def test_cores_are_counted_in_one_place_as_the_system_lets_this_process_use_them():
    # A container may have one core of sixty-four; what pins processes to cores names them.
    pinning = {"benchmarks/search.py", "benchmarks/studies/cases.py", "benchmarks/studies/ranks.py"}
    pinning |= {"benchmarks/tools/peers/data_parallel.py"}
    found = [
        shown(path)
        for path in PYTHON
        if shown(path) not in {"cores.py", "setup.py", *pinning}
        and not path.is_relative_to(ROOT / "tests")
        and re.search(r"\b(cpu_count|sched_getaffinity)\(", path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_no_cython_source_reads_objects_or_runs_text():
    words = re.compile(r"\b(pickle|marshal|torch\.load|allow_pickle|eval\(|exec\()")
    found = []
    for path in sources(".pyx", ".pxd"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if words.search(line):
                found.append(f"{shown(path)}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


def test_every_python_source_says_what_it_is():
    bare = [
        shown(path)
        for path in PYTHON
        if path.stat().st_size
        and path.relative_to(ROOT).parts[0] != "tests"
        and not ast.get_docstring(parse(path))
    ]
    assert not bare


def test_test_files_have_different_names():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


PEERS = {
    "choix",
    "jax",
    "lm_eval",
    "mctx",
    "peft",
    "pgx",
    "pyspiel",
    "sb3_contrib",
    "sklearn",
    "stable_baselines3",
    "transformers",
    "trl",
}


def unmarked(tree):
    """Lines where a test asks for a peer without the marker by which `make test-peers` finds it."""

    def marked(nodes):
        return any(
            "peer" in {n.attr for n in ast.walk(x) if isinstance(n, ast.Attribute)} for x in nodes
        )

    def visit(node, safe):
        safe = safe or (isinstance(node, ast.FunctionDef) and marked(node.decorator_list))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "importorskip":
            asked = getattr(node.args[0], "value", "")
            if not safe and str(asked).partition(".")[0] in PEERS:
                yield node.lineno
        for child in ast.iter_child_nodes(node):
            yield from visit(child, safe)

    marks = [
        n
        for n in tree.body
        if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "pytestmark"
    ]
    return list(visit(tree, marked(marks)))


def test_a_test_that_needs_a_peer_is_marked_so():
    one = "def test_a():\n    jax = pytest.importorskip('jax')"
    assert unmarked(ast.parse(one)) == [2]
    assert not unmarked(ast.parse("@pytest.mark.peer\n" + one))
    assert not unmarked(ast.parse("pytestmark = [pytest.mark.peer]\n" + one))
    found = {shown(path): unmarked(parse(path)) for path in PYTHON if "tests" in path.parts}
    assert not {path: lines for path, lines in found.items() if lines}


def test_imports_go_one_way():
    pytest.importorskip("importlinter")
    code = (
        "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
