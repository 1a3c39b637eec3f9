"""Where networks compute: `--device`, `--dtype` and `--threads` become torch's objects here only.

A device is whatever `torch.device` takes, a backend that the program has registered included;
"auto" is a GPU if there is one, else the processor; of several, each rank of a job takes the one of
its number. Data crosses to a device once a batch
(`to_device`), through pinned memory and without waiting where there is a card; metrics come back
once an update (`fetch`). torch is imported when it is needed: a command's `--help` costs none.
Left out: which batches suit a device (the trainers know).
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from playout.agents.runs import ranks
from playout.cores import usable_cores
from playout.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import Tensor

Nest = Any
"""An array, a tensor, None, or a dict, list or tuple of nests."""

_ALIGNMENT = 16  # bytes
MAX_THREADS = 1024
DTYPES = ("auto", "float32", "bfloat16", "float16")
INT8 = "int8"  # what answers of board networks may be computed in besides, on a processor


def resolve_device(name: str = "auto", *, prefers_processor: bool = False) -> torch.device:
    """The device of that name, tried once.

    Args:
        name: "auto", or what `torch.device` takes: cpu, cuda, cuda:1, mps, a registered backend.
        prefers_processor: The network is fastest on the processor even where there is a GPU, so
            that "auto" means the processor.

    Raises:
        ConfigError: torch knows no such device, or it cannot be used here.
    """
    import torch

    if name == "auto":
        gpu = not prefers_processor and torch.cuda.is_available()
        return _card_of_rank() if gpu else torch.device("cpu")
    if name == "cuda" and ranks.world() > 1 and torch.cuda.is_available():
        return _card_of_rank()
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(
            f"unknown device {name!r}; use auto, cpu, cuda or whatever torch.device takes"
        ) from None
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type == "meta":
        raise ConfigError("device 'meta' holds no numbers; use auto, cpu, cuda or another")
    try:
        device = torch.empty(1, device=device).device  # with its index
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        # What torch says goes on for pages about its backends.
        reason = str(error).split("\n", 1)[0].split(". ", 1)[0].removesuffix(".")[:120]
        raise ConfigError(f"device {name!r} cannot be used here: {reason}") from None
    if device.type == "cuda" and ranks.local_world() > 1 and device != _card_of_rank():
        raise ConfigError(
            f"{name} is one card for {ranks.local_world()} ranks: with --device cuda each takes "
            "the one of its number"
        )
    return device


def _card_of_rank() -> torch.device:
    """The card of this rank, by its number on this machine; ranks share where cards are few."""
    import torch

    if ranks.world() == 1:
        return torch.device("cuda")
    found = torch.device("cuda", ranks.local_rank() % torch.cuda.device_count())
    torch.cuda.set_device(found)  # what is made without a word on where goes there as well
    return found


def resolve_dtype(name: str, device: torch.device) -> str:
    """The name of a network's dtype: "auto" is the fastest safe one, by what the device says.

    Returns:
        "float32", "bfloat16" or "float16"; of a processor bfloat16 where it multiplies that
        natively and faster. A clock would not repeat.

    Raises:
        ConfigError: an unknown name.
    """
    import torch

    if name == INT8:
        raise ConfigError("int8 is for playing with board networks: use another --dtype")
    if name not in DTYPES:
        raise ConfigError(f"dtype {name!r} is unknown: use {', '.join(DTYPES)}")
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if device.type == "cpu" and not slow_bfloat16():
        for feature in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            supported = getattr(torch.cpu, feature, None)
            if supported is not None and supported():
                return "bfloat16"
    return "float32"


@cache
def slow_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 at about half of float32's speed.

    Intel's without matrix tiles (AMX): their vectors have an instruction for it, of which they
    begin half as many a cycle. AMD's begin as many.
    """
    import torch

    tiles = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return _made_by_intel() and tiles is not None and not tiles()


def _made_by_intel() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            said = file.read(4096)
    except OSError:  # not Linux
        said = platform.processor()
    return "GenuineIntel" in said


