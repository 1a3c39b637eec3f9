"""What importing costs: no torch where it is not needed, no sockets, no random state touched."""

import ast
import subprocess
import sys

import pytest
from playout import cli
from project import PACKAGES, parse, shown, sources

HEAVY = ["torch", "scipy", "matplotlib", "gymnasium", "pettingzoo", "tensorboard", "transformers"]


def fresh(code):
    """Run code in a new interpreter; its standard output."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def engines(nodes):
    """Lines of imports of torch.distributed that run when a module is imported."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        names = []
        if isinstance(node, ast.Import | ast.ImportFrom):
            before = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            names = [before + alias.name for alias in node.names]
        if any(f"{name}.".startswith("torch.distributed.") for name in names):
            yield node.lineno
        yield from engines(ast.iter_child_nodes(node))


@pytest.mark.parametrize(
    "text",
    [
        "import torch.distributed as dist",
        "from torch import distributed",
        "from torch.distributed import all_reduce",
        "class A:\n    import torch.distributed.fsdp",
        "try:\n    from torch.distributed.tensor import DTensor\nexcept ImportError: pass",
    ],
)
def test_an_import_of_the_engine_of_ranks_is_found(text):
    assert list(engines(ast.parse(text).body))
    assert not list(engines(ast.parse("def f():\n    from torch import distributed").body))
    assert not list(engines(ast.parse("if TYPE_CHECKING:\n    import torch.distributed").body))


def test_no_module_imports_torch_distributed_before_there_is_a_job():
    found = {
        shown(path): list(engines(parse(path).body)) for path in sources(".py", folders=PACKAGES)
    }
    assert not {path: lines for path, lines in found.items() if lines}


def test_importing_playout_loads_nothing_heavy():
    names = [*HEAVY, "numpy", "rich", "tyro"]
    code = f"import playout, sys; print([m for m in {names} if m in sys.modules])"
    assert fresh(code) == "[]\n"


def test_the_help_of_the_command_line_loads_nothing_heavy():
    code = (
        "import sys\nfrom playout.cli import main\n"
        "assert not (main(['--help']) or main(['rlhf', '--help']) or main(['--version']))\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    assert fresh(code).splitlines()[-1] == "[]"


@pytest.mark.parametrize("what", ["inspect", "list runs"])
def test_looking_at_runs_needs_no_torch(tmp_path, what):
    code = (
        "import sys, numpy\nfrom playout.cli import main\n"
        "from playout.agents.runs.directory import RunDir\n"
        f"run = RunDir.create({str(tmp_path / 'r')!r}, kind='ppo', config={{}}, seed=0)\n"
        "run.save(1, {'model': numpy.zeros(3)})\n"
        f"words = {what.split()!r} + ([{str(tmp_path / 'r')!r}] if {what!r} == 'inspect' else [])\n"
        "assert main(words) == 0\n"
        "print('torch' in sys.modules)"
    )
    assert fresh(code).splitlines()[-1] == "False"


def test_the_help_of_every_command_needs_no_torch():
    modules = [module for module, _ in cli.commands().values() if module]
    modules += cli.stages().values()
    code = (
        "import sys, importlib\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name).Command\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    fresh(code)


def test_importing_everything_opens_no_socket_and_touches_no_global_random_state():
    code = """
import importlib, pkgutil, random, socket, sys
import numpy as np
import torch
def refuse(*args, **kwargs):
    raise AssertionError("a socket was used at import")
for name in ("bind", "connect", "connect_ex", "listen"):
    setattr(socket.socket, name, refuse)
socket.create_connection = socket.getaddrinfo = refuse
before = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().tolist()
import playout
optional = []
for package in ("envs", "mcts", "agents", "rlhf", "benchmarks"):
    root = importlib.import_module("playout." + package)
    for found in pkgutil.walk_packages(root.__path__, root.__name__ + "."):
        try:
            importlib.import_module(found.name)
        except ImportError as error:
            optional.append(f"{found.name}: {error}")
after = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().tolist()
assert before == after, "importing changed a global random state"
print("\\n".join(optional))
"""
    missing = fresh(code).split("\n")
    assert not [line for line in missing if "No module named 'playout" in line], missing
