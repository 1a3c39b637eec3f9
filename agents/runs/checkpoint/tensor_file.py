"""The safetensors format, written in one pass with its hash and read without copying.

The format is the public one (8 bytes of header length, a JSON header, the tensors back to back), so
`safetensors` and its users read these files; the tests hold this reader against that library. Its
own writer is no faster (1 GiB with its hash: 1.2 s of processor time each), and the file would have
to be read again for the hash and opened again to be synced. Refuses what the format refuses: holes,
overlaps, repeated keys, huge headers, unknown dtypes, sizes that do not match shapes.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from playout.agents.runs.checkpoint.codec import DTYPES, Tensor, from_torch
from playout.agents.runs.checkpoint.durable_io import parse_json, replace_file
from playout.errors import CheckpointError

MAX_HEADER_BYTES = 16 << 20
MAX_TENSOR_BYTES = 64 << 30


def chunks(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Iterator[Any]:
    """The pieces of the file in order: the header, then each tensor's buffer."""
    # Wide elements first, as the library does: then every tensor is aligned for its own type.
    names = sorted(tensors, key=lambda name: (-DTYPES[tensors[name].dtype][2], name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name in names:
        tensor = tensors[name]
        size = math.prod(tensor.shape) * DTYPES[tensor.dtype][2]
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES or offset > MAX_TENSOR_BYTES:
        raise ValueError(f"{len(names)} tensors of {offset} bytes are too much for one file")
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        if len(tensors[name].data):
            yield tensors[name].data


def save(path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Write torch tensors for other programs: the file appears whole, readable as umask says.

    The library's `save_file` lets nobody but the owner read its files.
    """
    found = {name: from_torch(tensor, name) for name, tensor in tensors.items()}
    replace_file(path.absolute(), *chunks(found, metadata))


def _entry(entry: Any, path: Path) -> tuple[str, tuple[int, ...], int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{path} has a malformed tensor entry")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CheckpointError(
            f"{path} holds a tensor of a type that is not accepted: {dtype!r:.40}"
        )
    numbers = [shape, offsets]
    if not all(
        isinstance(part, list) and all(type(n) is int and n >= 0 for n in part) for part in numbers
    ):
        raise CheckpointError(f"{path} has a malformed tensor entry")
    if len(offsets) != 2 or len(shape) > 32:
        raise CheckpointError(f"{path} has a malformed tensor entry")
    start, end = offsets
    # A zero in the shape must not hide absurd other sizes from NumPy and torch.
    if any(n > MAX_TENSOR_BYTES for n in shape) or math.prod(n or 1 for n in shape) > 1 << 60:
        raise CheckpointError(f"{path} holds a tensor with an impossible shape")
    if end - start != math.prod(shape) * DTYPES[dtype][2]:
        raise CheckpointError(f"{path} holds a tensor whose size does not match its shape")
    return dtype, tuple(shape), start, end


def parse(data: bytearray, path: Path) -> dict[str, Tensor]:
    """The tensors of a whole file; they share its memory. `path` is only named in errors."""
    if len(data) < 8:
        raise CheckpointError(f"{path} is too short to be a safetensors file")
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER_BYTES or length > len(data) - 8:
        raise CheckpointError(
            f"{path} claims a header of {length} bytes: it is damaged or not a safetensors file"
        )
    if data[8:9] != b"{":
        raise CheckpointError(f"{path} is not a safetensors file")
    header = parse_json(data[8 : 8 + length], path)
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} is not a safetensors file")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(type(text) is str for text in metadata.values()):
        raise CheckpointError(f"{path} has malformed metadata")
    entries = sorted(
        ((*_entry(entry, path), name) for name, entry in header.items()),
        key=lambda entry: (entry[2], entry[3]),
    )
    body = memoryview(data)[8 + length :]
    position = 0
    found = {}
    for dtype, shape, start, end, name in entries:
        if start != position:
            raise CheckpointError(f"{path} has tensors that overlap or leave holes")
        position = end
        if dtype == "BOOL" and end > start and bytes(body[start:end]).strip(b"\0\1"):
            raise CheckpointError(f"{path} holds truth values other than 0 and 1")
        found[name] = Tensor(dtype, shape, body[start:end])
    if position != len(body):
        raise CheckpointError(f"{path} has {len(body) - position} bytes that belong to no tensor")
    return found
