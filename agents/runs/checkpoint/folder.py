"""One checkpoint: a folder of safetensors files, state.json and MANIFEST.json, whole or absent.

It is written in a folder aside, every file and the folder fsynced, then renamed; the manifest holds
sizes and sha256 of every file and a digest of itself. Loading checks all of that before anything is
used. What the ranks of a job have each for themselves are parts: a state more for each, in files
called rank-0001.*. Leaves out which checkpoints exist and which are kept (history.py).
"""

import hashlib
import os
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import playout
from playout.agents.runs.checkpoint import codec, durable_io, tensor_file
from playout.errors import CheckpointError

FORMAT = "playout.checkpoint.v1"
MANIFEST = "MANIFEST.json"
SKELETON = "state.json"
_PART = re.compile(r"rank-\d{4,6}\.")
_FILE_NAME = re.compile(rf"({_PART.pattern})?([A-Za-z0-9_-]{{1,64}}\.safetensors|state\.json)")
_KEY = re.compile(r"(?!rank-\d)[A-Za-z0-9_-]{1,64}")
_MAX_MANIFEST_BYTES = 8 << 20
_MAX_RANKS = 1 << 16
Files = dict[str, tuple[int, str]]  # name -> (bytes, sha256)


class Unchanging(dict[str, Any]):
    """A part of a state, under a key of the top level, that is the same wherever it has that key.

    The next checkpoint of the run shares its file instead of writing it again.
    """


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint on disk, as its manifest describes it."""

    step: int
    metric: float | None
    info: dict[str, Any]
    bytes: int
    created: float
    path: Path
    files: Files
    ranks: int = 1  # how many wrote it, each its part


def name_of(step: int) -> str:
    """The folder name of a step: six digits or more, so that names sort as numbers do."""
    return f"{step:06d}"


def step_of(name: str) -> int | None:
    """The step of a folder name, or None if it is not the name of a complete checkpoint."""
    return int(name) if re.fullmatch(r"\d{6,18}", name) and name_of(int(name)) == name else None


def part_of(rank: int) -> str:
    """What the names of a rank's own files begin with."""
    return f"rank-{rank:04d}."


def encode(state: dict[str, Any]) -> tuple[bytes, dict[str, dict[str, codec.Tensor]]]:
    """The skeleton as JSON, and the tensors of each safetensors file by its name without suffix."""
    if not isinstance(state, dict) or not all(type(key) is str for key in state):
        raise TypeError("a state must be a dict with text keys")
    groups: dict[str, codec.Encoder] = {}
    skeleton = {}
    for key, value in state.items():
        group = key if _KEY.fullmatch(key) else "other"
        encoder = groups.setdefault(group, codec.Encoder())
        start = () if group == key else (key,)
        skeleton[key] = encoder.encode(value, f"state[{key!r}]", start)
    text = durable_io.encode_json(skeleton)
    if len(text) > durable_io.MAX_JSON_BYTES:
        raise ValueError("the state holds too many numbers outside tensors; keep them in arrays")
    return text, {name: encoder.tensors for name, encoder in groups.items() if encoder.tensors}


def digest(state: dict[str, Any]) -> str:
    """A hexadecimal sha256 of a whole state: equal states have equal ones."""
    text, groups = encode(state)
    found = hashlib.sha256(text)
    for name, tensors in sorted(groups.items()):
        for key, tensor in sorted(tensors.items()):
            found.update(f"{name}.{key} {tensor.dtype} {tensor.shape}".encode())
            found.update(tensor.data)
    return found.hexdigest()


def write_state(
    folder: Path, state: dict[str, Any], *, part: str = "", before: Checkpoint | None = None
) -> Files:
    """Write a state, or a rank's part of it, into the folder of a checkpoint to be.

    What is `Unchanging` and stands in the checkpoint `before` as well is linked to its file there.

    Returns:
        The files that it is in, for the manifest.
    """
    text, groups = encode(state)
    shared = {key for key, value in state.items() if isinstance(value, Unchanging)}
    written = {part + SKELETON: durable_io.write_new(folder / (part + SKELETON), [text])}
    for name, tensors in groups.items():
        path = folder / f"{part}{name}.safetensors"
        if before is not None and name in shared and _linked(before, path):
            written[path.name] = before.files[path.name]
            continue
        chunks = tensor_file.chunks(tensors, {"format": "pt"})
        written[path.name] = durable_io.write_new(path, chunks)
    return written


def write_manifest(
    folder: Path,
    files: Files,
    *,
    step: int,
    run_id: str,
    metric: float | None,
    info: dict[str, Any],
    ranks: int = 1,
) -> None:
    """Complete a checkpoint: its manifest, and everything durable (the caller renames it)."""
    manifest = {
        "format": FORMAT,
        "playout": playout.__version__,
        "run": run_id,
        "step": step,
        "metric": metric,
        "created": time.time(),
        "info": info,
        **({"ranks": ranks} if ranks > 1 else {}),
        "files": {
            name: {"bytes": size, "sha256": sha} for name, (size, sha) in sorted(files.items())
        },
    }
    durable_io.write_new(folder / MANIFEST, [durable_io.encode_json(durable_io.seal(manifest))])
    durable_io.fsync_folder(folder)


def _linked(before: Checkpoint, path: Path) -> bool:
    """Links a file of an earlier checkpoint to `path`, if it is there in its full size."""
    size, _ = before.files.get(path.name, (-1, ""))
    source = before.path / path.name
    try:
        if source.is_symlink() or source.stat().st_size != size:
            return False
        os.link(source, path, follow_symlinks=False)
    except OSError:  # a file system without links, or too many of them: written anew
        return False
    return True


