"""State trees <-> a JSON skeleton and named tensors, exact to the last bit and type.

A state is a nest of dict, list, tuple, None, bool, int, float, str, bytes, NumPy arrays and
scalars, and torch tensors. Anything else is refused, by name, when it is saved: no Python object
crosses a file border. The tensors below one key of the top level belong to one file, so that
`model.safetensors` holds the model under its own names. Leaves out files and hashes (folder.py)
and devices: tensors come back on the CPU.
"""

import math
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from playout.errors import CheckpointError

MAX_DEPTH = 64
# safetensors name -> (NumPy name or None, torch name or None, bytes an element)
DTYPES: dict[str, tuple[str | None, str | None, int]] = {
    "BOOL": ("bool", "bool", 1),
    "U8": ("uint8", "uint8", 1),
    "I8": ("int8", "int8", 1),
    "F8_E4M3": (None, "float8_e4m3fn", 1),
    "F8_E5M2": (None, "float8_e5m2", 1),
    "U16": ("uint16", "uint16", 2),
    "I16": ("int16", "int16", 2),
    "F16": ("float16", "float16", 2),
    "BF16": (None, "bfloat16", 2),
    "U32": ("uint32", "uint32", 4),
    "I32": ("int32", "int32", 4),
    "F32": ("float32", "float32", 4),
    "U64": ("uint64", "uint64", 8),
    "I64": ("int64", "int64", 8),
    "F64": ("float64", "float64", 8),
    "C64": ("complex64", "complex64", 8),
}
_FROM_NUMPY = {numpy: name for name, (numpy, _, _) in DTYPES.items() if numpy}
_FROM_TORCH = {torch: name for name, (_, torch, _) in DTYPES.items() if torch}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named array of a safetensors file: its dtype there, its shape and its bytes (C order)."""

    dtype: str
    shape: tuple[int, ...]
    data: Any  # a buffer of exactly the bytes of the array


def is_torch(value: Any) -> bool:
    """Whether the value is a torch tensor, without importing torch to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def from_torch(value: Any, where: str = "tensor") -> Tensor:
    """The bytes of a torch tensor, brought to the CPU."""
    import torch

    name = _FROM_TORCH.get(str(value.dtype).removeprefix("torch."))
    if name is None or value.layout is not torch.strided or value.is_quantized:
        raise TypeError(
            f"{where} is a {value.dtype} {value.layout} tensor, which a checkpoint cannot hold"
        )
    flat = value.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    data = flat.view(torch.uint8).numpy() if flat.numel() else b""
    return Tensor(name, tuple(value.shape), data)


def from_numpy(value: Any, where: str = "array") -> Tensor:
    """The bytes of a NumPy array or scalar."""
    name = _FROM_NUMPY.get(value.dtype.name) if value.dtype.isnative else None
    if name is None:
        raise TypeError(
            f"{where} is a NumPy array of {value.dtype}, which a checkpoint cannot hold"
        )
    flat = np.ascontiguousarray(value).reshape(-1)
    return Tensor(name, tuple(value.shape), flat.view(np.uint8) if flat.size else b"")


def to_numpy(tensor: Tensor, where: str) -> Any:
    """A writable NumPy array over the tensor's bytes (not copied when they are writable)."""
    numpy = DTYPES[tensor.dtype][0]
    if numpy is None:
        raise CheckpointError(f"{where}: NumPy has no {tensor.dtype}")
    data = tensor.data if len(tensor.data) else bytearray()
    return np.frombuffer(data, dtype=numpy).reshape(tensor.shape)


def to_torch(tensor: Tensor, where: str) -> Any:
    """A torch tensor over the tensor's bytes (not copied)."""
    import torch

    name = DTYPES[tensor.dtype][1]
    if name is None or not hasattr(torch, name):
        raise CheckpointError(f"{where}: this torch has no {tensor.dtype}")
    dtype = getattr(torch, name)
    if not len(tensor.data):
        return torch.empty(tensor.shape, dtype=dtype)
    return torch.frombuffer(tensor.data, dtype=dtype).reshape(tensor.shape)


