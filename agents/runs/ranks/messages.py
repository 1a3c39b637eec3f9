"""What all processes of a job say together: sums, extremes, decisions of rank 0, agreement.

Every function must be called by every rank, in the same order. The engine is torch.distributed:
gloo for what is in memory, nccl for what is on cards of its own. A process that is gone is a
PeerError at once, one that stands still or lost its machine after a minute (watch.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import playout.errors
from playout.agents.runs.ranks.place import (
    is_first,
    local_world,
    on_one_machine,
    rank,
    world,
)
from playout.errors import ConfigError, PeerError, PlayoutError

if TYPE_CHECKING:
    import torch
    from playout.agents.runs.ranks.memory import RankMemory
    from torch import Tensor
    from torch.distributed import ProcessGroup

T = TypeVar("T")

_START = timedelta(minutes=10)  # until everybody has come
# A rating by rank 0 may take hours, and the others wait; who is dead is found out otherwise.
_WORK = timedelta(days=30)
_BLOCK = 2048  # bytes of a small message, its length included; longer ones need a second one


class _Group:
    """The job's processes, once they have met."""

    def __init__(self, group: ProcessGroup, *, cards: bool, restarts: int) -> None:
        self.group = group
        self.cards = cards  # whether tensors on cards are summed there
        self.restarts = restarts  # as all ranks have agreed
        self.memory: RankMemory | None = None  # where ranks of one machine add up
        self.begun = 0  # messages that this rank has come to
        self.waited = 0.0  # seconds in messages


_joined: list[_Group] = []


def start(device: str | torch.device = "auto") -> None:
    """Meet the other processes, once; every function below does it if nobody has.

    Args:
        device: Where this rank computes. Ranks with a card each sum their gradients by nccl, all
            others by gloo.

    Raises:
        ConfigError: Ranks run other code, versions or commands; raised on every rank.
        PeerError: Not everybody came within ten minutes, or the port is taken.
    """
    if world() == 1 or _joined:
        return
    import torch
    from playout.agents.runs.ranks import agreement, meeting, memory, watch
    from torch import distributed

    # Ranks that share a card cannot use nccl; "auto" is a card where there is one.
    name = str(device).partition(":")[0]
    cards = (
        name in ("auto", "cuda")
        and torch.cuda.is_available()
        and distributed.is_nccl_available()
        and torch.cuda.device_count() >= local_world()
    )
    if on_one_machine():  # nothing listens beyond the machine
        loopback = "lo0" if os.uname().sysname == "Darwin" else "lo"
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    backend = "cpu:gloo,cuda:nccl" if cards else "gloo"
    try:
        told = agreement.statement()
        store, word, decision = meeting.meet(_START, told, agreement.decide)
        watch.begin(word, lambda: _joined[0].begun if _joined else 0)
        problem, restarts = agreement.decided(decision)
        if problem:
            raise ConfigError(problem)
        if not distributed.is_initialized():  # a program may have its own group
            distributed.init_process_group(
                backend, store=store, rank=rank(), world_size=world(), timeout=_START
            )
        group = distributed.new_group(backend=backend, timeout=_WORK)
    except ConfigError:
        raise
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise PeerError(
            f"rank {rank()} of {world()} cannot meet the others at {where}: {_reason(error)}"
        ) from error
    assert group is not None
    _joined.append(_Group(group, cards=cards, restarts=restarts))
    if on_one_machine() and os.environ.get(memory.VARIABLE) != "0":
        _joined[0].memory = _share_memory()


def _share_memory() -> RankMemory | None:
    """Memory of all ranks, if every one of them can have it."""
    from playout.agents.runs.ranks.memory import RankMemory, create

    descriptor, place = -1, [0, 0]
    if is_first():
        with contextlib.suppress(OSError):
            descriptor, piece = create()
            place = [descriptor, piece]
    place = first(place)
    processes = [int(text) for text in everybody(str(os.getpid()).encode())]
    found: RankMemory | None = None
    with contextlib.suppress(OSError):
        if place[1]:
            found = RankMemory(f"/proc/{processes[0]}/fd/{place[0]}", place[1], processes)
    everywhere = smallest([float(found is not None)]) == [1.0]
    if descriptor >= 0:
        os.close(descriptor)  # the mappings keep it
    return found if everywhere else None


