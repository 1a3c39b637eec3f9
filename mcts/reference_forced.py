"""Forced playouts and pruned policy targets in plain Python (Wu 2019, section 3.2).

At a root with noise every move that was tried gets a number of visits that grows with its prior;
what it got only so is no part of the policy that is learned. Left out: the search around it
(reference.py).
"""

from __future__ import annotations

import numpy as np
from playout.mcts.config import SearchConfig
from playout.mcts.reference_math import F
from playout.mcts.reference_node import Node


def forced_edges(node: Node, config: SearchConfig) -> np.ndarray:
    """Which edges of a root were visited, but less than they have to be; bool by edge, padded."""
    counts = node.visits + node.pending
    least = F(config.forced_playouts) * node.prior * (node.all_visits + F(node.pending.sum()))
    found: np.ndarray = (node.visits > 0) & node.allowed() & (counts * counts < least)
    return found


def pruned(
    node: Node, playable: list[bool], explore: np.float32, config: SearchConfig
) -> np.ndarray:
    """Visits of the edges less those that were only forced: as many as PUCT would not ask back.

    Args:
        node: the root.
        playable: of each edge, whether it may be the best.
        explore: what PUCT weighs priors with.
        config: how many are forced.
    """
    counts = node.visits.copy()
    worth = {i: (counts[i], node.total[i] / counts[i]) for i in range(node.n) if counts[i] > 0}
    ranked = [i for i in worth if playable[i]]
    if not config.forced_playouts or not ranked:
        return counts
    best = max(ranked, key=lambda i: (*worth[i], -i))
    limit = worth[best][1] + explore * node.prior[best] / (counts[best] + F(1))
    for i in worth:
        if i == best:
            continue
        most, taken = F(config.forced_playouts) * node.prior[i] * node.all_visits, F(1)
        while taken * taken <= most and counts[i] > 1:
            if not worth[i][1] + explore * node.prior[i] / counts[i] < limit:
                break
            counts[i] -= F(1)
            taken += F(1)
        if counts[i] <= 1:
            counts[i] = F(0)
    return counts
