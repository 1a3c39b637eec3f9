"""An evaluator that sees what ends the game within two plies, before it asks a network.

A leaf where the side to move wins at once is worth exactly 1, one where every move lets the other
side win at once is worth -1, and neither needs the network; elsewhere moves that lose at once are
all but forbidden. It uses nothing but the rules, costs less than 1 us a leaf, and lets learning begin where
tactics end. The bare network stays within reach as `network`. Left out: proofs, which the search
finds itself, and games of other than two players.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from playout.envs.game import NativeGame, StateBatch
from playout.mcts._tactics import two_plies
from playout.mcts.evaluators import Evaluator
from playout.mcts.search import LeafBatch

Float32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

CERTAIN = 8.0
"""Logits of winning moves, and less than any other's of losing ones; a search may still look."""


class LookaheadEvaluator:
    """Wraps a network's evaluator.

    Args:
        network: answers where nothing ends within two plies.
        game: a game of two players; any other is passed on as it is.
    """

    def __init__(self, network: Evaluator, game: NativeGame) -> None:
        self.network, self.game = network, game
        self.num_settled = 0

    def evaluate(self, leaves: LeafBatch) -> tuple[Float32, Float32]:
        """Logits [M, A] and values [M] of the leaves."""
        size = leaves.size
        if self.game.num_players != 2:
            return self.network.evaluate(leaves)
        states = StateBatch.from_data(self.game, leaves.states[:size].copy(), check=False)
        wins, losing, legal = tactics(states)
        won = wins.any(axis=1)
        lost = ~won & (losing | ~legal).all(axis=1)
        logits = np.where(wins, CERTAIN, -CERTAIN).astype(np.float32)
        values = np.where(won, 1.0, -1.0).astype(np.float32)
        logits[lost] = 0.0
        rows = np.flatnonzero(~(won | lost))
        self.num_settled += size - len(rows)
        if len(rows):
            answers, values[rows] = self.network.evaluate(picked(leaves, rows))
            floor = answers.min(axis=1, keepdims=True) - CERTAIN
            logits[rows] = np.where(losing[rows], floor, answers)
        return logits, values


def picked(leaves: LeafBatch, rows: npt.NDArray[np.int64]) -> LeafBatch:
    """Some of the leaves."""
    return dataclasses.replace(
        leaves,
        obs=None if leaves.obs is None else leaves.obs[rows],
        mask=leaves.mask[rows],
        states=leaves.states[rows],
        to_play=leaves.to_play[rows],
        size=len(rows),
    )


def tactics(states: StateBatch) -> tuple[Bools, Bools, Bools]:
    """Moves that win at once, moves that lose at once, legal moves, each bool [B, A].

    A move loses at once if the other side's answer can end the game. Where a state has a winning
    move, its losing moves are not looked for.
    """
    shape = (len(states), states.game.num_actions)
    wins, losing, legal = (np.empty(shape, np.uint8) for _ in range(3))
    two_plies(states.game.capsule, states.data, wins, losing, legal)
    states.game.raise_pending()
    return wins.view(bool), losing.view(bool), legal.view(bool)