def _reason(error: BaseException) -> str:
    """The first line of what torch says, without the places in its sources."""
    text = re.sub(r"\[/[^]]*\] ?", "", str(error).strip().split("\n", 1)[0])
    return text.split(". ", 1)[0].removesuffix(".")[:160]


@contextlib.contextmanager
def _talking(*, waits_for_first: bool = False) -> Iterator[_Group]:
    """The group, for one message; a broken connection becomes one line.

    Args:
        waits_for_first: What rank 0 works for alone, for hours perhaps, which is no hanging: the
            others have come to this message only when it is there.
    """
    if not _joined:
        start()
    (joined,) = _joined
    begun, later = time.monotonic(), waits_for_first and not is_first()
    joined.begun += not later
    try:
        yield joined
    except RuntimeError as error:
        raise PeerError(
            f"rank {rank()} of {world()} lost another rank ({_reason(error)})"
        ) from error
    finally:
        joined.begun += later
        joined.waited += time.monotonic() - begun


def restarts() -> int:
    """How many times torchrun has begun this job again, as all its ranks have agreed."""
    start()
    return _joined[0].restarts if _joined else 0


def seconds_waited() -> float:
    """Seconds that this rank has spent in messages, most of them waiting for the others."""
    return _joined[0].waited if _joined else 0.0


def add_(tensor: Tensor) -> Tensor:
    """Replace a tensor by its sum over all ranks; the same bits on every rank.

    Args:
        tensor: Of any shape and device, alike on all ranks: a flat gradient, moments.

    Returns:
        The tensor itself.
    """
    if world() == 1:
        return tensor
    import torch
    from torch import distributed

    with _talking() as joined, torch.no_grad():
        here = tensor.device.type == "cpu" or (tensor.device.type == "cuda" and joined.cards)
        sent = tensor.contiguous() if here else tensor.cpu().contiguous()
        if joined.memory is not None and joined.memory.holds(sent):
            joined.memory.add_(sent)
        else:
            distributed.all_reduce(sent, group=joined.group)
        if sent is not tensor:
            tensor.copy_(sent)
    return tensor


def _rows(joined: _Group, mine: Tensor) -> Tensor:
    """A vector of every rank, [N, n] in order of rank; of numbers that memory holds."""
    import torch
    from torch import distributed

    if joined.memory is None:
        found = [torch.empty_like(mine) for _ in range(world())]
        distributed.all_gather(found, mine, group=joined.group)
        return torch.stack(found)
    rows = torch.zeros((world(), *mine.shape), dtype=mine.dtype)
    rows[rank()] = mine
    joined.memory.add_(rows)
    return rows


def _columns(values: Sequence[float]) -> list[list[float]]:
    """For each value that of every rank, in order of rank; one message."""
    if world() == 1 or not values:
        return [[float(value)] for value in values]
    import torch

    with _talking() as joined:
        rows = _rows(joined, torch.tensor(values, dtype=torch.float64))
    found: list[list[float]] = rows.T.tolist()
    return found


def sums(values: Sequence[float]) -> list[float]:
    """The sum of each value over all ranks, in float64; one message."""
    return [sum(column) for column in _columns(values)]


def largest(values: Sequence[float]) -> list[float]:
    """The largest of each value over all ranks; one message."""
    return [max(column) for column in _columns(values)]


def smallest(values: Sequence[float]) -> list[float]:
    """The smallest of each value over all ranks; one message."""
    return [min(column) for column in _columns(values)]


