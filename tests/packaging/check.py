"""Builds sdist and wheel and uses the wheel, as somebody does who has never seen the tree.

The wheel is built from the sdist, every file of the tree is looked for in both, and the wheel is
installed into an environment of its own that borrows its dependencies from the one given. There, in
an empty folder, installed.py and the pages' examples run. A preset, header or module that the
package forgot shows here and nowhere else.
Usage: python tests/packaging/check.py (with the environment that holds build and the dependencies)
"""

import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGES = ("envs", "mcts", "agents", "rlhf", "benchmarks")
# What a wheel does without: sources of compiled modules (they are there as modules), pictures and
# pages of measurements, and the build itself.
UNSHIPPED = {".pyx", ".pxd", ".png", ".html"}
TESTS = [
    HERE / "installed.py",
    ROOT / "tests" / "contracts" / "test_readme.py",
    ROOT / "tests" / "envs" / "test_capsule_example.py",
]


def call(*words: object, cwd: Path = ROOT, **options: str) -> str:
    """Runs a program to its end; its output. Fails with its last lines."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**environment, **options},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}\n{done.stdout[-6000:]}")
    return done.stdout


def tracked() -> set[str]:
    """Files of the project, as git has them (new ones too)."""
    listed = call("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    return {name for name in listed.split("\0") if name and (ROOT / name).is_file()}


def expect(what: str, missing: set[str]) -> None:
    """Stops if files are missing."""
    if missing:
        raise SystemExit(f"{what} lacks {len(missing)} files: {', '.join(sorted(missing)[:20])}")


def check_files(sdist: Path, wheel: Path) -> None:
    """Sdist = tree; wheel = what of it belongs to the package, with a module for each .pyx."""
    tree = tracked()
    with tarfile.open(sdist) as file:
        packed = {name.partition("/")[2] for name in file.getnames()}
    expect("the sdist", tree - packed)
    with zipfile.ZipFile(wheel) as file:
        installed = {name.removeprefix("playout/") for name in file.namelist()}
    package = {name for name in tree if name.startswith(tuple(f"{p}/" for p in PACKAGES))}
    package |= {name for name in tree if "/" not in name and name.endswith((".py", ".typed"))}
    expect(
        "the wheel",
        {n for n in package if Path(n).suffix not in UNSHIPPED} - installed - {"setup.py"},
    )
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    expect(
        "the wheel", {n.replace(".pyx", suffix) for n in package if n.endswith(".pyx")} - installed
    )
    strangers = {
        name for name in installed if name.startswith(("tests", "examples", "docs", "setup"))
    }
    if strangers:
        raise SystemExit(f"the wheel holds what it should not: {', '.join(sorted(strangers))}")
    print(f"files: {len(packed)} in the sdist, {len(installed)} in the wheel, none missing")


def environment(folder: Path) -> Path:
    """A new environment that sees this one's packages but no editable installation; its Python.

    A line in a .pth file adds a folder, and the .pth files in that folder, with which editable
    installations work, are not read.
    """
    venv.create(folder, with_pip=False)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    python = folder / "bin" / "python"
    found = subprocess.run(
        [python, "-c", "import playout"], cwd=folder, capture_output=True, text=True
    )
    if "No module named 'playout'" not in found.stderr:
        raise SystemExit(f"playout is there before it is installed: {found.stderr or 'imported'}")
    return python


def main() -> None:
    """Everything, in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        call(sys.executable, "-m", "build", "--no-isolation", "--outdir", work / "dist", ROOT)
        sdist, wheel = next(work.glob("dist/*.tar.gz")), next(work.glob("dist/*.whl"))
        for path in (sdist, wheel):
            print(f"{path.name}: {path.stat().st_size >> 10} KiB")
        check_files(sdist, wheel)
        python = environment(work / "venv")
        call(
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "--quiet",
            "--no-deps",
            wheel,
        )
        empty = work / "empty"
        empty.mkdir()
        path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
        tests = [python, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "-n", "2"]
        tests += [
            "--import-mode=importlib",
            f"--rootdir={ROOT / 'tests'}",
            f"--basetemp={work / 'tmp'}",
        ]
        environ = {"PATH": path, "PLAYOUT_TREE": str(ROOT)}
        print(call(*tests, *TESTS, cwd=empty, **environ), end="")
    print("packages: ok")


if __name__ == "__main__":
    main()
