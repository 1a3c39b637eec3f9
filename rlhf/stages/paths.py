"""Paths in the settings of a stage's run: written whole, and looked for again where the run is now.

A run is used from any folder, and may be moved or given away with the runs that stand beside it.
Costs no torch. Whether what is found is still the same model says bases.py.
"""

import os
from pathlib import Path
from typing import Any

from playout.agents.runs.directory import RunDir
from playout.errors import RunError

__all__ = ["beside", "located", "whole"]

# Settings of stages that may be a path; reward and corpus hold several between commas.
_PATHS = frozenset(
    {
        *("base", "teacher", "reward", "policy", "from_run", "tokenizer"),
        *("data", "text", "texts", "corpus", "like", "prompts", "demonstrations"),
        *("preferences", "rated", "labelled", "reports"),
    }
)


def whole(name: str, value: Any) -> Any:
    """A setting as a run keeps it: what is a file or folder by its whole path.

    Args:
        name: Of the setting.
        value: As JSON holds it.
    """
    if name not in _PATHS or not value:
        return value
    if isinstance(value, list):
        return [whole(name, one) for one in value]
    if value in _words():
        return value
    if os.path.exists(value):
        return os.path.realpath(value)
    if name not in ("reward", "corpus"):
        return value
    parts = [_of_several(name, part.strip()) for part in value.split(",")]
    return value if any("," in part for part in parts) else ",".join(parts)


def _of_several(name: str, part: str) -> str:
    """One of several between commas; those of a corpus have a weight behind them."""
    place, colon, weight = part.rpartition(":") if name == "corpus" else (part, "", "")
    return f"{os.path.realpath(place)}{colon}{weight}" if os.path.exists(place) else part


def _words() -> frozenset[str]:
    """What names data that come with playout, whatever else is called so here."""
    from playout.rlhf.data.corpora import RATED, TEXTS, VOTES

    return frozenset({"auto", "real", "synthetic", *RATED, *TEXTS, *VOTES})


def beside(run: RunDir, path: str) -> str:
    """What a run names: there, or where both were moved, the run of that name beside it."""
    near = run.path.parent / Path(path).name
    return str(near) if path and not os.path.exists(path) and RunDir.is_run(near) else path


def located(run: RunDir, name: str, value: Any, *, needed: bool) -> Any:
    """A setting of a run that goes on: paths where they are now.

    Args:
        run: The run.
        name: Of the setting.
        value: As the run keeps it.
        needed: Refuse what is not there.

    Raises:
        RunError: It is not there; the message says what to do.
    """
    if name not in _PATHS or not isinstance(value, str):
        return value
    if os.path.exists(value) or (name in ("reward", "corpus") and "," in value):
        return value
    found = beside(run, value)
    # A tokenizer is in the run by now; stages that are finished need no base of the pipeline's.
    needed = needed and name != "tokenizer" and run.kind not in ("rlhf.all", "rlhf.games")
    if needed and found == value and os.sep in value and ":" not in value:
        flag = "from" if name == "from_run" else name.replace("_", "-")
        where = (
            "put it back there (a link will do)"
            if os.path.isabs(value)
            else ("go on in the folder where the run was begun")
        )
        raise RunError(
            f"{run.path} was begun with --{flag} {value}, which is not there: {where}, or begin a "
            "new run"
        )
    return found
