"""How many trees, groups and threads suit the cores and the device: one rule, each a setting.

On a processor a group of trees is a thread that searches and answers in turn: as many groups as
cores, and two at least. Together they hold 256 trees, by groups of 32 or more, which keeps batches
near the size at which a core answers fastest; measured on two cores, elsewhere a guess. On an
accelerator two groups take turns, one searching with half of the cores while the other's batch is
computed, and batches are as wide as the trees are many; that is a guess. Groups, trees and shards
are of all ranks together, cores of each. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from playout.agents.runs import ranks
from playout.agents.runs.devices import cores

MIN_GROUPS, MAX_GROUPS = 2, 16
CPU_TREES, MIN_CPU_TREES = 256, 32  # of all groups, and of one
DEVICE_GROUPS, DEVICE_TREES = 2, 1024
MAX_SHARDS = 8


@dataclass(frozen=True, slots=True)
class Machine:
    """What a run computes on.

    Attributes:
        cores: that this process may use, or as many threads as the person allows.
        device: the type of torch's device: "cpu", "cuda" ...
        ranks: processes that learn together, each with so many cores and a device of its own.
    """

    cores: int = 2
    device: str = "cpu"
    ranks: int = 1

    @staticmethod
    def here(device: str = "cpu", threads: int = 0) -> Machine:
        """This machine, with a device of that type; `threads` 0 for all cores that a rank has.

        All ranks plan alike: by what the first one has.
        """
        return Machine(ranks.first(threads or cores()), device, ranks.world())

    @property
    def accelerated(self) -> bool:
        """Whether networks compute elsewhere than on the processor."""
        return self.device != "cpu"

    @property
    def num_groups(self) -> int:
        """Groups of trees, each on a thread of its own."""
        if self.accelerated:
            return DEVICE_GROUPS * self.ranks
        # Where ranks take turns on a core, nobody waits while a group searches.
        least = MIN_GROUPS if self.ranks == 1 else 1
        return min(max(self.cores, least), MAX_GROUPS) * self.ranks

    @property
    def num_trees(self) -> int:
        """Trees of a group."""
        if self.accelerated:
            return DEVICE_TREES
        return max(CPU_TREES // self.num_groups, MIN_CPU_TREES)

    @property
    def search_threads(self) -> int:
        """Threads that descend in a group's trees."""
        return max(1, self.cores // DEVICE_GROUPS) if self.accelerated else 1

    @property
    def num_shards(self) -> int:
        """Parts of a batch that the learner computes at the same time."""
        if self.accelerated:
            return self.ranks
        if self.ranks > 1:
            return max(1, min(self.cores, MAX_SHARDS // self.ranks)) * self.ranks
        return min(max(self.cores, 2), MAX_SHARDS)

    @property
    def overlaps(self) -> bool:
        """Whether self-play of the next update goes on while the network learns."""
        return self.device == "cuda"
