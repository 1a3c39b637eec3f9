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

ROOT = Path(__file__).parent
FOLDERS = ("envs", "mcts", "agents", "rlhf", "benchmarks")
DEBUG = os.environ.get("PLAYOUT_DEBUG", "") not in ("", "0")
JOBS = min(8, os.cpu_count() or 1)
ONLY = [part for part in os.environ.get("PLAYOUT_ONLY", "").split(",") if part]

# Contracting a*b+c into one instruction would make results depend on the processor.
FLAGS = [
    "-std=c11",
    "-ffp-contract=off",
    "-fno-math-errno",
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
    COMPILE = [*FLAGS, "-O3", "-DNDEBUG"]
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
                    include_dirs=["envs/include", str(path.parent), numpy.get_include()],
                    depends=headers,
                    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
                    extra_compile_args=COMPILE,
                    extra_link_args=LINK,
                )
            )
    return found


setup(
    packages=packages(),
    package_dir={"playout": "."},
    ext_modules=cythonize(
        extensions(),
        compiler_directives=DIRECTIVES,
        include_path=["envs/include"],
        build_dir="build/cython",
        nthreads=JOBS,
    ),
    options={"build_ext": {"parallel": JOBS}},
)
