"""The processes of a job: who this one is, what it works on, what all of them say together.

`torchrun` (or whatever sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT) starts them; a trainer
asks here and knows nothing else of them. With one process everything returns at once and nothing is
imported. What crosses between processes is numbers, JSON and bytes, never an object.
"""

from playout.agents.runs.ranks.merging import merge_metrics
from playout.agents.runs.ranks.messages import (
    add_,
    agree,
    by_first,
    everybody,
    first,
    largest,
    restarts,
    seconds_waited,
    smallest,
    start,
    sums,
)
from playout.agents.runs.ranks.place import (
    is_first,
    job_name,
    local_rank,
    local_world,
    may_restart,
    on_one_machine,
    rank,
    share,
    under_torchrun,
    world,
)
from playout.agents.runs.ranks.watch import may_speak

__all__ = [
    "add_",
    "agree",
    "by_first",
    "everybody",
    "first",
    "is_first",
    "job_name",
    "largest",
    "local_rank",
    "local_world",
    "may_restart",
    "may_speak",
    "merge_metrics",
    "on_one_machine",
    "rank",
    "restarts",
    "seconds_waited",
    "share",
    "smallest",
    "start",
    "sums",
    "under_torchrun",
    "world",
]
