"""Runs a Python program that nobody has read: `python -I -S confined.py PROGRAM`, in its folder.

Namespaces take network, other processes and shared memory away; Landlock leaves the interpreter's
files to read and the folder's own; limits bound time, memory, files and processes. It is a program
of the standard library alone, on Linux 6.2 or newer, and starts nothing where any of this cannot be
had. What it does not cover: faults of the kernel, and what times and sizes give away.
"""

import ctypes
import os
import resource
import signal
import sys

REFUSED = 97
"""The exit status where nothing was started; the reason is on standard error."""
SECONDS, MEMORY, WRITTEN, PROCESSES = 5, 1 << 30, 1 << 20, 8
# unshare(2): user, network, processes, shared memory.
_NAMESPACES = 0x10000000 | 0x40000000 | 0x20000000 | 0x08000000
_NOBODY = 65534
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every processor
_SET_PARENT_DEATH_SIGNAL, _SET_NO_NEW_PRIVILEGES = 1, 38
_EXECUTE, _READ_FILE, _READ_FOLDER = 1, 4, 8
_NEEDED = 3  # the version of Landlock that knows of cutting files short
_RIGHTS = (1 << 15) - 1  # all of that version
_libc = ctypes.CDLL(None, use_errno=True)


class _Beneath(ctypes.Structure):
    """What is allowed below an open folder, or of a file."""

    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("where", ctypes.c_int32))


def _call(what: str, found: int) -> int:
    if found < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return found


def _shut_files() -> None:
    """Leaves the interpreter's files to be read, and the folder."""
    if _libc.syscall(_CREATE_RULESET, None, 0, 1) < _NEEDED:
        raise OSError("Landlock of Linux 6.2 or newer is not there")
    rights = ctypes.c_uint64(_RIGHTS)
    rules = _call("landlock", _libc.syscall(_CREATE_RULESET, ctypes.byref(rights), 8, 0))
    reading = _EXECUTE | _READ_FILE | _READ_FOLDER
    below = dict.fromkeys((sys.base_prefix, "/usr", "/lib", "/lib64"), reading)
    below |= {"/etc/ld.so.cache": _READ_FILE, "/dev/urandom": _READ_FILE, ".": _RIGHTS}
    for path, allowed in below.items():
        if os.path.exists(path):
            where = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = _Beneath(allowed, where)
            _call(path, _libc.syscall(_ADD_RULE, rules, 1, ctypes.byref(rule), 0))
            os.close(where)
    _call("no new privileges", _libc.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _call("landlock", _libc.syscall(_RESTRICT_SELF, rules, 0))
    os.close(rules)


def _limit() -> None:
    for what, most in (
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, WRITTEN),
        (resource.RLIMIT_NPROC, PROCESSES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def main(program: str) -> int:
    """The program's exit status; REFUSED where it was not started."""
    try:
        if os.getuid() == 0:  # whose processes are not counted, by their real user
            os.setreuid(_NOBODY, -1)
        _call("death signal", _libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0))
        _call("namespaces", _libc.unshare(_NAMESPACES))
    except OSError as error:
        print(error, file=sys.stderr)
        return REFUSED
    child = os.fork()  # the first process of its namespace: with it all others of it end
    if child:
        for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os.kill(child, signal.SIGKILL))
        signal.alarm(2 * SECONDS)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF
    try:
        os.setsid()  # a signal to its own group must not reach whoever started this
        _shut_files()
        _limit()
        python = os.path.realpath(sys.executable)
        os.execve(python, [python, "-I", "-S", "-B", program], {"HOME": "."})
    except OSError as error:
        print(error, file=sys.stderr)
    os._exit(REFUSED)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
