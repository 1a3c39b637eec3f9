"""Which process of how many this is, and which part of a whole is its own.

All of it follows from the variables that torchrun sets. Leaves out everything that needs the
others (messages.py).
"""

import os

from playout.errors import ConfigError


def _number(name: str, default: int) -> int:
    text = os.environ.get(name)
    if text is None:
        return default
    try:
        found = int(text)
    except ValueError:
        found = -1
    if found < 0:
        raise ConfigError(f"the variable {name} must be a whole number, not {text!r}")
    return found


def world() -> int:
    """How many processes the job has; 1 without torchrun."""
    # A cluster may set WORLD_SIZE for programs of another kind; a job of ours has all four.
    if any(name not in os.environ for name in ("RANK", "MASTER_ADDR", "MASTER_PORT")):
        return 1
    return max(1, _number("WORLD_SIZE", 1))


def rank() -> int:
    """The number of this process in the job, from 0 on."""
    if (count := world()) == 1:
        return 0
    found = _number("RANK", 0)
    if found >= count:
        raise ConfigError(f"RANK is {found}, but WORLD_SIZE only {count}")
    return found


def is_first() -> bool:
    """Whether this is rank 0, which writes the run, shows progress and rates."""
    return rank() == 0


def local_rank() -> int:
    """The number of this process on its machine, from 0 on: which card it computes on."""
    return _number("LOCAL_RANK", 0) if world() > 1 else 0


def local_world() -> int:
    """How many processes of the job are on this machine and divide its cores."""
    return max(1, _number("LOCAL_WORLD_SIZE", 1)) if world() > 1 else 1


def on_one_machine() -> bool:
    """Whether all processes are on this machine, so that nothing has to be heard beyond it."""
    return world() == local_world()


def own_restarts() -> int:
    """How many times torchrun says it has begun this machine's ranks again (`--max-restarts`).

    Machines may count differently: where another one comes or goes, all begin again, and nobody
    counts that. What the job has agreed on is `restarts` (messages.py).
    """
    return _number("TORCHELASTIC_RESTART_COUNT", 0) if world() > 1 else 0


def job_name() -> str:
    """What the job is called (torchrun's `--rdzv-id`) however often it begins; "" for no name."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "") if world() > 1 else ""
    return "" if name == "none" else name  # what torchrun says where nobody named it


def may_restart() -> bool:
    """Whether torchrun begins the job again when it fails."""
    return _number("TORCHELASTIC_MAX_RESTARTS", 0) > 0 if world() > 1 else False


def share(count: int, what: str) -> range:
    """Of `count` things, numbered through the whole job, those of this rank.

    Parts are consecutive, in order of rank; their lengths differ by one at most.

    Args:
        count: How many the whole job has.
        what: What they are, in the plural, for the error: "environments".

    Raises:
        ConfigError: There are fewer than ranks.
    """
    ranks = world()
    if ranks == 1:
        return range(count)
    if count < ranks:
        named = what.removesuffix("s") if count == 1 else what
        raise ConfigError(f"{ranks} ranks but only {count} {named}: each needs at least one")
    return range(count * rank() // ranks, count * (rank() + 1) // ranks)


def under_torchrun(command: str) -> str:
    """The line that starts a command with as many ranks as this job has, where one line does.

    Args:
        command: For one process: "playout ppo --resume RUN".
    """
    if world() == 1 or not on_one_machine():
        return command
    return f"torchrun --nproc-per-node {world()} -m -- {command}"
