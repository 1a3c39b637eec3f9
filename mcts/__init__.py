"""Batched tree search and exact play; knows no torch.

    from playout.mcts import Search, SearchConfig

search.py is the entrance (config.py its settings, evaluators.py what it asks about positions),
tree/ holds the search in C behind _search.pyx, reference.py the same in plain Python; exact/ plays
exactly.
"""

from playout.mcts.config import SearchConfig
from playout.mcts.evaluators import (
    Evaluator,
    LeafBatch,
    RolloutEvaluator,
    SolverEvaluator,
    UniformEvaluator,
)
from playout.mcts.exact.solver import Solver
from playout.mcts.search import UNKNOWN, Search, SearchResult

__all__ = [
    "UNKNOWN",
    "Evaluator",
    "LeafBatch",
    "RolloutEvaluator",
    "Search",
    "SearchConfig",
    "SearchResult",
    "Solver",
    "SolverEvaluator",
    "UniformEvaluator",
]
