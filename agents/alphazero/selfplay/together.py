"""`Played`: what the self-play of an update was on all ranks together, summed up by one message.

Every rank plays some of the groups of games and keeps what they bring; the counts that decide how
training goes on are of all. Left out: the games themselves (play.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from playout.agents.alphazero.replay import Examples, ReplayBuffer
from playout.agents.alphazero.selfplay.counts import Counts
from playout.agents.runs import ranks


@dataclass(frozen=True, slots=True)
class Outcome:
    """What this rank has played.

    Attributes:
        examples: of games that are over.
        counts: what was done for them.
        seconds: that it took.
    """

    examples: Examples
    counts: Counts
    seconds: float


@dataclass(frozen=True, slots=True)
class Played:
    """What all ranks have played.

    Attributes:
        counts: what was done.
        positions: that it has brought.
        held: that replays hold with them; 0 while one of them holds none.
        seconds: that each rank took.
    """

    counts: Counts
    positions: int
    held: int
    seconds: Sequence[float]


def sum_up(outcome: Outcome, replay: ReplayBuffer) -> Played:
    """What all ranks have played; every rank calls it once its games are over.

    Args:
        outcome: of this rank.
        replay: where its examples will go.
    """
    brought = len(outcome.examples)
    holds = min(replay.num_added + brought, replay.capacity)
    seconds = [0.0] * ranks.world()
    seconds[ranks.rank()] = outcome.seconds
    own = [float(brought), float(holds), float(not holds), *seconds, *outcome.counts.values()]
    positions, held, without, *rest = ranks.sums(own)
    return Played(
        Counts.of(rest[len(seconds) :]),
        int(positions),
        0 if without else int(held),
        rest[: len(seconds)],
    )
