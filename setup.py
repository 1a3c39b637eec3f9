"""Build of the native parts; everything else about the package stands in pyproject.toml.

Every .pyx below the package folders becomes one extension. Set in the environment:
PLAYOUT_DEBUG=1 builds with bounds checks, assertions and the address and undefined-behaviour
sanitizers (run Python with LD_PRELOAD=$(gcc -print-file-name=libasan.so) then, and with
ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0: gcc 12 misaligns vectors otherwise);
PLAYOUT_ONLY=mcts,core/_batch builds only the extensions whose path contains one of these parts.
"""

import os
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
FOLDERS = ("envs", "mcts", "agents", "rlhf", "benchmarks")
SHARED = ("envs/include", "agents/kernels")  # headers, and what Cython knows of them
DEBUG = os.environ.get("PLAYOUT_DEBUG", "") not in ("", "0")
JOBS = min(8, os.cpu_count() or 1)
SHIPPED = (".h", ".pyi", ".toml", ".json")  # installed beside the modules
ONLY = [part for part in os.environ.get("PLAYOUT_ONLY", "").split(",") if part]

# Contracting a*b+c into one instruction would make results depend on the processor.
FLAGS = [
    "-std=c11",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",  # nobody reads those flags, and loops with choices become vectors
    "-Wno-psabi",  # vectors never cross a real call, so how they would is no matter
    "-Wno-unused-function",
    "-Wno-unreachable-code",
]
if DEBUG:
    COMPILE = [
        *FLAGS,
        "-O1",
        "-g",
        "-UNDEBUG",
        "-fno-omit-frame-pointer",
        "-fsanitize=address,undefined",
    ]
    LINK = ["-fsanitize=address,undefined"]
else:
    COMPILE = [*FLAGS, "-O3", "-DNDEBUG", "-g0"]  # Python's own flags ask for debug symbols
    LINK = []

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "nonecheck": DEBUG,
    "cdivision": True,
    "embedsignature": True,
    "freethreading_compatible": False,
}


def packages() -> list[str]:
    """The root and every folder below FOLDERS that holds an __init__.py."""
    found = ["playout"]
    for folder in FOLDERS:
        for init in sorted((ROOT / folder).rglob("__init__.py")):
            found.append("playout." + ".".join(init.parent.relative_to(ROOT).parts))
    return found


def data() -> dict[str, list[str]]:
    """Files of the kinds in SHIPPED by the package below whose folder they lie."""
    found = {"playout": ["py.typed"]}
    for package in packages()[1:]:
        folder = ROOT.joinpath(*package.split(".")[1:])
        inner = {init.parent for init in folder.rglob("__init__.py")} - {folder}
        found[package] = [
            str(path.relative_to(folder))
            for path in sorted(folder.rglob("*"))
            if path.suffix in SHIPPED and not inner.intersection(path.parents)
        ]
    return found


def extensions() -> list[Extension]:
    """One Extension for each .pyx file; sources are relative paths, as setuptools wants them."""
    headers = [
        str(path.relative_to(ROOT))
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.h"))
    ]
    found = []
    for folder in FOLDERS:
        for source in sorted((ROOT / folder).rglob("*.pyx")):
            path = source.relative_to(ROOT)
            if ONLY and not any(part in str(path) for part in ONLY):
                continue
            found.append(
                Extension(
                    "playout." + ".".join(path.with_suffix("").parts),
                    [str(path)],
                    include_dirs=[*SHARED, str(path.parent), numpy.get_include()],
                    depends=headers,
                    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
                    extra_compile_args=COMPILE,
                    extra_link_args=LINK,
                )
            )
    return found


class WithoutThisFile(build_py):
    """Modules of the package; this file lies in its root folder and is none of them."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """All (package, module, path) but setup.py."""
        found = super().find_package_modules(package, package_dir)
        return [entry for entry in found if entry[1] != "setup"]


setup(
    cmdclass={"build_py": WithoutThisFile},
    packages=packages(),
    package_dir={"playout": "."},
    package_data=data(),
    ext_modules=cythonize(
        extensions(),
        compiler_directives=DIRECTIVES,
        include_path=[*SHARED],
        build_dir="build/cython",
        nthreads=JOBS,
    ),
    options={"build_ext": {"parallel": JOBS}},
)