def cores() -> int:
    """Processor cores for this process: those it may use, divided among the ranks here."""
    return max(1, usable_cores() // ranks.local_world())


def check_threads(threads: int | None) -> None:
    """Raises ConfigError for a number of threads that no machine has.

    None and 0 leave the choice to us. Each thread is one of the system's: some ten thousand take
    the whole machine with them.
    """
    if threads is not None and not 0 <= threads <= MAX_THREADS:
        what = "must not be negative" if threads < 0 else f"must be at most {MAX_THREADS}"
        raise ConfigError(f"--threads {what}, not {threads}")


def keep_freed_memory() -> bool:
    """Tells the C library to keep freed memory for reuse; returns whether it could be told.

    A gradient step frees and asks again for the same few megabytes many times a second. By default
    large pieces go back to the system at once, and the next step pays for every page anew: a tenth
    of the time of a small network's step. Libraries other than glibc are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return False
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # names of mallopt(3)
    largest = 32 << 20  # bytes; glibc takes no larger threshold for mapping
    settings = ((mmap_threshold, largest), (trim_threshold, 1 << 30), (top_pad, 64 << 20))
    return all(mallopt(name, value) == 1 for name, value in settings)


def to_device(array: npt.NDArray[np.generic] | Tensor, device: torch.device) -> Tensor:
    """An array or a tensor of the processor on the device: one crossing, not waited for on a card.

    On the processor itself the tensor shares the array's memory.
    """
    import torch

    found = array if isinstance(array, torch.Tensor) else torch.from_numpy(array)
    if found.device == device or device.type == "cpu":
        return found.to(device)
    if device.type == "cuda":
        pinned = found if found.is_pinned() else found.pin_memory()
        return pinned.to(device, non_blocking=True)
    return found.to(device)


def pack_to_device(
    arrays: Sequence[npt.NDArray[np.generic] | Tensor], device: torch.device
) -> list[Tensor]:
    """Several arrays or tensors of the processor, of any types, on the device in one crossing.

    They travel as the bytes of one buffer; what comes out are views of it. On the processor itself
    nothing is copied.
    """
    import torch

    tensors = [x if isinstance(x, torch.Tensor) else torch.from_numpy(x) for x in arrays]
    if device.type == "cpu":
        return tensors
    if len(tensors) < 2:
        return [to_device(tensor, device) for tensor in tensors]
    sizes = [tensor.numel() * tensor.element_size() for tensor in tensors]
    starts = [0]
    for size in sizes:  # every part begins where any type may
        starts.append(starts[-1] + -(-size // _ALIGNMENT) * _ALIGNMENT)
    buffer = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=device.type == "cuda")
    for tensor, start, size in zip(tensors, starts, sizes, strict=False):
        buffer[start : start + size] = tensor.contiguous().view(-1).view(torch.uint8)
    moved = to_device(buffer, device)
    return [
        moved[start : start + size].view(tensor.dtype).view(tensor.shape)
        for tensor, start, size in zip(tensors, starts, sizes, strict=False)
    ]


def nests_to_device(nests: Sequence[Nest], device: torch.device) -> list[Nest]:
    """Nests of arrays (of tensors, or None) as nests of tensors on the device, in one crossing.

    Args:
        nests: Each an array, a tensor, None, or a dict, list or tuple of nests.
        device: Where to.
    """
    leaves: list[Any] = []

    def keep(leaf: Nest) -> int:
        leaves.append(leaf)
        return len(leaves) - 1

    places = [_map_leaves(keep, nest) for nest in nests]
    moved = pack_to_device(leaves, device)
    return [_map_leaves(lambda place: moved[place], nest) for nest in places]


def _map_leaves(function: Callable[[Any], Any], nest: Nest) -> Nest:
    if nest is None:
        return None
    if isinstance(nest, Mapping):
        return {key: _map_leaves(function, value) for key, value in nest.items()}
    if isinstance(nest, list | tuple):
        return type(nest)(_map_leaves(function, value) for value in nest)
    return function(nest)


def new_generator(device: torch.device, seed: int) -> torch.Generator:
    """A generator of the device; of the processor where the device has none of its own."""
    import torch

    try:
        found = torch.Generator(device)
    except (RuntimeError, NotImplementedError):
        found = torch.Generator()
    found.manual_seed(seed)
    return found


def fetch(values: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Metrics as numbers: all tensors (of one element each) come back in one crossing."""
    import torch

    tensors = {key: value for key, value in values.items() if isinstance(value, torch.Tensor)}
    found = {key: float(value) for key, value in values.items() if key not in tensors}
    if tensors:
        flat = torch.stack([value.detach().reshape(()).float() for value in tensors.values()])
        found.update(zip(tensors, flat.cpu().tolist(), strict=True))
    return {key: found[key] for key in values}


@contextmanager
def device_errors(device: torch.device) -> Iterator[None]:
    """Turns a full device into one line with advice; every other error passes."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).split(". ", 1)[0]
        raise ConfigError(
            f"{device} is full: {reason}; use a smaller batch or network, or --device cpu"
        ) from error
