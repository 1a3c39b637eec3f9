"""Single environments spread over processes that write into shared memory.

Each process steps its share in order (in_process.py), so the numbers do not depend on how many
processes there are. A worker that dies or an environment that raises becomes one EnvironmentFault.
Leaves out the choice between this and one process, which factory.py makes by measuring.
"""

import contextlib
import multiprocessing
import signal
from collections.abc import Sequence
from ctypes import c_byte
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from types import FrameType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from playout.agents.vector.actions import row_form
from playout.agents.vector.groups import Buffers, Group
from playout.agents.vector.in_process import EnvGroup, MakeEnv
from playout.agents.vector.spaces import map_arrays, rows_of
from playout.errors import EnvironmentFault, PlayoutError

_STEP, _DONE = b"s", b"d"


def shared(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """A zeroed array that processes started later see as well."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw: Any = multiprocessing.RawArray(c_byte, max(size, 1))
    return np.frombuffer(raw, np.uint8)[:size].view(dtype).reshape(shape)


class WorkerPool(Group):
    """`len(makers)` environments in `num_workers` processes.

    Attributes:
        buffers: Arrays over all environments, in shared memory.
    """

    def __init__(
        self, makers: Sequence[MakeEnv], num_workers: int, template: EnvGroup, first: int = 0
    ) -> None:
        """Start the processes.

        Args:
            makers: One function for each environment.
            num_workers: How many processes.
            template: One such environment, for its spaces.
            first: Number of the first environment among those of all ranks.
        """
        count, self.first = len(makers), first
        self.observation_space = template.observation_space
        self.action_space = template.action_space
        self.buffers = cast(
            Buffers,
            map_arrays(lambda x: shared((count, *x.shape[1:]), x.dtype), {**template.buffers}),
        )
        shape, dtype = row_form(self.action_space)
        self.actions = shared((count, *shape), dtype)
        # fork where there is: the makers may be closures, and the parent computes nothing yet.
        method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
        context = multiprocessing.get_context(method)
        self.parts = [
            slice(count * k // num_workers, count * (k + 1) // num_workers)
            for k in range(num_workers)
        ]
        self.pipes: list[Connection] = []
        self.processes: list[BaseProcess] = []
        # Before multiprocessing's own end, which waits for ever for who leaves SIGTERM to us.
        self._end = Finalize(self, _close, (self.pipes, self.processes), exitpriority=0)
        for part in self.parts:
            ours, theirs = context.Pipe()
            process = context.Process(  # type: ignore[attr-defined]
                target=_work,
                args=(
                    theirs,
                    [*self.pipes, ours],
                    makers[part],
                    first + part.start,
                    rows_of({**self.buffers}, part),
                    self.actions[part],
                ),
                daemon=True,
            )
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)
        self.masked = any(self._answers())

    def _answers(self) -> list[Any]:
        """One reply from every worker; the first fault is raised after all have been read."""
        found, fault = [], None
        for k, pipe in enumerate(self.pipes):
            try:
                data = pipe.recv_bytes()
                reply = None if data == _DONE else pipe.recv()
            except (EOFError, OSError):
                process = self.processes[k]
                process.join(1.0)
                reply = EnvironmentFault(
                    f"the worker process of environments {self.first + self.parts[k].start} to "
                    f"{self.first + self.parts[k].stop - 1} died (exit code {process.exitcode})"
                )
            if isinstance(reply, Exception):
                fault = fault or reply
            found.append(reply)
        if fault is not None:
            raise fault
        return found

    def _call(self, message: Any) -> list[Any]:
        for pipe in self.pipes:
            _send(pipe, message)
        return self._answers()

    def reset(self, seed: int) -> None:
        """Begin the first episode of every environment."""
        self.masked = any(self._call(("reset", seed)))

    def step(self, actions: NDArray[Any]) -> None:
        """Step every environment; one that was over begins anew and ignores its action."""
        self.actions[...] = actions
        self._call(_STEP)

    def get_state(self) -> dict[str, Any]:
        """As EnvGroup's, over all environments."""
        parts = self._call(("get_state", None))
        return {
            "seed": parts[0]["seed"],
            **{
                key: np.concatenate([part[key] for part in parts])
                for key in ("episodes", "over", "lengths")
            },
            "actions": [actions for part in parts for actions in part["actions"]],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Rebuild all environments; every worker plays its own episodes again."""
        for k, part in enumerate(self.parts):
            own = {key: value if key == "seed" else value[part] for key, value in state.items()}
            _send(self.pipes[k], ("set_state", own))
        self._answers()

    def close(self) -> None:
        """Stop the processes; so does the program's end, or the end of the last reference."""
        self._end()


def _send(pipe: Connection, message: Any) -> None:
    with contextlib.suppress(OSError):  # a dead worker is reported when its answer is read
        if isinstance(message, bytes):
            pipe.send_bytes(message)
        else:
            pipe.send_bytes(b"m")
            pipe.send(message)


def _close(pipes: Sequence[Connection], processes: Sequence[BaseProcess]) -> None:
    for pipe in pipes:
        _send(pipe, ("close", None))
    for process in processes:
        process.join(2.0)
        if process.is_alive():
            process.kill()
    for pipe in pipes:
        pipe.close()


def _leave_to_parent(number: int, frame: FrameType | None) -> None:
    """Takes no notice of a signal; what an environment has started still ends by it."""


def _work(
    pipe: Connection,
    others: Sequence[Connection],
    makers: Sequence[MakeEnv],
    first: int,
    buffers: Buffers,
    actions: NDArray[Any],
) -> None:
    """The worker's loop: it ends when the parent says so or is gone."""
    # Both may come to the whole group of processes; the parent saves with our help, then ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave_to_parent)
    for other in others:
        other.close()  # else a parent that is killed would leave the pipe open

    def answer(value: Any) -> None:
        pipe.send_bytes(b"m")
        pipe.send(value)

    with contextlib.suppress(EOFError, OSError):
        try:
            group = EnvGroup(makers, first, buffers)
            answer(group.masked)
        except Exception as error:
            answer(_portable(error))
            return
        while True:
            message: Any = pipe.recv_bytes()
            name: str
            value: Any
            name, value = ("step", None) if message == _STEP else pipe.recv()
            try:
                if name == "step":
                    group.step(actions)
                    pipe.send_bytes(_DONE)
                elif name == "reset":
                    group.reset(value)
                    answer(group.masked)
                elif name == "get_state":
                    answer(group.get_state())
                elif name == "set_state":
                    group.set_state(value)
                    answer(group.masked)
                else:
                    group.close()
                    return
            except Exception as error:
                answer(_portable(error))


def _portable(error: Exception) -> Exception:
    """An exception that is sure to survive the pipe."""
    if isinstance(error, PlayoutError):
        return type(error)(str(error))
    return EnvironmentFault(f"{type(error).__name__}: {error}")
