"""Games with hidden information, exactly: CFR+ as the solver, best responses as the referee.

`solve(game, iterations)` gives a policy; `exploitability(game, policy)` says how much it loses to
those who know it. For games of some million histories at most: Kuhn and Leduc poker, liar's dice.
"""

from playout.mcts.exact.cfr.policy import TabularPolicy
from playout.mcts.exact.cfr.solver import (
    MAX_HISTORIES,
    GameTree,
    expected_returns,
    exploitability,
    nash_conv,
    solve,
)

__all__ = [
    "MAX_HISTORIES",
    "GameTree",
    "TabularPolicy",
    "expected_returns",
    "exploitability",
    "nash_conv",
    "solve",
]
