"""One engine's process: lines in, lines out, each within a time, and always ended.

The process gets a session of its own, so that Ctrl-C reaches playout alone and everything that the
command has started can be ended with it. What it writes is bounded: long lines, floods of lines and
what is no text are the engine's mistakes, not ours. Leaves out what lines mean (gtp.py, uci.py).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence

from playout.errors import ConfigError, EngineError

MAX_LINE = 1 << 16  # bytes of a line
MAX_LINES = 100_000  # of one answer ...
MAX_ANSWER = 1 << 23  # ... and characters of all of them: a search may be told of in thousands
_MAX_ERRORS = 2000  # characters of standard error that are kept
_GAMES_FOLDERS = "/usr/games:/usr/local/games"  # Debian's, which root's PATH leaves out
_LOOK = 0.1  # seconds after which whoever waits for a line looks whether it was ended meanwhile
_PATIENCE = 1.0  # seconds that an engine has for leaving by itself


def find_command(command: str) -> list[str]:
    """The words of a command, the first of them a program that is there.

    Raises:
        ConfigError: It cannot be read, or there is no such program.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"the command {command!r} cannot be read: {error}") from None
    if not words:
        raise ConfigError("the command of an engine is missing")
    path = shutil.which(words[0]) or shutil.which(words[0], path=_GAMES_FOLDERS)
    if path is None:
        raise ConfigError(f"there is no program {words[0]!r}")
    return [path, *words[1:]]


class EngineProcess:
    """A running engine.

    Args:
        argv: The program and its arguments.

    Raises:
        EngineError: It cannot be started.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        try:
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise EngineError(f"cannot start {argv[0]}: {error.strerror}") from None
        self._finalizer = weakref.finalize(self, _end, self._process)
        assert self._process.stdout is not None and self._process.stderr is not None
        self._out, self._err = self._process.stdout.fileno(), self._process.stderr.fileno()
        self._selector = selectors.DefaultSelector()
        for stream in (self._out, self._err):
            os.set_blocking(stream, False)
            self._selector.register(stream, selectors.EVENT_READ)
        self._rest = b""
        self._lines: deque[str] = deque()
        self._errors = ""
        self._closed = False

    def send(self, line: str) -> None:
        """Writes one line.

        Raises:
            EngineError: The engine has gone.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
        except (OSError, ValueError):
            raise EngineError(self._how_it_ended()) from None

    def ask(self, command: str, timeout: float) -> Iterator[str]:
        """Writes a command, and gives the lines after it to whoever knows which one is the last.

        Raises:
            EngineError: The engine has gone, gives no line in time, or too much in all.
        """
        name, left = command.split()[0], MAX_ANSWER
        self.send(command)
        deadline = time.monotonic() + timeout
        for _ in range(MAX_LINES):
            line = self.read(deadline)
            if line is None:
                raise EngineError(f"no answer to {name} within {timeout:g} s")
            left -= len(line)
            if left < 0:
                raise EngineError(f"it answered {name} with more than {MAX_ANSWER} characters")
            yield line
        raise EngineError(f"it answered {name} with more than {MAX_LINES} lines")

    def read(self, deadline: float) -> str | None:
        """The next line, without its end; None where there is none until then.

        Args:
            deadline: By time.monotonic().

        Raises:
            EngineError: The engine has gone, or its line is far too long.
        """
        while not self._lines:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            try:
                for key, _ in self._selector.select(min(left, _LOOK)):
                    self._take(int(key.fd))
            except (OSError, ValueError):
                if not self._closed:
                    raise
            if self._closed:
                raise EngineError("it was ended")
        return self._lines.popleft()

    def _take(self, stream: int) -> None:
        try:
            data = os.read(stream, 1 << 16)
        except BlockingIOError:
            return
        if stream == self._err:
            if data:
                self._errors = (self._errors + data.decode(errors="replace"))[-_MAX_ERRORS:]
            else:
                self._selector.unregister(self._err)
            return
        if not data:
            raise EngineError(self._how_it_ended())
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE or any(len(line) > MAX_LINE for line in lines):
            raise EngineError(f"it wrote a line of more than {MAX_LINE} bytes")
        self._lines.extend(
            "".join(c for c in line.decode(errors="replace") if c.isprintable() or c == "\t")
            for line in lines
        )

    def _how_it_ended(self) -> str:
        """Its exit status, and the last line that it complained with."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        with contextlib.suppress(OSError):
            self._errors += os.read(self._err, _MAX_ERRORS).decode(errors="replace")
        code = self._process.returncode
        how = (
            "it closed its output"
            if code is None
            else f"it was ended by {_signal_name(-code)}"
            if code < 0
            else f"it ended with status {code}"
        )
        said = [line.strip() for line in self._errors.splitlines() if line.strip()]
        return f"{how} ({said[-1][:200]})" if said else how

    def close(self, *, politely: bool = True) -> None:
        """Ends it, and whatever it has started.

        Args:
            politely: Say "quit" and wait for a moment; else it is killed at once.
        """
        self._closed = True
        if self._finalizer.alive:
            if politely:
                with contextlib.suppress(EngineError):
                    self.send("quit")
            else:
                self._process.kill()
            self._selector.close()
            self._finalizer()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Closes the pipes and waits; then signals the whole session, gently and for good."""
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE)
    # Its children may outlive it: the session is ended in any case.
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
            if number == signal.SIGTERM and not _session_lives(process.pid):
                return


def _session_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True
