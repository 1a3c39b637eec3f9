"""Policies as tables: `TabularPolicy`, and what else answers with probabilities.

A policy is anything with `probabilities(states) -> [B, A]`, a function of states that does the
same, or "uniform".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import NativeGame, StateBatch
from playout.errors import DataError, GameError

Floats = npt.NDArray[np.float64]
PLAYER_STEP = np.uint64(0x9E3779B97F4A7C15)  # as cfr_key() in tree.h mixes players into keys


@runtime_checkable
class Probabilities(Protocol):
    """What tells the probabilities of its moves."""

    def probabilities(self, states: StateBatch) -> npt.NDArray[np.floating]:
        """Floats [B, A] for the side to move in B positions; what is illegal counts for nothing."""


AnyPolicy = Probabilities | Callable[[StateBatch], npt.NDArray[np.floating]] | str
"""A policy, a function that answers as one, or "uniform"."""


@dataclass(frozen=True, slots=True)
class TabularPolicy:
    """Probabilities of every action in every information set.

    Attributes:
        game: The game.
        keys: uint64 [I], the information sets, rising (`key_of`).
        slots: int64 [I + 1]: where their actions begin.
        actions: int32 [S].
        probs: float64 [S], adding up to 1 in each information set.
    """

    game: NativeGame
    keys: npt.NDArray[np.uint64]
    slots: npt.NDArray[np.int64]
    actions: npt.NDArray[np.int32]
    probs: Floats

    def probabilities(self, states: StateBatch) -> Floats:
        """float64 [B, A] for the side to move.

        Raises:
            DataError: States of another game. GameError: Nobody is to move in a row.
        """
        if states.game != self.game:
            raise DataError(f"the policy plays {self.game}, these are positions of {states.game}")
        keys = key_of(states)
        at = np.minimum(np.searchsorted(self.keys, keys), max(len(self.keys) - 1, 0))
        unknown = np.ones(len(keys), bool) if not len(self.keys) else self.keys[at] != keys
        if unknown.any():
            raise GameError(f"row {int(unknown.argmax())}: not a position of {self.game}")
        found = np.zeros((len(states), self.game.num_actions))
        first, count = self.slots[at], np.diff(self.slots)[at]
        rows = np.repeat(np.arange(len(at)), count)
        begin = np.cumsum(count) - count
        slots = np.arange(len(rows)) - np.repeat(begin - first, count)
        found[rows, self.actions[slots]] = self.probs[slots]
        return found


def key_of(states: StateBatch) -> npt.NDArray[np.uint64]:
    """uint64 [B]: what the side to move knows, and who it is."""
    turn = states.to_play()
    if len(turn) and turn.min() < 0:
        raise GameError(f"row {int((turn < 0).argmax())}: nobody is to move")
    return np.asarray(states.info_key() + turn.astype(np.uint64) * PLAYER_STEP)


def uniform(states: StateBatch) -> Floats:
    """float64 [B, A]: all legal actions equally likely."""
    mask = states.legal_mask().astype(np.float64)
    return np.asarray(mask / mask.sum(axis=1, keepdims=True))


def answers(policy: AnyPolicy, states: StateBatch) -> Floats:
    """float64 [B, A]: a policy's probabilities, examined and cut to what is legal.

    Raises:
        DataError: It is no policy, or its answer is none.
    """
    if policy == "uniform":
        return uniform(states)
    if isinstance(policy, Probabilities):
        found = policy.probabilities(states)
    elif callable(policy):
        found = policy(states)
    else:
        raise DataError(
            f"a policy has probabilities(states), is a function or 'uniform', not {policy!r:.100}"
        )
    array = np.asarray(found, np.float64)
    shape = (len(states), states.game.num_actions)
    if array.shape != shape:
        raise DataError(f"a policy must answer [B, A] = {list(shape)}, not {list(array.shape)}")
    array = array * states.legal_mask()
    total = array.sum(axis=1, keepdims=True)
    if not (np.isfinite(total).all() and (array >= 0).all() and (total > 0).all()):
        raise DataError("a policy's probabilities must be at least 0, and above it for some move")
    return np.asarray(array / total)
