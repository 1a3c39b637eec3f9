"""The user's cache folder, for what takes long to fetch or to make.

It holds downloads and models of names that are fetched, and solved positions; all of it may be
deleted at will. Left out: what lies in it, and how it is checked.
"""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$PLAYOUT_CACHE, or playout/ in the user's cache folder."""
    own = os.environ.get("PLAYOUT_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "playout"
