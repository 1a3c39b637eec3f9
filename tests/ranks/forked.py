"""Python processes that begin with torch and playout imported: in milliseconds, not seconds.

    process = start("-m", "playout", "ppo", "CartPole-v1", folder=tmp_path)
    code, out, err = finish(process)

The words are those after `python`. Two interpreters (template.py) are begun once for a test run
and fork the others in turn: like processes of their own, those that follow one another hash
strings differently. Variables that an interpreter reads when it begins come too late.
"""

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_TEMPLATE = Path(__file__).with_name("template.py")
IMPORTED = (
    *("numpy", "torch", "torch.distributed.fsdp", "tyro", "playout.cli"),
    *("playout.agents.ppo.trainer", "playout.agents.alphazero.trainer"),
    *("playout.rlhf.online.ppo", "playout.rlhf.online.grpo"),
)
_TOO_LATE = ("OMP_", "MKL_", "OPENBLAS_", "ATEN_", "PYTHONHASHSEED", "LD_")
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}


class _Template:
    """One of the interpreters that fork."""

    def __init__(self):
        self.ended, self.begun, self._said = {}, None, b""
        self.socket, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, str(_TEMPLATE), str(theirs.fileno()), *IMPORTED],
                env={**os.environ, **_ONE_THREAD, "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def fork(self, request, files):
        """The number of a new process."""
        text, self.begun = json.dumps(request).encode() + b"\n", None
        numbers = [one.fileno() for one in files]
        sent = socket.send_fds(self.socket, [text[: 1 << 16]], numbers)
        self.socket.sendall(text[sent:])
        while self.begun is None:
            self.listen(None)
        return self.begun

    def listen(self, timeout):
        """Wait that many seconds at most for news of processes."""
        if not select.select([self.socket], [], [], timeout)[0]:
            return
        part = self.socket.recv(1 << 16)
        if not part:
            raise RuntimeError("the interpreter that forks others is gone")
        *lines, self._said = (self._said + part).split(b"\n")
        for news in map(json.loads, lines):
            if "begun" in news:
                self.begun = news["begun"]
                self.ended.pop(self.begun, None)  # of an earlier process of that number
            else:
                self.ended[news["ended"]] = news["code"]

    def close(self):
        """End it, with everything that it began."""
        with contextlib.suppress(OSError):  # it has ended already
            self.socket.shutdown(socket.SHUT_RDWR)  # whoever else holds the socket
        self.socket.close()
        self.process.wait()


_templates = []
_count = 0


def _template(number):
    """The one for the process of that number; made anew if somebody has ended it."""
    while len(_templates) < 2:
        _templates.append(None)
    number %= 2
    if _templates[number] is None or _templates[number].process.poll() is not None:
        _templates[number] = _Template()
    return _templates[number]


@atexit.register
def _close():
    for one in filter(None, _templates):
        one.close()


class Process:
    """A process that was begun, with what `subprocess.Popen` has of it; output goes to files."""

    def __init__(self, template, pid, out, err):
        self.pid, self.returncode = pid, None
        self._template, self._out, self._err = template, out, err

    out = property(lambda self: _text(self._out), doc="What it has written until now.")
    err = property(lambda self: _text(self._err), doc="What it has written to its error output.")

    def poll(self):
        """Its exit code, or None while it runs."""
        if self.returncode is None:
            self._template.listen(0)
            self.returncode = self._template.ended.pop(self.pid, None)
        return self.returncode

    def wait(self, timeout=300):
        """Its exit code, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not within that many seconds, and runs on.
        """
        until = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout, self.out, self.err)
            self._template.listen(min(0.1, timeout))
        return self.returncode

    def communicate(self, timeout=300):
        """Wait for its end; all of its output and error output."""
        self.wait(timeout)
        return self.out, self.err

    def until(self, text, timeout=120):
        """Returns when it has written that, to either."""
        until = time.monotonic() + timeout
        while text not in self.out and text not in self.err:
            running = self.poll() is None and time.monotonic() < until
            assert running or text in self.out + self.err, self.out + self.err
            time.sleep(0.005)

    def send_signal(self, number):
        """Send a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        """Kill it with all processes that it has begun."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)  # it may not have its own group yet
                os.killpg(self.pid, signal.SIGKILL)


def _text(file):
    # The place of the next word is shared with who writes: nobody may seek.
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")


def start(*words, folder=".", variables=None, out=None, err=None, number=None):
    """Begin a process.

    Args:
        *words: As after `python`: a script, "-m" and a module, or "-c" and a program, then
            arguments; "-P" before them keeps their folder out of `sys.path`.
        folder: Where it works.
        variables: Its whole environment; the default is this process's, with one thread.
        out: An open file for its output, which several may share; one of its own by default.
        err: The same for its error output.
        number: Even and odd ones are forked by different interpreters; by default in turn.
    """
    global _count
    words = [str(word) for word in words]
    safe = words[0] == "-P"
    kind, *rest = words[safe:]
    request = {"module": None, "file": None, "text": None, "arguments": [kind, *rest]}
    folder = Path(folder).resolve()
    if kind in ("-m", "-c"):
        request["module" if kind == "-m" else "text"] = rest[0]
        request["arguments"], first = [kind, *rest[1:]], str(folder) if kind == "-m" else ""
    else:
        request["file"], first = str(folder / kind), str((folder / kind).parent)
    variables = {**os.environ, **_ONE_THREAD} if variables is None else variables
    late = [
        name
        for name, value in variables.items()
        if name.startswith(_TOO_LATE) and value != {**os.environ, **_ONE_THREAD}.get(name)
    ]
    if late:
        raise ValueError(f"{late[0]} comes too late for a forked interpreter")
    request |= {"first": [] if safe else [first], "folder": str(folder), "variables": variables}
    files = [one or tempfile.TemporaryFile() for one in (out, err)]  # noqa: SIM115
    _count += 1
    template = _template(_count if number is None else number)
    return Process(template, template.fork(request, files), *files)


def finish(process, timeout=300):
    """Wait for a process: exit code, output, error output; it is killed after the timeout."""
    try:
        out, err = process.communicate(timeout)
    finally:
        process.kill()
    return process.returncode, out, err


def run(*words, timeout=300, **options):
    """Begin a process and wait for it: exit code, output, error output."""
    return finish(start(*words, **options), timeout)
