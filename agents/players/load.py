"""What to call for a run of a kind: its player, and its part of `eval`, `play` and `export`.

Tables of names, resolved when they are needed, so that looking at a run costs no torch. Leaves out
all of the work.
"""

from importlib import import_module
from os import PathLike
from typing import Any

from playout.agents.runs.directory import RunDir
from playout.errors import RunError

# Kind, or the part before its dot -> "module:function", called as function(run, which=...).
PLAYERS = {
    "alphazero": "playout.agents.alphazero.player:load",
    "ppo": "playout.agents.ppo.player:load",
    "rlhf": "playout.rlhf.loading:load",
}
# (kind, verb) -> "module:function", called as function(run, command); returns an exit code.
VERBS = {
    ("alphazero", "eval"): "playout.agents.alphazero.verbs:evaluate",
    ("alphazero", "play"): "playout.agents.alphazero.verbs:play",
    ("alphazero", "export"): "playout.agents.alphazero.verbs:export",
    ("ppo", "eval"): "playout.agents.ppo.verbs:evaluate",
    ("ppo", "play"): "playout.agents.ppo.verbs:play",
    ("ppo", "export"): "playout.agents.ppo.verbs:export",
    ("rlhf", "eval"): "playout.rlhf.commands.verbs:evaluate",
    ("rlhf", "play"): "playout.rlhf.commands.verbs:play",
    ("rlhf", "export"): "playout.rlhf.commands.verbs:export",
}


def _resolve(target: str) -> Any:
    module, _, function = target.partition(":")
    return getattr(import_module(module), function)


def _family(kind: str) -> str:
    return kind.split(".", 1)[0]


def load(path: str | PathLike[str], which: str | int = "best") -> Any:
    """The policy that a run has learned, ready to act.

    Args:
        path: a run directory.
        which: "best", "latest" or the number of a checkpoint.

    Returns:
        An object with `.act(batch) -> actions`; for games also a Player.

    Raises:
        RunError: not a run, or nothing to load in it. CheckpointError: it is damaged.
    """
    run = RunDir.open(path)
    if _family(run.kind) not in PLAYERS:
        raise RunError(f"{run.path} is a run of kind {run.kind}, which has no player")
    return _resolve(PLAYERS[_family(run.kind)])(run, which=which)


def verb(run: RunDir, name: str) -> Any:
    """The function that does `name` ("eval", "play", "export") for a run."""
    target = VERBS.get((run.kind, name)) or VERBS.get((_family(run.kind), name))
    if target is None:
        raise RunError(f"{run.path} is a run of kind {run.kind}, which has no {name}")
    return _resolve(target)
