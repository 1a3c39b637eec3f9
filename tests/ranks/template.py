"""An interpreter that has imported what others need and forks them; forked.py starts it.

    template.py SOCKET MODULE...     a connected socket that it has inherited, by its number

A request is a line of JSON, sent with two open files for output. The answer is the number of the
process that carries it out, and, when that has ended, its exit code. There is one thread only, as a
fork keeps no other. When nobody is connected any more, everything that was begun is killed.
"""

import contextlib
import gc
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import runpy
import select
import signal
import socket
import sys
from types import ModuleType

_PAUSE = 0.01  # seconds between two looks for children that have ended


class _Text(importlib.abc.InspectLoader):
    """Loads a program that is no file, as `python -c` does."""

    def __init__(self, text):
        self.text = text

    def get_source(self, fullname):
        return self.text


def serve(connection):
    """Carry out requests: returns in every child, with its request and files, and in the end."""
    running, request, files = set(), b"", []
    while True:
        if select.select([connection], [], [], _PAUSE if running else None)[0]:
            part, more, _, _ = socket.recv_fds(connection, 1 << 16, 2)
            if not part:
                break
            request, files = request + part, [*files, *more]
            if request.endswith(b"\n"):
                child = os.fork()
                if not child:
                    connection.close()
                    return json.loads(request), files
                for one in files:
                    os.close(one)
                running.add(child)
                connection.sendall(b'{"begun": %d}\n' % child)
                request, files = b"", []
        for child in tuple(running):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                running.discard(child)
                code = os.waitstatus_to_exitcode(status)
                connection.sendall(b'{"ended": %d, "code": %d}\n' % (child, code))
    for child in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)  # it may not have its own group yet
            os.killpg(child, signal.SIGKILL)
    return None, []


def become(request, files, base):
    """Turn a child into what the request asks for: its place, output, variables, program."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, one in enumerate([nothing, *files]):
        os.dup2(one, number)
        os.close(one)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["variables"])
    more = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [*request["first"], *more, *base]
    sys.argv[:] = request["arguments"]
    importlib.invalidate_caches()
    # What is drawn without a seed is drawn anew; the standard library sees to that by itself.
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.seed()


def work(request):
    """Run the program as `__main__`; its exit and exceptions are the interpreter's."""
    if request["module"]:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        return
    sys.modules["__main__"] = program = ModuleType("__main__")
    if request["file"]:
        program.__file__ = request["file"]
        importlib.machinery.SourceFileLoader("__main__", request["file"]).exec_module(program)
    else:
        _Text(request["text"]).exec_module(program)


def main():
    """Import, then serve; a child leaves by the end of the interpreter, as every program does."""
    told = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    base = [path for path in sys.path[1:] if path not in told]
    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.freeze()
    request, files = serve(socket.socket(fileno=int(sys.argv[1])))
    if request is not None:
        become(request, files, base)
        work(request)


if __name__ == "__main__":
    main()
