"""What every action leads to, by trying: children, wins at once, and what lets the other side win.

Everything is batched over states and takes no more than the rules. `Lookahead` is a prover of that
kind; an evaluator that answers proven positions itself uses `answer_proven` on outcomes, asks a
network about the rest, and puts its answers in place with `scatter_answers`. Looking two plies
ahead takes as many tries as there are pairs of moves, so it is for games of few moves. Deeper
questions go to a game's own prover and to solver.py.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import NativeGame
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError
from playout.mcts.exact._tactics import answer_proven, look_ahead, scatter_answers
from playout.mcts.exact.prover import ILLEGAL, Outcomes, Prover, States, has_proofs

__all__ = [
    "Lookahead",
    "Tactics",
    "answer_proven",
    "children",
    "lookahead_for",
    "scatter_answers",
    "tactics",
    "winning_actions",
]

Mask = npt.NDArray[np.bool_]
Tactics = Literal["auto", "two_plies", "one_ply", "off"]

MAX_TWO_PLY_ACTIONS = 16
"""With more legal moves than this, "auto" looks at none: two plies try their square."""


class Lookahead(Prover):
    """Proves by trying all moves, and with two plies all answers to them.

    Args:
        game: What is played.
        plies: 1 or 2.
    """

    def __init__(self, game: NativeGame, plies: int = 2) -> None:
        if plies not in (1, 2):
            raise ConfigError(f"a lookahead is of 1 or 2 plies, not {plies}")
        self.game, self.plies = game, plies

    def prove(self, states: States, max_nodes: int = 0) -> Outcomes:
        """Outcomes [B, A] as far as they are seen; `max_nodes` changes nothing.

        1 where an action ends the game with the best result, -1 where it lets the next side do so.
        Where a state has a winning action, losing ones are not looked for.
        """
        outcomes = np.empty((len(states), self.game.num_actions), np.int8)
        look_ahead(self.game.capsule, states, self.plies, outcomes)
        self.game.raise_pending()
        return outcomes


def lookahead_for(game: NativeGame, tactics: Tactics) -> Lookahead | None:
    """The lookahead that a setting means for a game, or None.

    "auto" is two plies in games of few legal moves, and none in others. Games without proofs (of
    one player, of more than two, or without a winner for each loser) have none.
    """
    plies = {"off": 0, "one_ply": 1, "two_plies": 2}.get(tactics)
    if plies is None:
        plies = 2 if game.max_legal <= MAX_TWO_PLY_ACTIONS else 0
    return Lookahead(game, plies) if plies and has_proofs(game) else None


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
    outcomes = Lookahead(states.game).prove(states.data)
    return outcomes == 1, outcomes == -1, outcomes != ILLEGAL


def winning_actions(states: StateBatch) -> Mask:
    """Bool [B, A]: the action wins at once."""
    wins: Mask = Lookahead(states.game, 1).prove(states.data) == 1
    return wins
