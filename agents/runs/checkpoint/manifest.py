"""The manifest of a model folder: sizes and sha256 of its files, so that a flipped byte is refused.

It lies beside files that other programs read and write, so that a folder without one is taken as it
is, and files that it does not name are nobody's business. Checkpoints have a stricter one of their
own (folder.py).
"""

from pathlib import Path

from playout.agents.runs.checkpoint.durable_io import (
    check_seal,
    encode_json,
    hash_file,
    read_json,
    replace_file,
    seal,
)
from playout.errors import CheckpointError

__all__ = ["MANIFEST", "check_manifest", "write_manifest"]

FORMAT = "playout.model.v1"
MANIFEST = "MANIFEST.json"


def write_manifest(folder: Path) -> None:
    """Note size and digest of every file that lies in `folder` now."""
    files = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name != MANIFEST:
            size, digest = hash_file(path)
            files[path.name] = {"bytes": size, "sha256": digest}
    value = seal({"format": FORMAT, "files": files})
    replace_file(folder.absolute() / MANIFEST, encode_json(value))


def check_manifest(folder: Path) -> bool:
    """Compare every file with the manifest; False if there is none.

    Raises:
        CheckpointError: a file is missing or differs, or the manifest itself does.
    """
    path = folder / MANIFEST
    if not path.exists():
        return False
    value = check_seal(read_json(path), path, FORMAT)
    for name, entry in value["files"].items():
        file = folder / name
        if not file.is_file():
            raise CheckpointError(f"{file} is missing; {path} names it")
        # Where a file is kept elsewhere and linked to, what it holds is what counts.
        if hash_file(file.resolve()) != (entry["bytes"], entry["sha256"]):
            raise CheckpointError(
                f"{file} is damaged or was changed: its sha256 is not that in {path}; if you "
                f"changed it, delete {MANIFEST}"
            )
    return True
