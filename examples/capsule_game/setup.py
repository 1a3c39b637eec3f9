"""Builds the extension; the header comes from the installed playout."""

from playout.envs import get_include
from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "clobber_game",
            ["clobber_game.c"],
            include_dirs=[get_include()],
            extra_compile_args=["-std=c11", "-O2"],
        )
    ],
    py_modules=[],
)
