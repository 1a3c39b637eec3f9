"""Numbers of environments, seeds of episodes, and the log from which running ones are rebuilt.

Environments are numbered through all ranks. Every episode is begun with a seed derived from (seed,
environment, episode), and the actions of the running episode are kept. The state of any environment
that is deterministic given its seed is then a few plain numbers: play the same actions again.
Leaves out the stepping.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from playout.agents.runs import ranks


@dataclass(frozen=True, slots=True)
class Place:
    """Which of the things that all ranks number through are this rank's."""

    first: int
    count: int
    total: int

    @property
    def alone(self) -> bool:
        """Whether no other rank has any."""
        return self.count == self.total

    @property
    def own(self) -> slice:
        """This rank's among all."""
        return slice(self.first, self.first + self.count)


def place_of(count: int) -> Place:
    """The place of this rank's `count` things, the ranks' in order; under ranks one message."""
    if ranks.world() == 1:
        return Place(0, count, count)
    counts = [int(text) for text in ranks.everybody(str(count).encode())]
    return Place(sum(counts[: ranks.rank()]), count, sum(counts))


def derive_seed(seed: int, *names: object) -> int:
    """A seed below 2^62 for the stream called by `names`, unrelated to those of other names."""
    text = "/".join(map(str, (seed, *names))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 2


class EpisodeLog:
    """Which episode each of some environments is in, and the actions since its reset.

    Attributes:
        actions: Of the running episode, by environment.
    """

    def __init__(self, count: int, *, first: int = 0, stream: str = "episode") -> None:
        """Log `count` environments.

        Args:
            count: How many.
            first: Number of the first one among all workers' environments.
            stream: Name of the stream of seeds.
        """
        self.first, self.stream, self.seed = first, stream, 0
        self.numbers = [0] * count
        self.actions: list[list[Any]] = [[] for _ in range(count)]

    def restart(self, seed: int) -> None:
        """Every environment is before its first episode."""
        self.seed = seed
        self.numbers = [0] * len(self.numbers)

    def next(self, i: int) -> None:
        """The episode of environment `i` is over."""
        self.numbers[i] += 1

    def begin(self, i: int) -> int:
        """Forget the actions of environment `i`; the seed of its episode."""
        self.actions[i] = []
        name = (self.stream, self.first + i, self.numbers[i])
        return derive_seed(self.seed, *name) % 2**31

    def get_state(self) -> dict[str, Any]:
        """Seed, numbers of the episodes, and their actions."""
        return {
            "seed": self.seed,
            "episodes": np.array(self.numbers, np.int64),
            "actions": [np.array(actions) for actions in self.actions],
        }

    def set_state(self, state: dict[str, Any]) -> Iterable[tuple[int, Any]]:
        """Take the episodes over; every environment with the actions to be played again."""
        self.seed = int(state["seed"])
        self.numbers = [int(n) for n in state["episodes"]]
        return enumerate(state["actions"])
