"""What every action leads to, by trying: children, wins at once, and what lets the other side win.

Everything is batched over states and takes no more than the rules. An evaluator that answers such
positions itself uses `resolve`, asks a network about the rest, and puts its answers in place with
`scatter_answers`. Deeper questions go to solver.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from playout.envs.core.state_batch import StateBatch
from playout.mcts.exact._tactics import resolve, scatter_answers, two_plies

__all__ = ["children", "resolve", "scatter_answers", "tactics", "winning_actions"]

Mask = npt.NDArray[np.bool_]


def children(states: StateBatch) -> tuple[StateBatch, Mask]:
    """Every state after every action.

    Returns:
        The children, B * A states with the actions of a state side by side, and bool [B * A]: was
        the action legal? An illegal action leaves the state as it was.
    """
    num_actions = states.game.num_actions
    legal = states.legal_mask().ravel().astype(bool)
    after = states.tile(num_actions)
    after.apply(np.tile(np.arange(num_actions, dtype=np.int32), len(states)), where=legal)
    return after, legal


def tactics(states: StateBatch) -> tuple[Mask, Mask, Mask]:
    """Actions that win at once, actions that lose at once, legal actions, each bool [B, A].

    To win is to end the game with the best possible result, to lose is to let the next side do so.
    Where a state has a winning action, losing ones are not looked for.
    """
    shape = (len(states), states.game.num_actions)
    wins, losing, legal = (np.empty(shape, np.uint8) for _ in range(3))
    two_plies(states.game.capsule, states.data, wins, losing, legal)
    states.game.raise_pending()
    return wins.view(bool), losing.view(bool), legal.view(bool)


def winning_actions(states: StateBatch) -> Mask:
    """Bool [B, A]: the action wins at once."""
    return tactics(states)[0]
