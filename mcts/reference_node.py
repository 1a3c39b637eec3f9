"""A position in the plain Python search of reference.py, its edges, and what is known of it.

Arrays are padded to whole vectors of eight, as in the C code, so that sums run in the same order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from playout.envs.core.game import CHANCE
from playout.mcts.reference_math import F, total_of

OPEN, KNOWN, LOST = 0, 1, 2
WORST = F(-3.0e38)


def scaled_returns(state: Any) -> list[np.float32]:
    """What each player has, in units of the game's value_scale."""
    return [F(v) / F(state.game.value_scale) for v in state.returns]


class Node:
    """A position and its edges; arrays are padded to whole vectors of eight.

    With more legal moves than `dense_edges` a node below the root is sparse: its priors have half
    precision, its edges stand in their order, and only the first `open` ones have been followed;
    `rest` is the prior of the others together.
    """

    def __init__(
        self,
        state: Any,
        parent: Node | None,
        parent_edge: int,
        dense_edges: int = 4096,
        *,
        allowed: Any = None,
    ) -> None:
        self.state, self.parent, self.parent_edge = state, parent, parent_edge
        self.terminal, self.chance = state.is_terminal, state.to_play == CHANCE
        self.proven = self.waiting = False
        self.actions = [] if self.terminal else list(state.legal_actions)
        if allowed is not None:  # truth values by action
            self.actions = [action for action in self.actions if allowed[action]]
        self.n = len(self.actions)
        size = (self.n + 7) // 8 * 8
        self.total, self.visits = np.zeros(size, F), np.zeros(size, F)
        self.prior, self.pending = np.zeros(size, F), np.zeros(size, F)
        self.child: list[Node | None] = [None] * self.n
        self.known = [OPEN] * self.n
        self.all_visits = self.all_total = self.raw = self.exact = F(0)
        self.prior_visited = F(0)
        self.sparse = self.n > dense_edges and parent is not None and not self.chance
        self.open = 0 if self.sparse else self.n
        self.rest = F(0)
        if self.chance:  # the outcomes' probabilities
            self.prior[: self.n] = [prob for _, prob in state.chance_outcomes]

    def set_prior(self, prior: np.ndarray) -> None:
        """Takes the priors; a sparse node rounds them and puts the best first."""
        self.prior = prior
        if not self.sparse:
            return
        half = np.maximum(prior[: self.n].astype(np.float16), np.float16(2.0**-24))
        order = np.argsort(-half, kind="stable")
        self.actions = [self.actions[i] for i in order]
        self.prior[: self.n] = half[order]
        self.rest = total_of(self.prior)

    def follow(self, edge: int) -> None:
        """Opens an edge of a sparse node if it is not."""
        if edge < self.open:
            return
        assert edge == self.open
        self.open += 1
        self.rest = max(self.rest - self.prior[edge], F(0))

    def values(self, players: int) -> list[np.float32]:
        """What is known of a finished or proven position, for each player."""
        if self.terminal:
            return scaled_returns(self.state)
        values = [-self.exact] * players
        values[self.state.to_play] = self.exact
        return values

    def allowed(self) -> np.ndarray:
        """Edges that exist and are not proven lost."""
        known = self.known + [LOST] * (len(self.visits) - self.n)
        return np.array([k != LOST for k in known], bool)
