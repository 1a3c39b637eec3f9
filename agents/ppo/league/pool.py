"""The pool of past versions that a self-play learner meets, with prioritised sampling and ratings.

A version is a copy of the weights with the rating it had when it was stored. The harder an opponent
still is (the lower the learner's score against it), the more often it is drawn. Ratings are Elo on
the scale of the first version = 0, so they grow with any cycle of styles: judge strength against
fixed players as well.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from playout.agents.networks.policy import Policy
from playout.agents.rating.ratings import expected_score
from playout.agents.runs.devices import nests_to_device
from torch import Tensor

# Weight of a new result in the running score against a version.
_SCORE_STEP = 0.05
# Drawn games against its last estimate that steady the learner's rating.
_PRIOR_GAMES = 4


@dataclass(slots=True)
class Version:
    """One stored opponent."""

    weights: dict[str, Tensor]
    elo: float
    update: int
    score: float = 0.5
    """Running mean of the learner's points against it, from 0 to 1."""
    window_points: float = 0.0
    """Points of the learner against it since the newest version was stored."""
    window_games: int = 0

    def weights_on(self, device: torch.device) -> dict[str, Tensor]:
        """The weights on a device, brought there once and kept there."""
        if next(iter(self.weights.values())).device != device:
            self.weights = nests_to_device((self.weights,), device)[0]
        return self.weights


class Pool:
    """Versions of one policy.

    Attributes:
        versions: Oldest first; number 0 is the policy before it learned.
        elo: Estimate of the learner's rating now.
        latest_share: Part of the games played against the learner itself.
    """

    def __init__(
        self, *, size: int = 24, power: float = 2.0, latest_share: float = 0.5, seed: int = 0
    ) -> None:
        self.size, self.power, self.latest_share = size, power, latest_share
        self.versions: list[Version] = []
        self.elo = 0.0
        self.rng = np.random.Generator(np.random.Philox(seed))

    def add(self, policy: Policy, update: int) -> None:
        """Store the policy as it is.

        A full pool drops the version that the learner beats most, but never the first.
        """
        weights = {key: value.detach().clone() for key, value in policy.state_dict().items()}
        for version in self.versions:
            version.window_points, version.window_games = 0.0, 0
        if len(self.versions) >= self.size:
            easiest = max(range(1, len(self.versions)), key=lambda k: self.versions[k].score)
            del self.versions[easiest]
        self.versions.append(Version(weights, self.elo, update))

    def probabilities(self) -> NDArray[np.float64]:
        """With which each version is drawn, `[versions]`."""
        weights = np.array([(1.0 - v.score) ** self.power + 0.02 for v in self.versions])
        return weights / weights.sum()

    def draw(self, count: int) -> NDArray[np.int64]:
        """Numbers of distinct versions for the next rollout, at most `count`."""
        count = min(count, len(self.versions))
        return self.rng.choice(
            len(self.versions), size=count, replace=False, p=self.probabilities()
        )

    def record(self, index: int, points: float) -> None:
        """One finished game against version `index`: 1 won, 0.5 drawn, 0 lost."""
        version = self.versions[index]
        version.score += _SCORE_STEP * (points - version.score)
        version.window_points += points
        version.window_games += 1

    def rate(self) -> float:
        """The learner's Elo from the games since the last version was stored.

        Solves points = expected points, with a few drawn games against the last estimate as prior.
        """
        before = self.elo
        low, high = before - 800.0, before + 800.0
        met = [(v.elo, v.window_points, v.window_games) for v in self.versions if v.window_games]
        met.append((before, 0.5 * _PRIOR_GAMES, _PRIOR_GAMES))
        for _ in range(40):
            middle = 0.5 * (low + high)
            surplus = sum(p - n * expected_score(middle - elo) for elo, p, n in met)
            low, high = (middle, high) if surplus > 0 else (low, middle)
        self.elo = 0.5 * (low + high)
        return self.elo

    def state_dict(self) -> dict[str, Any]:
        """Weights, ratings, results and random numbers."""
        return {
            "elo": self.elo,
            "rng": self.rng.bit_generator.state,
            "versions": [
                {
                    "weights": v.weights,
                    "elo": v.elo,
                    "update": v.update,
                    "score": v.score,
                    "points": v.window_points,
                    "games": v.window_games,
                }
                for v in self.versions
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.elo = float(state["elo"])
        self.rng.bit_generator.state = state["rng"]
        self.versions = [
            Version(v["weights"], v["elo"], v["update"], v["score"], v["points"], v["games"])
            for v in state["versions"]
        ]
