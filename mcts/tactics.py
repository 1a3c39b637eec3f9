"""One-move tactics of any game of two players, by trying: wins at once, and how to stop them.

Everything is batched over states and actions and takes no more than the rules. Deeper questions go
to solver.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from playout.envs.state_batch import StateBatch

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


def winning_actions(states: StateBatch) -> Mask:
    """Bool [B, A]: the action ends the game in favour of the side to move."""
    size, num_actions = len(states), states.game.num_actions
    after, legal = children(states)
    mover = np.repeat(np.maximum(states.to_play(), 0), num_actions)
    won = after.returns()[np.arange(size * num_actions), mover] > 0
    wins: Mask = won & legal & after.is_terminal()
    return wins.reshape(size, num_actions)


def safe_actions(states: StateBatch) -> Mask:
    """Bool [B, A]: after this legal action the next side cannot win at once."""
    after, legal = children(states)
    mover = np.repeat(states.to_play(), states.game.num_actions)
    open_rows = np.flatnonzero(legal & ~after.is_terminal())
    replies = winning_actions(after[open_rows]).any(axis=1)
    # Where the same side moves again, its win is no danger.
    danger = replies & (after.to_play()[open_rows] != mover[open_rows])
    safe = legal.copy()
    safe[open_rows[danger]] = False
    return safe.reshape(len(states), -1)
