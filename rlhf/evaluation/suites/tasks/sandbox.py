"""Whether programs that a model has written come to their end, each in a sandbox of its own.

bubblewrap starts them: without network, other processes, capabilities or any file of this machine
but those of the interpreter and of libraries, to be read, in a folder in memory; limits bound time,
memory and processes. Where it is not installed or may not do that, nothing is run. Not covered are
faults of the kernel, sockets of virtual machines (vsock), what times give away, and a program that
is written to deceive its own tests. Left out: what the programs are (code.py).
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from playout.errors import ConfigError

__all__ = ["check_sandbox", "passed"]

SECONDS, MEMORY, WRITTEN, PROCESSES = 5, 1 << 30, 1 << 24, 8
"""Of a program: processor time and address space of each process, bytes of all files, processes."""
SAID = 1 << 20
"""Bytes that are kept of what it says, and of a file of its own."""
_NOBODY = 65534
# Limits begin inside: outside of its namespace, the processes of the whole user would count.
_LIMITED = f"""
import os, resource, sys
for what, most in (("CPU", {SECONDS}), ("AS", {MEMORY}), ("NPROC", {PROCESSES}),
                   ("FSIZE", {SAID}), ("CORE", 0)):
    what = getattr(resource, "RLIMIT_" + what)
    hard = resource.getrlimit(what)[1]
    most = most if hard < 0 else min(most, hard)
    resource.setrlimit(what, (most, most))
if os.getuid() == 0:  # for whom some limits do not hold
    os.setgroups([])
    os.setgid({_NOBODY})
    os.setuid({_NOBODY})
os.execv(sys.executable, [sys.executable, "-I", "-S", "-B", "/program"])
"""


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
    # In a line of its own, however the program's last one ends.
    status, reason, said = _run(f"{program}\nprint('\\n{word}')\n")
    if status and reason.startswith("bwrap:"):  # it, or a program that says so?
        check_sandbox()
    return status == 0 and said.split()[-1:] == [word]


def _command(program: Path) -> list[str]:
    """What runs a file in the sandbox."""
    python = os.path.realpath(sys.executable)
    words = ["bwrap", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    if os.geteuid() == 0:  # needs no namespace of users, and becomes another one inside
        words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        words += [f"--unshare-{kind}" for kind in ("ipc", "pid", "net", "uts")]
    else:
        words += ["--unshare-all", "--uid", str(_NOBODY), "--gid", str(_NOBODY)]
    for folder in reversed(Path(sys.base_prefix).parents):  # that others than root may go through
        words += ["--perms", "0755", "--dir", str(folder)]
    for path in dict.fromkeys(("/usr", "/lib", "/lib64", "/etc/ld.so.cache", sys.base_prefix)):
        words += ["--ro-bind-try", path, path]
    words += ["--ro-bind", str(program), "/program", "--dev", "/dev"]
    words += ["--perms", "1777", "--size", str(WRITTEN), "--tmpfs", "/folder", "--remount-ro", "/"]
    return [*words, "--chdir", "/folder", python, "-I", "-S", "-B", "-c", _LIMITED]


def _run(program: str) -> tuple[int, str, str]:
    """Exit status, and what was said on standard error and output, as far as it is kept."""
    if shutil.which("bwrap") is None:
        return 1, "bubblewrap is not installed (apt install bubblewrap)", ""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "program"
        path.write_text(program, encoding="utf-8", errors="replace")
        with open(Path(place) / "out", "w+b") as out, open(Path(place) / "err", "w+b") as err:
            try:
                status = subprocess.run(
                    _command(path), cwd=place, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                    timeout=2 * SECONDS, check=False,
                ).returncode  # fmt: skip
            except subprocess.TimeoutExpired:
                status = -1
            except OSError as error:
                return 1, str(error), ""
            texts = []
            for file in (err, out):
                file.seek(0)
                texts.append(file.read(SAID).decode("utf-8", "replace"))
    return status, texts[0], texts[1]
