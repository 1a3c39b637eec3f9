"""From the moves of self-play to training targets.

`Histories` remembers, for every game in play, the positions since its opening and what the search
said of them; `finish` turns a finished game into `Examples`. A position's value target is worked
out backwards: what is proven is exact, what followed counts unless the move was a bad one made on
purpose (exploration says nothing about the position), and the search's own value is mixed in. A
position that a solver has proven has its exact value as target, and an even policy over the moves
that keep it. Left out: which games are played (selfplay.py), how examples are kept (replay.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.replay import Examples, values_per_position
from playout.envs.core.game import NativeGame, StateBatch
from playout.errors import CheckpointError
from playout.mcts.exact.solver import ILLEGAL, Outcomes
from playout.mcts.search import UNKNOWN, SearchResult

Float32 = npt.NDArray[np.float32]

# Attribute of `Histories` -> its key in checkpoints.
STORED = {
    "_states": "states",
    "_policy": "policy",
    "_value": "value",
    "_proven": "proven",
    "_player": "player",
    "_has_policy": "full",
    "_explored": "blunder",
}


def best_value(result: SearchResult) -> Float32:
    """What the search expects of its improved policy, float32 [B], for the side to move.

    The mean of all simulations would be too low: a search of few simulations spends most of them on
    moves that it then finds to be bad.
    """
    weights = result.action_weights * (result.visits > 0)
    total = weights.sum(axis=1)
    expected = (weights * np.where(result.visits > 0, result.q, 0.0)).sum(axis=1)
    found = np.where(total > 0, expected / np.maximum(total, 1e-9), result.value)
    return found.astype(np.float32)


class Histories:
    """What was searched and played in B games, T plies each at most.

    Args:
        game: what is played.
        size: B.
    """

    def __init__(self, game: NativeGame, size: int) -> None:
        self.game, self.size = game, size
        shape = (size, game.max_plies)
        self.lengths = np.zeros(size, np.int32)
        self._states = np.zeros((*shape, game.state_size), np.uint8)
        self._policy = np.zeros((*shape, game.num_actions), np.float32)
        self._value = np.zeros(shape, np.float32)
        self._proven = np.full(shape, UNKNOWN, np.int8)
        self._player = np.zeros(shape, np.int8)
        self._has_policy = np.zeros(shape, np.uint8)  # 0 where the policy has nothing to learn
        self._explored = np.zeros(shape, np.uint8)  # 1 where the move was a bad one made on purpose

    def append(
        self,
        states: StateBatch,
        result: SearchResult,
        actions: npt.NDArray[np.int32],
        *,
        regret_threshold: float,
    ) -> None:
        """One ply of every game: positions [B], the search's answers and the moves chosen [B]."""
        rows = np.arange(self.size)
        at = self.lengths
        self._states[rows, at] = states.data
        self._policy[rows, at] = result.action_weights
        self._value[rows, at] = best_value(result)
        self._proven[rows, at] = result.proven
        self._player[rows, at] = states.to_play()
        self._has_policy[rows, at] = 1
        tried = np.where(result.visits > 0, result.q, -np.inf)
        chosen = result.q[rows, actions]
        self._explored[rows, at] = (result.visits[rows, actions] == 0) | (
            tried.max(axis=1) - chosen > regret_threshold
        )
        self.lengths += 1

    def append_proven(
        self, rows: npt.NDArray[np.int64], states: StateBatch, outcomes: Outcomes
    ) -> None:
        """One ply of the games in `rows` [R]: positions and the exact outcomes of all moves [R, A].

        Where all moves come to the same, the policy has nothing to learn.
        """
        at = self.lengths[rows]
        best = outcomes.max(axis=1, keepdims=True, initial=-1)
        keeps = outcomes == best
        self._states[rows, at] = states.data
        self._policy[rows, at] = keeps / keeps.sum(axis=1, keepdims=True)
        self._value[rows, at] = self._proven[rows, at] = best[:, 0]
        self._player[rows, at] = states.to_play()
        self._has_policy[rows, at] = (keeps != (outcomes != ILLEGAL)).any(axis=1)
        self._explored[rows, at] = 0
        self.lengths[rows] += 1

    def finish(
        self, rows: npt.NDArray[np.int64], returns: Float32, *, value_mix: float
    ) -> Examples:
        """Examples of the games in `rows`, which ended with returns [R, P]; they are emptied."""
        parts = [
            self._examples(int(row), result, value_mix)
            for row, result in zip(rows, returns, strict=True)
        ]
        self.lengths[rows] = 0
        return Examples.concatenate([self._no_examples(), *parts])

    def _examples(self, row: int, returns: Float32, value_mix: float) -> Examples:
        length = int(self.lengths[row])
        players = self._player[row, :length]
        values = self._targets(row, length, returns, value_mix)
        return Examples(
            self._states[row, :length].copy(),
            self._policy[row, :length].copy(),
            values,
            self._has_policy[row, :length].astype(np.float32) * (players >= 0),
        )

    def _targets(self, row: int, length: int, returns: Float32, value_mix: float) -> Float32:
        """Value targets [T, V] of one game, V as in `Examples`."""
        if self.game.num_players > 2:
            return np.tile(returns.astype(np.float32), (length, 1))
        values = np.empty((length, 1), np.float32)
        # The value of the position that comes next, for every player.
        target = returns.astype(np.float64)
        for ply in range(length - 1, -1, -1):
            player = int(self._player[row, ply])
            proven, value = int(self._proven[row, ply]), float(self._value[row, ply])
            if proven != UNKNOWN:
                mine = float(proven)
            elif self._explored[row, ply]:
                mine = value
            else:
                mine = value_mix * value + (1 - value_mix) * target[player]
            target[:] = -mine
            target[player] = mine
            values[ply, 0] = mine
        return values

    def _no_examples(self) -> Examples:
        game = self.game
        return Examples(
            np.empty((0, game.state_size), np.uint8),
            np.empty((0, game.num_actions), np.float32),
            np.empty((0, values_per_position(game)), np.float32),
            np.empty(0, np.float32),
        )

    def state_dict(self) -> dict[str, Any]:
        """The plies that games in play have behind them, as packed arrays."""
        used = np.arange(self.game.max_plies)[None, :] < self.lengths[:, None]
        arrays = {key: getattr(self, name)[used] for name, key in STORED.items()}
        return {"lengths": self.lengths.copy(), **arrays}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        lengths = state["lengths"]
        if (
            lengths.shape != (self.size,)
            or lengths.min() < 0
            or lengths.max() > self.game.max_plies
        ):
            raise CheckpointError("the checkpoint's games do not fit this configuration")
        self.lengths[:] = lengths
        used = np.arange(self.game.max_plies)[None, :] < self.lengths[:, None]
        for name, key in STORED.items():
            getattr(self, name)[used] = state[key]
