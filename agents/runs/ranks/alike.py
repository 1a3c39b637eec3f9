"""What runs here: versions of the packages, and a digest of playout's own code.

A run's record holds the versions; the ranks of a job must have both alike.
"""

import hashlib
import platform
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