def first(value: T) -> T:
    """Rank 0's value, on every rank: a decision that all follow.

    Args:
        value: Bytes, or what JSON holds (a tuple comes back as a list). Only rank 0's counts.
    """
    if world() == 1:
        return value
    import numpy as np
    import torch

    data = b""
    if is_first():
        data = b"b" + value if isinstance(value, bytes) else b"j" + json.dumps(value).encode()
    head = torch.zeros(_BLOCK, dtype=torch.uint8)
    with _talking(waits_for_first=True) as joined:
        if is_first():
            start_of = np.frombuffer(len(data).to_bytes(8, "big") + data[: _BLOCK - 8], np.uint8)
            head[: len(start_of)] = torch.from_numpy(start_of.copy())
        _from_first(joined, head)
        came = head.numpy().tobytes()
        size = int.from_bytes(came[:8], "big")
        if size > _BLOCK - 8:
            rest = torch.zeros(size, dtype=torch.uint8)
            if is_first():
                rest = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            _from_first(joined, rest)
            came = came[:8] + rest.numpy().tobytes()
    came = came[8 : 8 + size]
    found: Any = came[1:] if came[:1] == b"b" else json.loads(came[1:])
    return found  # type: ignore[no-any-return]


def _from_first(joined: _Group, tensor: Tensor) -> None:
    """Make a tensor that of rank 0, on every rank; bytes, of zeros on the others."""
    from torch import distributed

    if joined.memory is None:
        distributed.broadcast(tensor, 0, group=joined.group)
    else:
        joined.memory.add_(tensor)


def by_first(make: Callable[[], T]) -> T:
    """Have rank 0 do something once for all; every rank gets what it returns.

    Args:
        make: Called on rank 0 only; returns bytes or what JSON holds.

    Raises:
        PlayoutError: What it raised on rank 0, on every rank.
    """
    if world() == 1:
        return make()
    value: Any = None
    problem: PlayoutError | None = None
    if is_first():
        try:
            value = make()
        except PlayoutError as error:
            problem = error
    failed = first([type(problem).__name__, str(problem)] if problem is not None else None)
    if problem is not None:
        raise problem
    if failed is not None:
        raise _error(*failed)
    return first(value)


def _error(name: str, text: str) -> PlayoutError:
    """An error of another rank, as its own class."""
    kind = getattr(playout.errors, name, PlayoutError)
    found: PlayoutError = kind(text)
    return found


def everybody(value: bytes) -> list[bytes]:
    """The bytes of every rank, in order of rank, on every rank; small ones in one message."""
    if world() == 1:
        return [value]
    import torch

    def exchange(data: bytes, size: int) -> list[bytes]:
        mine = torch.zeros(size, dtype=torch.uint8)
        mine[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        return [row.numpy().tobytes() for row in _rows(joined, mine)]

    with _talking() as joined:
        room = _BLOCK - 8
        came = exchange(len(value).to_bytes(8, "big") + value[:room], _BLOCK)
        sizes = [int.from_bytes(one[:8], "big") for one in came]
        bodies = [one[8:] for one in came]
        if max(sizes) > room:
            bodies = exchange(value or b"\0", max(sizes))
    return [body[:size] for body, size in zip(bodies, sizes, strict=True)]


def agree(what: str, value: str) -> None:
    """Make sure that all ranks have the same text.

    Args:
        what: What it is, for the error: "settings".
        value: The text; of JSON objects, the error names the keys that differ.

    Raises:
        ConfigError: Two ranks differ; raised on every rank.
    """
    if world() == 1:
        return
    mine = hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()
    digests = everybody(mine)
    if len(set(digests)) == 1:
        return
    from playout.agents.runs.ranks.agreement import differ

    texts = [
        text.decode("utf-8", "replace") for text in everybody(value.encode("utf-8", "replace"))
    ]
    other = next(i for i, digest in enumerate(digests) if digest != digests[0])
    raise ConfigError(differ(what, texts[0], texts[other], other))
