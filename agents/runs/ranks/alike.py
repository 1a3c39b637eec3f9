"""What runs here: versions of the packages, the commit and a digest of playout's own code.

A run's record holds the versions; the ranks of a job must have both alike.
"""

import hashlib
import platform
import subprocess
import sys
from pathlib import Path

import playout


def versions() -> dict[str, str]:
    """Versions of what is loaded already; importing torch only to ask would cost seconds."""
    found = {"playout": playout.__version__, "python": platform.python_version()}
    for name in ("numpy", "torch", "gymnasium", "tokenizers"):
        version = getattr(sys.modules.get(name), "__version__", None)
        if version:
            found[name] = str(version)
    return found


def code_digest() -> str:
    """A hexadecimal sha256 of playout's Python files.

    Compiled modules may differ, as machines do.
    """
    root = Path(playout.__file__).parent
    found = hashlib.sha256()
    for package in ("envs", "mcts", "agents", "rlhf"):
        for path in sorted((root / package).rglob("*.py")):
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
