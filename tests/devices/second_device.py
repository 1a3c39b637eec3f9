"""A second device that needs no hardware: `--device second`, `device="second"`, `.to("second")`.

A Python backend under torch's PrivateUse1: its tensors hold a tensor of the processor, which does
the arithmetic, so that numbers equal the processor's where the operations are the same. As a card
it refuses tensors of another device (0-dim ones pass, as with torch), generators of another device
and `.numpy()`. `torch.Generator("second")` works, autocast too, and `save` writes what a card does.

    import second_device                     # registers it, once a process
    with second_device.crossings() as found:
        trainer.update()
    assert found.total <= 5, found

A test that takes the fixture `second` (tests/conftest.py) gets the device itself. `found.places`
names the line of playout that caused each crossing. Under `full()` the device has no memory left,
under `without_generator()` it has no generators, under `plain()` neither them nor autocast nor
`.data =`: a backend in Python has none of these by itself.

Counted as crossings to the host are copies, `.item()`, `.tolist()`, `bool(x)`, and operations whose
result's shape depends on data (`nonzero`, boolean indexing): for those a card makes the processor
wait. Left out: sparse and quantised tensors, streams, graphs, `torch.compile`, torch's own LSTM.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch.library import Library
from torch.utils._mode_utils import no_dispatch
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "second"
_ROOT = str(Path(__file__).resolve().parents[2])
_TESTS = str(Path(__file__).resolve().parents[1])
_aten = torch.ops.aten
# The shape of what these return depends on data: a card makes the processor wait for it.
_WAITING = {
    _aten.nonzero.default,
    _aten.masked_select.default,
    _aten._unique2.default,
    _aten.unique_consecutive.default,
    _aten.unique_dim.default,
    _aten.repeat_interleave.Tensor,
    _aten._local_scalar_dense.default,
    _aten.equal.default,
}
# Indices may lie on the processor: torch takes them over by itself, which is a crossing.
_INDEXING = {
    _aten.index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
    _aten._unsafe_index.Tensor,
}
# Lengths of packed sequences belong on the processor, on every device.
_WITH_LENGTHS = {
    _aten._pack_padded_sequence.default,
    _aten._pack_padded_sequence_backward.default,
    _aten._pad_packed_sequence.default,
}


@dataclass(slots=True)
class Crossings:
    """Copies between the processor and the second device.

    Attributes:
        to_device: Copies to the device.
        to_host: Copies and waits to the processor.
        places: How often each line of playout (or operation) caused one.
    """

    to_device: int = 0
    to_host: int = 0
    places: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """Crossings both ways."""
        return self.to_device + self.to_host


_counters: list[Crossings] = []


@contextmanager
def crossings() -> Iterator[Crossings]:
    """Counts the crossings of everything that runs inside, in any thread."""
    found = Crossings()
    _counters.append(found)
    try:
        yield found
    finally:
        _counters.remove(found)


_state = {"full": False, "generator": True, "data": True}


@contextmanager
def full() -> Iterator[None]:
    """The device has no memory left: every new tensor raises torch.OutOfMemoryError."""
    with _changed("full", True):
        yield


@contextmanager
def without_generator() -> Iterator[None]:
    """`torch.Generator("second")` is refused."""
    with _changed("generator", False):
        yield


@contextmanager
def plain() -> Iterator[None]:
    """No generators, no autocast, and no parameter becomes a view of another tensor."""
    declared = _Module.get_amp_supported_dtype
    del _Module.get_amp_supported_dtype
    try:
        with _changed("generator", False), _changed("data", False):
            yield
    finally:
        _Module.get_amp_supported_dtype = declared


@contextmanager
def _changed(name: str, value: bool) -> Iterator[None]:
    before, _state[name] = _state[name], value
    try:
        yield
    finally:
        _state[name] = before


def _count(way: str, op: object) -> None:
    if not _counters:
        return
    place = _place()
    for counter in _counters:
        setattr(counter, way, getattr(counter, way) + 1)
        counter.places[f"{way}: {op} {place}"] += 1


def _place() -> str:
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_ROOT) and not name.startswith(_TESTS) and "site-packages" not in name:
            return f"{name[len(_ROOT) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return "(outside playout)"


class SecondTensor(torch.Tensor):
    """A tensor on the second device; `held` is the tensor of the processor behind it."""

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "SecondTensor":
        if _state["full"]:
            raise torch.OutOfMemoryError(f"{NAME} out of memory. Tried to allocate {held.nbytes} B")
        found = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device(NAME, 0),
        )
        found.held = held
        return found

    def __repr__(self, *, tensor_contents=None) -> str:
        return f"{self.held!r} on {NAME}"

    def __reduce_ex__(self, protocol):
        _count("to_host", "save")
        return _rebuilt, (self.held, self.requires_grad)

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func == _SET_DATA and isinstance(args[0], SecondTensor):
            if not _state["data"]:
                raise RuntimeError(f"{NAME}: .data = reaches no numbers here")
            if not isinstance(args[1], SecondTensor):
                raise RuntimeError(f"incompatible tensor type: data of {args[1].device}")
            with torch._C.DisableTorchFunctionSubclass():
                func(*args)
            args[0].held = args[1].held
            return None
        if func == _GET_DATA:
            return args[0].detach()
        if func is torch.Tensor.tolist:
            return args[0].cpu().tolist()
        if func is torch.Tensor.numpy:
            raise TypeError(
                f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu() to copy the "
                "tensor to host memory first."
            )
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


_SET_DATA = torch.Tensor.data.__set__
_GET_DATA = torch.Tensor.data.__get__


def _rebuilt(held: torch.Tensor, requires_grad: bool) -> SecondTensor:
    return SecondTensor(held).requires_grad_(requires_grad)


def _mapped(change, value):
    """As `tree_map`, which takes a third of all time here, and quick for plain tuples and lists."""
    if type(value) in (tuple, list):
        return type(value)([_mapped(change, one) for one in value])
    if isinstance(value, tuple | list | dict):
        return tree_map(change, value)
    return change(value)


def _run(func, args, kwargs):
    """Runs one operation on the held tensors, after checking that all of them are ours."""
    wrappers: dict[int, SecondTensor] = {}
    strangers: list[torch.Tensor] = []

    def unwrap(x):
        if isinstance(x, SecondTensor):
            wrappers.setdefault(id(x.held), x)
            return x.held
        if isinstance(x, torch.Tensor) and x.dim() > 0:
            strangers.append(x)
        elif isinstance(x, _OriginalGenerator) and x._cdata not in SecondGenerator.known:
            raise RuntimeError(
                f"Expected a '{NAME}' device type for generator but found '{x.device.type}'"
            )
        return x

    plain_args = _mapped(unwrap, args)
    plain_kwargs = {name: _mapped(unwrap, one) for name, one in kwargs.items()}
    to_host = False
    device = kwargs.get("device")
    if device is not None:
        to_host = torch.device(device).type != NAME
        plain_kwargs["device"] = torch.device("cpu")
    if plain_kwargs.get("pin_memory"):
        plain_kwargs["pin_memory"] = False
    if func is _aten.copy_.default:
        target, source = args[0], args[1]
        if not isinstance(source, SecondTensor):
            _count("to_device", func)
        elif not isinstance(target, SecondTensor):
            _count("to_host", func)
    elif func in _WAITING or (func is _aten._to_copy.default and to_host and wrappers):
        _count("to_host", func)
    elif func in _INDEXING:
        for _ in strangers:
            _count("to_device", func)
        if any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1]):
            _count("to_host", func)
    elif strangers and wrappers and func not in _WITH_LENGTHS:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, "
            f"{NAME}:0 and {strangers[0].device}! ({func})"
        )
    result = func(*plain_args, **plain_kwargs)
    if torch.Tag.inplace_view in func.tags and isinstance(args[0], SecondTensor):
        with no_dispatch():
            func(*args, **kwargs)
        return args[0]

    def wrap(x):
        if not isinstance(x, torch.Tensor):
            return x
        own = wrappers.get(id(x))
        if own is not None:
            if own.shape != x.shape:  # an `out=` that was made empty grows
                with torch._C.DisableTorchFunctionSubclass():
                    own.data = SecondTensor(x)
                own.held = x
            return own
        if to_host or any(x is arg for arg in plain_args):
            return x
        return SecondTensor(x)

    if func in _WITH_LENGTHS and isinstance(result, tuple):  # batch sizes stay on the processor
        return SecondTensor(result[0]), result[1]
    return _mapped(wrap, result)


def _copy_from(source, target, non_blocking=False):
    return _run(_aten.copy_.default, (target, source), {"non_blocking": non_blocking})


class _Module(_DummyBackendModule):
    """What torch looks up as `torch.second`."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, device=None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state, device=None) -> None:
        torch.set_rng_state(state)

    def synchronize(self, device=None) -> None:
        pass