def _number(value: Any) -> bool:
    return type(value) in (int, float)


def read_manifest(folder: Path, run_id: str | None = None) -> Checkpoint:
    """Describe a checkpoint without reading its tensors; checks the manifest and the name.

    Raises:
        CheckpointError: it is damaged, was made by another run, or has another step than its name
            says.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise CheckpointError(f"{folder} is not a checkpoint folder")
    path = folder / MANIFEST
    data = durable_io.read_file(path, _MAX_MANIFEST_BYTES)
    value = durable_io.check_seal(durable_io.parse_json(data, path), path, FORMAT)
    listing, metric, ranks = value.get("files"), value.get("metric"), value.get("ranks", 1)
    well_formed = (
        type(value.get("step")) is int
        and (metric is None or _number(metric))
        and _number(value.get("created"))
        and isinstance(value.get("info"), dict)
        and isinstance(listing, dict)
        and SKELETON in listing
        and type(ranks) is int
        and 1 <= ranks <= _MAX_RANKS
    )
    if not well_formed:
        raise CheckpointError(f"{path} is malformed")
    found = {}
    for name, entry in value["files"].items():
        if not _FILE_NAME.fullmatch(name):
            raise CheckpointError(
                f"{path} names a file that a checkpoint cannot hold: {name!r:.80}"
            )
        size = entry.get("bytes") if isinstance(entry, dict) else None
        digest = entry.get("sha256") if isinstance(entry, dict) else None
        if type(size) is not int or size < 0 or type(digest) is not str:
            raise CheckpointError(f"{path} is malformed")
        found[name] = (size, digest)
    if run_id is not None and value.get("run") != run_id:
        raise CheckpointError(
            f"{folder} was made by another run; a run loads only its own checkpoints"
        )
    if step_of(folder.name) is not None and step_of(folder.name) != value["step"]:
        raise CheckpointError(f"{folder} holds step {value['step']}: it was renamed or mixed up")
    total = sum(size for size, _ in found.values()) + len(data)
    return Checkpoint(
        value["step"], metric, value["info"], total, value["created"], folder, found, ranks
    )


def _read(checkpoint: Checkpoint, name: str, max_bytes: int) -> bytearray:
    size, digest = checkpoint.files[name]
    data = durable_io.read_file(checkpoint.path / name, max_bytes, exact=size)
    if durable_io.sha256(data) != digest:
        raise CheckpointError(
            f"{checkpoint.path / name} is damaged: its sha256 is not the manifest's"
        )
    return data


def load(
    checkpoint: Checkpoint, only: Collection[str] | None = None, *, part: str = ""
) -> dict[str, Any]:
    """The state of a checkpoint, or what of it is under the top-level keys `only`.

    Every byte that is used is checked against the manifest first. Tensors come back on the CPU.

    Args:
        checkpoint: As its manifest describes it.
        only: Keys of the top level; None for all.
        part: A rank's own state instead (see `part_of`); empty if that rank had none.
    """
    path = checkpoint.path / (part + SKELETON)
    if part and path.name not in checkpoint.files:
        return {}
    text = _read(checkpoint, path.name, durable_io.MAX_JSON_BYTES)
    skeleton = durable_io.parse_json(text, path)
    if not isinstance(skeleton, dict):
        raise CheckpointError(f"{path} is malformed")
    keys = [key for key in skeleton if only is None or key in only]
    if only is not None and (missing := sorted(set(only) - set(keys))):
        raise CheckpointError(f"{checkpoint.path} has no {', '.join(missing)}")
    state: dict[str, Any] = {}
    decoders: dict[str, codec.Decoder] = {}
    for key in keys:
        group = key if _KEY.fullmatch(key) else "other"
        if group not in decoders:
            name = f"{part}{group}.safetensors"
            tensors = {}
            if name in checkpoint.files:
                data = _read(checkpoint, name, tensor_file.MAX_TENSOR_BYTES)
                tensors = tensor_file.parse(data, checkpoint.path / name)
            decoders[group] = codec.Decoder(tensors)
        state[key] = decoders[group].decode(skeleton[key], f"{path}: {key}")
    groups = {key if _KEY.fullmatch(key) else "other" for key in skeleton}
    named = {part + SKELETON, *(f"{part}{group}.safetensors" for group in groups)}
    surplus = [name for name in checkpoint.files if _is_of(name, part) and name not in named]
    if only is None and (surplus or any(decoder.unused() for decoder in decoders.values())):
        raise CheckpointError(f"{checkpoint.path} holds tensors that its state does not mention")
    return state


def _is_of(name: str, part: str) -> bool:
    """Whether a file belongs to a rank's part, or with "" to what all have in common."""
    return name.startswith(part) if part else _PART.match(name) is None


def verify(checkpoint: Checkpoint) -> None:
    """Check every byte without building the state (no torch needed)."""
    for name, (size, digest) in checkpoint.files.items():
        if durable_io.hash_file(checkpoint.path / name) != (size, digest):
            raise CheckpointError(
                f"{checkpoint.path / name} is damaged: its sha256 is not the manifest's"
            )


def newest_first(folder: Path) -> Iterator[tuple[int, Path]]:
    """Steps and folders of the complete checkpoints below `folder`, by name only, newest first."""
    if folder.is_dir() and not folder.is_symlink():
        found = [
            (step, path) for path in folder.iterdir() if (step := step_of(path.name)) is not None
        ]
        yield from sorted(found, reverse=True)
