"""Whether programs that a model has written come to their end, each in a sandbox of its own.

A program gets a process without network in an empty folder (confined.py says what is kept from it
and what is not). It has passed if it printed a word that stands behind its tests: leaving early is
not enough. Left out: what the programs are (code.py).
"""

import secrets
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from playout.errors import ConfigError
from playout.rlhf.evaluation.suites.tasks import confined

__all__ = ["check_sandbox", "passed"]

_WALL_SECONDS = 4 * confined.SECONDS
"""After which the process that waits for a program is given up; it ends the program before."""


def check_sandbox() -> None:
    """Raises ConfigError where programs cannot be run in a sandbox."""
    status, reason, _ = _run("")
    if status:
        why = reason.strip().splitlines() or [f"status {status}"]
        raise ConfigError(f"programs run in a sandbox alone, which cannot be had here: {why[-1]}")


def passed(programs: Sequence[str]) -> list[bool]:
    """Whether each program runs to its end without an error.

    Raises:
        ConfigError: There is no sandbox on this machine; nothing was run.
    """
    check_sandbox()
    return [_passes(program) for program in programs]


def _passes(program: str) -> bool:
    word = secrets.token_hex(16)
    status, _, said = _run(f"{program}\nprint({word!r})\n")
    return status == 0 and said.split()[-1:] == [word]


def _run(program: str) -> tuple[int, str, str]:
    """Exit status, and what was said on standard error and output, as far as it is kept."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "folder"
        folder.mkdir()
        (folder / "program").write_text(program, encoding="utf-8", errors="replace")
        command = [sys.executable, "-I", "-S", confined.__file__, "program"]
        with (
            open(Path(place) / "out", "w+b") as out,
            open(Path(place) / "err", "w+b") as err,
        ):
            try:
                status = subprocess.run(
                    command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                    timeout=_WALL_SECONDS, check=False, env={},
                ).returncode  # fmt: skip
            except subprocess.TimeoutExpired:
                status = -1
            except OSError as error:
                return confined.REFUSED, str(error), ""
            texts = []
            for file in (err, out):
                file.seek(0)
                texts.append(file.read(confined.WRITTEN).decode("utf-8", "replace"))
    return status, texts[0], texts[1]
