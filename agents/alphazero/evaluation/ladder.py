"""A run's ladder: its earlier networks and its anchors, who has met whom, and what that says.

Elo is counted from random play. A strong network wins all its games against that, so the scale is
carried upwards in steps: anchors (tree search with ever more random games a move), each of which
meets the one before when it is first played, and snapshots of the network, each of which meets
later ones. All results of the run are put into one Bradley-Terry fit. Everything here is state that
is saved with the run. Left out: playing (in_training.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from playout.agents.networks.boards.network import BoardNetwork
from playout.agents.networks.boards.registry import restore_network
from playout.agents.rating.ratings import Ratings, Result, rate

BEATEN = 0.8  # of the points against an anchor: the next one tells more


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A network as it was.

    Attributes:
        name: what the ladder calls it.
        update: updates of the run until then.
        games: games of self-play until then.
        network: its shape, see `restore_network`.
        model: its weights.
    """

    name: str
    update: int
    games: int
    network: Mapping[str, Any]
    model: Mapping[str, Any]

    @classmethod
    def of(cls, name: str, net: BoardNetwork, *, update: int, games: int) -> Snapshot:
        """A copy of a network, on the processor."""
        weights = {key: value.detach().cpu().clone() for key, value in net.state_dict().items()}
        return cls(name, update, games, net.config.to_dict(), weights)

    def restored(self) -> BoardNetwork:
        """The network."""
        net = restore_network(self.network)
        net.load_state_dict(self.model)
        return net.eval()

    def to_state(self) -> dict[str, Any]:
        """As plain data and tensors."""
        return {
            "name": self.name,
            "update": self.update,
            "games": self.games,
            "network": dict(self.network),
            "model": dict(self.model),
        }


class Ladder:
    """Snapshots, anchors and results of one run.

    Args:
        anchors: names of players that never change, the weakest first; Elo is counted from it.
        max_snapshots: earlier networks that are kept, at least 1.
        weight: of a result in the fit, see `weight_at_tables`.

    Attributes:
        snapshots: earlier networks, the oldest first.
        best: the name of the network that is the best so far, "" before the first.
        anchor: the index of the weakest anchor that is not beaten yet.
    """

    def __init__(self, anchors: tuple[str, ...], *, max_snapshots: int, weight: float) -> None:
        self.anchors, self.max_snapshots, self.weight = anchors, max_snapshots, weight
        self.snapshots: list[Snapshot] = []
        self.best = ""
        self.anchor = 0
        self._linked = 0  # the index of the strongest anchor that has met the one before
        self._results: dict[tuple[str, str], list[int]] = {}

    def opponents(self) -> list[Snapshot]:
        """Whom of the earlier networks the next one meets: the last, and the best besides."""
        found = self.snapshots[-1:]
        best = [one for one in self.snapshots[:-1] if one.name == self.best]
        return found + (best or self.snapshots[-2:-1])

    def met_anchors(self) -> tuple[str, ...]:
        """Which anchors the next network meets: the weakest that is not beaten, and the next."""
        return self.anchors[self.anchor : self.anchor + 2]

    def links(self) -> list[tuple[str, str]]:
        """Pairs of anchors that have yet to meet, for those of `met_anchors` to be on the scale."""
        last = min(self.anchor + 1, len(self.anchors) - 1)
        return [(self.anchors[i - 1], self.anchors[i]) for i in range(self._linked + 1, last + 1)]

    def add(self, results: Iterable[Result], scores: Mapping[str, float]) -> None:
        """Takes in an evaluation.

        Args:
            results: of all its games, those of `links` included.
            scores: the newest network's points against each anchor, 0 to 1.
        """
        self._linked = max(self._linked, min(self.anchor + 1, len(self.anchors) - 1))
        for first, second, *counts in results:
            have = self._results.setdefault((first, second), [0, 0, 0])
            self._results[first, second] = [a + b for a, b in zip(have, counts, strict=True)]
        while self.anchor < len(self.anchors) - 1:
            if scores.get(self.anchors[self.anchor], 0.0) < BEATEN:
                break
            self.anchor += 1

    def keep(self, snapshot: Snapshot) -> None:
        """Keeps a network; of too many, one goes, so that those left are spread over the run.

        The first, the best and the newest stay; of the others goes the one whose neighbours are
        closest together, in updates.
        """
        self.snapshots.append(snapshot)
        while len(self.snapshots) > self.max_snapshots:
            times = [one.update for one in self.snapshots]
            inner = [i for i in range(1, len(times) - 1) if self.snapshots[i].name != self.best]
            if inner:
                del self.snapshots[min(inner, key=lambda i: (times[i + 1] - times[i - 1], i))]
            else:
                del self.snapshots[0]

    def links_played(self) -> list[Result]:
        """Results of anchors among themselves."""
        return [
            Result(*names, *counts)
            for names, counts in self._results.items()
            if set(names) <= set(self.anchors)
        ]

    def fit(self) -> Ratings:
        """Ratings of everybody who has played, Elo above random play."""
        results = [Result(*names, *counts) for names, counts in self._results.items()]
        return rate(results, anchor=self.anchors[0], intervals="normal", weight=self.weight)

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        counts = np.array(list(self._results.values()), np.int64).reshape(-1, 3)
        return {
            "snapshots": [one.to_state() for one in self.snapshots],
            "best": self.best,
            "anchor": self.anchor,
            "linked": self._linked,
            "names": [list(names) for names in self._results],
            "counts": counts,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state_dict` gave."""
        self.snapshots = [Snapshot(**one) for one in state["snapshots"]]
        self.best = str(state["best"])
        last = len(self.anchors) - 1  # settings may allow fewer than before
        self.anchor, self._linked = min(int(state["anchor"]), last), int(state["linked"])
        self._results = {
            (str(first), str(second)): [int(n) for n in counts]
            for (first, second), counts in zip(state["names"], state["counts"], strict=True)
        }