class Encoder:
    """Turns one state into a JSON skeleton, collecting the tensors by name on the way."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    def _store(self, tensor: Tensor, path: tuple[str, ...]) -> str:
        base = ".".join(path) or "value"
        name, number = base, 2
        while name in self.tensors or name == "__metadata__":
            name, number = f"{base}#{number}", number + 1
        self.tensors[name] = tensor
        return name

    def encode(self, value: Any, where: str, path: tuple[str, ...], depth: int = 0) -> Any:
        """The skeleton of `value`; `where` names it in errors, `path` names its tensors."""
        if depth > MAX_DEPTH:
            raise TypeError(f"{where} is nested more than {MAX_DEPTH} levels deep")
        kind = type(value)
        if value is None or kind is bool or kind is int or kind is str:
            return value
        if kind is float:
            return value if math.isfinite(value) else {"$float": struct.pack(">d", value).hex()}
        if kind is bytes:
            return {"$bytes": self._store(Tensor("U8", (len(value),), value), path)}
        if isinstance(value, np.generic):
            return {"$scalar": self._store(from_numpy(np.asarray(value), where), path)}
        if kind is np.ndarray:
            return {"$array": self._store(from_numpy(value, where), path)}
        if is_torch(value):
            return {"$tensor": self._store(from_torch(value, where), path)}
        if (
            kind is list
            or kind is tuple
            or (kind.__name__ == "Size" and kind.__module__ == "torch")
        ):
            items = [
                self.encode(item, f"{where}[{i}]", (*path, str(i)), depth + 1)
                for i, item in enumerate(value)
            ]
            return items if kind is list else {"$tuple": items}
        if isinstance(value, dict):
            return self._encode_dict(value, where, path, depth)
        raise TypeError(
            f"{where} is a {kind.__module__}.{kind.__qualname__}; a checkpoint holds only tensors, "
            "arrays, numbers, text, bytes, None and dicts, lists and tuples of them"
        )

    def _encode_dict(
        self, value: dict[Any, Any], where: str, path: tuple[str, ...], depth: int
    ) -> Any:
        pairs = [
            (
                self.encode(key, f"a key of {where}", (*path, "key"), depth + 1),
                self.encode(item, f"{where}[{key!r}]", (*path, str(key)), depth + 1),
            )
            for key, item in value.items()
        ]
        if all(type(key) is str and not key.startswith("$") for key in value):
            return dict(pairs)
        return {"$dict": [[key, item] for key, item in pairs]}


class Decoder:
    """Turns a skeleton back into a state; every tensor must be used exactly once."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = dict(tensors)
        self._marks: dict[str, Callable[[Any, str, int], Any]] = {
            "$tensor": lambda body, where, _: to_torch(self._take(body, where), where),
            "$array": lambda body, where, _: to_numpy(self._take(body, where), where),
            "$scalar": lambda body, where, _: to_numpy(self._take(body, where), where)[()],
            "$bytes": lambda body, where, _: bytes(self._take(body, where).data),
            "$tuple": self._tuple,
            "$dict": self._dict,
            "$float": self._float,
        }

    def _take(self, name: Any, where: str) -> Tensor:
        tensor = self._tensors.pop(name, None) if isinstance(name, str) else None
        if tensor is None:
            raise CheckpointError(
                f"{where} names a tensor that is not there or already used: {name!r:.80}"
            )
        return tensor

    def _tuple(self, body: Any, where: str, depth: int) -> Any:
        if not isinstance(body, list):
            raise CheckpointError(f"{where} is a malformed tuple")
        return tuple(self.decode(item, where, depth + 1) for item in body)

    def _dict(self, body: Any, where: str, depth: int) -> Any:
        found: dict[Any, Any] = {}
        if not isinstance(body, list):
            raise CheckpointError(f"{where} is a malformed dict")
        for pair in body:
            if not isinstance(pair, list) or len(pair) != 2:
                raise CheckpointError(f"{where} is a malformed dict")
            key = self.decode(pair[0], where, depth + 1)
            try:
                if key in found:
                    raise CheckpointError(f"{where} holds a key twice")
                found[key] = self.decode(pair[1], where, depth + 1)
            except (TypeError, ValueError, RuntimeError) as error:
                raise CheckpointError(f"{where} has a key that cannot be one") from error
        return found

    def _float(self, body: Any, where: str, _: int) -> float:
        try:
            (value,) = struct.unpack(">d", bytes.fromhex(body))
        except (TypeError, ValueError, struct.error) as error:
            raise CheckpointError(f"{where} is a malformed number") from error
        return float(value)

    def decode(self, value: Any, where: str, depth: int = 0) -> Any:
        """The state that a skeleton stands for."""
        if depth > MAX_DEPTH:
            raise CheckpointError(f"{where} is nested more than {MAX_DEPTH} levels deep")
        if isinstance(value, dict):
            marks = self._marks.keys() & value.keys()
            if not marks:
                if any(key.startswith("$") for key in value):
                    raise CheckpointError(f"{where} holds an unknown mark")
                return {key: self.decode(item, where, depth + 1) for key, item in value.items()}
            if len(value) != 1:
                raise CheckpointError(f"{where} mixes a mark with other keys")
            (mark,) = marks
            return self._marks[mark](value[mark], where, depth)
        if isinstance(value, list):
            return [self.decode(item, where, depth + 1) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            raise CheckpointError(f"{where} holds a number out of range")
        return value

    def unused(self) -> list[str]:
        """Names of tensors that the skeleton did not mention."""
        return sorted(self._tensors)