_OriginalGenerator = torch.Generator


class SecondGenerator(_OriginalGenerator):
    """A generator of the second device: draws what the processor's draws."""

    known: ClassVar[set[int]] = set()  # operations get them as plain ones over the same memory
    device = property(lambda self: torch.device(NAME, 0))

    def __new__(cls):
        found = super().__new__(cls)
        cls.known.add(found._cdata)
        return found

    def __del__(self):
        self.known.discard(self._cdata)


class _AnyGenerator(type):
    def __instancecheck__(cls, instance) -> bool:
        return isinstance(instance, _OriginalGenerator)


class _Generator(metaclass=_AnyGenerator):
    """`torch.Generator`, which knows our device: Python backends cannot register theirs."""

    def __new__(cls, device="cpu"):
        if torch.device(device).type == NAME:
            if not _state["generator"]:
                raise NotImplementedError("implement getNewGenerator for PrivateUse1")
            return SecondGenerator()
        return _OriginalGenerator(device)


# What autocast computes in the lower precision, of what networks here are made of.
_LOWER = ("linear", "matmul", "mm", "bmm", "addmm", "conv1d", "conv2d")
_LOWER += ("scaled_dot_product_attention",)


def _autocast(op):
    def cast(x, dtype):
        floating = isinstance(x, torch.Tensor) and x.dtype == torch.float32
        return x.to(dtype) if floating else x

    def run(*args, **kwargs):
        dtype = torch.get_autocast_dtype(NAME)
        with torch._C._ExcludeDispatchKeyGuard(_AUTOCAST):
            lowered = {name: cast(one, dtype) for name, one in kwargs.items()}
            return op(*_mapped(lambda x: cast(x, dtype), args), **lowered)

    return run


_AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
_libraries: list[Library] = []


def _register() -> None:
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    # `tensor.second()`, `module.second()` would hide parts of networks that are called so.
    for owner in (torch.Tensor, torch.nn.Module, torch.nn.utils.rnn.PackedSequence):
        for name in (NAME, f"is_{NAME}"):
            if name in vars(owner):
                delattr(owner, name)
    every = Library("_", "IMPL")
    every.fallback(lambda op, *args, **kwargs: _run(op, args, kwargs), "PrivateUse1")
    every.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    aten = Library("aten", "IMPL")
    # torch.tensor(..., device=) copies past __torch_dispatch__, and past a fallback.
    aten.impl("_copy_from", _copy_from, "PrivateUse1")
    for name in _LOWER:
        op = getattr(_aten, name).default
        aten.impl(name, _autocast(op), "AutocastPrivateUse1")
    _libraries.extend((every, aten))
    torch.Generator = _Generator


if not _libraries:
    _register()
