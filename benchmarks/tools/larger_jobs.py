"""What a larger job of ranks would do, predicted from what two ranks were seen to send.

A plain model, and its assumptions: work is spread evenly, nothing is overlapped, a ring carries
sums, and a message costs its latency once for each doubling of the ranks. benchmarks/studies/ranks
measures what goes in, and with latency of its own on two ranks whether the model holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Job:
    """A larger job, for predictions.

    Attributes:
        ranks: in all.
        link: bytes a second of the slowest link.
        latency: seconds of a message between neighbours; 0 takes what one costs here, through gloo
            between two processes whose cores both compute.
        faster: how much faster a rank computes than a core of this machine.
    """

    ranks: int
    link: float
    latency: float
    faster: float = 1.0


JOBS = {
    "8 machines, 10 Gbit/s": Job(8, 1.25e9, 0.0),
    "64 machines, 10 Gbit/s": Job(64, 1.25e9, 0.0),
    "8 cards, 50 GB/s, 0.03 ms": Job(8, 50e9, 3e-5, 100.0),
    "64 machines with a card, 100 Gbit/s, 0.05 ms": Job(64, 12.5e9, 5e-5, 100.0),
}


def predicted(own: float, messages: float, size: float, job: Job) -> float:
    """The share of its time in which a rank of a job does not wait, by a plain model.

    A ring sends and receives twice the bytes whatever the number of ranks; every message costs the
    latency once for each doubling. Work is taken to be spread evenly, and nothing to be overlapped.

    Args:
        own: seconds of work an update of a rank.
        messages: an update.
        size: bytes an update.
        job: the larger job.
    """
    doublings = max(1, (job.ranks - 1).bit_length())
    crossing = 2 * size * (job.ranks - 1) / job.ranks / job.link
    own /= job.faster
    return own / (own + crossing + messages * job.latency * doublings)


def predictions(
    found: Mapping[str, dict[str, Any]], work: Mapping[str, float]
) -> list[dict[str, Any]]:
    """A row for every trainer: what a rank does an update, and its efficiency in larger jobs.

    Batches of a rank are those of one rank here. `waits` is the latency in seconds at which a tenth
    of the time of two ranks is waiting.

    Args:
        found: cases of benchmarks/studies/ranks.py, as they are written.
        work: of an update of one rank, by trainer, in what its rate counts.
    """
    rows = []
    for name, case in found.items():
        seen = case["details"].get("two ranks by messages, 0 ms")
        if seen is None:
            continue
        alone, memory, gloo = (
            case["rates"][label]["median"]
            for label in ("one rank", "two ranks", "two ranks by messages, 0 ms")
        )
        own, messages, size = (
            work[name] / alone,
            seen["messages an update"],
            seen["bytes an update"],
        )
        # The work of two ranks an update is one rank's where batches are the whole job's.
        both = work[name] * (2 if case.get("a_rank") else 1)
        cost = max(0.0, both / gloo - both / memory) / messages
        row: dict[str, Any] = {"trainer": name, "own work (s)": own, "messages": messages}
        row |= {"bytes": size, "a message here (s)": cost}
        for text, job in JOBS.items():
            real = job if job.latency else replace(job, latency=cost)
            row[text] = predicted(own, messages, size, real)
        rows.append({**row, "waits": own / 9 / messages})
    return rows
