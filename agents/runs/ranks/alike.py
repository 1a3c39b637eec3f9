"""What runs here: versions of the packages, the commit, digests of playout's code and a person's.

A run's record holds versions and commit; the ranks of a job must have versions and code alike.
"""

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import playout
from playout.own_code import own_sources

_CODE = (".py", ".h", ".toml")


def versions() -> dict[str, str]:
    """Versions of what is loaded already; importing torch only to ask would cost seconds."""
    found = {"playout": playout.__version__, "python": platform.python_version()}
    for name in ("numpy", "torch", "gymnasium", "tokenizers"):
        version = getattr(sys.modules.get(name), "__version__", None)
        if version:
            found[name] = str(version)
    return found


def code_digest() -> str:
    """A hexadecimal sha256 of what playout runs: its Python files, headers and presets.

    Compiled modules may differ, as machines do; what comes of that is noticed when it is saved.
    """
    root = Path(playout.__file__).parent
    files = [path for path in root.glob("*.py") if path.name != "setup.py"]  # that is not installed
    for package in ("envs", "mcts", "agents", "rlhf"):
        files += [path for path in (root / package).rglob("*") if path.suffix in _CODE]
    return _digest_of(root, files)


def own_code_digests(settings: Mapping[str, object]) -> dict[str, str]:
    """As `code_digest`, for each module of the person's own that settings name or that is trusted.

    Args:
        settings: A run's, in nested tables.
    """
    return {
        module: _digest_of(Path(os.path.commonpath([path.parent for path in files])), files)
        for module, files in own_sources(settings).items()
    }


def _digest_of(root: Path, files: Iterable[Path]) -> str:
    """A hexadecimal sha256 of files and of their names below a folder."""
    found = hashlib.sha256()
    for path in sorted(files):
        found.update(f"{path.relative_to(root)}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def git_commit() -> str | None:
    """The commit of the checkout that this package runs from, if it is one."""
    root = Path(playout.__file__).parent
    if not (root / ".git").exists():
        return None
    try:
        head = (root / ".git" / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        reference = root / ".git" / head[5:]
        if reference.exists():
            return reference.read_text().strip()
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=5, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
