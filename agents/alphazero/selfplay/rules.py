"""What self-play asks of a game's rules: that the game keeps them.

A game may be anybody's; one that breaks its contract in the middle of training is named, with the
fault and the state, in one line. Left out: a search of such faults beforehand (playout.testing).
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import CHANCE, TERMINAL, NativeGame, StateBatch
from playout.errors import GameError
from playout.mcts.evaluators import LeafBatch

Ints = npt.NDArray[np.int32]


def fault(states: StateBatch, row: int, what: str) -> GameError:
    """The error of a game that breaks its own rules in one of the states."""
    text = states.data[row].tobytes().hex()
    with suppress(Exception):
        text = states[row].text
    return GameError(f"{states.game} breaks its rules: {what}, in the state {text}")


def check_turns(states: StateBatch, plies: Ints) -> None:
    """Examines whose turn it is after so many plies [B] of each game.

    Raises:
        GameError: nobody's that there is, or the game goes on for too long.
    """
    game, movers = states.game, states.to_play()
    least = CHANCE if game.has_chance else TERMINAL
    wrong = np.flatnonzero((movers < least) | (movers >= game.num_players))
    if len(wrong):
        row = int(wrong[0])
        raise fault(states, row, f"to_play is {movers[row]}, of {game.num_players} players")
    late = np.flatnonzero((movers != TERMINAL) & (plies >= game.max_plies))
    if len(late):
        what = f"a game goes on after max_plies {game.max_plies} plies"
        raise fault(states, int(late[0]), what)


def check_returns(states: StateBatch, returns: npt.NDArray[np.float32]) -> None:
    """Examines the results [B, P] of games that are over.

    Raises:
        GameError: one is not a number up to the game's value_scale (with rewards along the way, not
            finite), or those of a zero-sum game do not add up to 0.
    """
    game, most = states.game, np.float32(states.game.value_scale)
    limit = np.finfo(np.float32).max if game.step_rewards else most
    wrong = ~(np.abs(returns) <= limit).all(axis=1)
    if game.zero_sum:
        wrong |= ~(np.abs(returns.sum(axis=1)) < 1e-4 * most)
    rows = np.flatnonzero(wrong)
    if len(rows):
        row = int(rows[0])
        what = "finite numbers" if game.step_rewards else f"numbers in [-{most:g}, {most:g}]"
        what += " that add up to 0" if game.zero_sum else ""
        raise fault(states, row, f"returns are {returns[row].tolist()}, not {what}")


def check_observations(leaves: LeafBatch) -> None:
    """Examines what a network was asked.

    Raises:
        GameError: an observation is not finite.
    """
    if leaves.obs is None:
        return
    size = leaves.size
    finite = np.isfinite(leaves.obs[:size].reshape(size, -1)).all(axis=1)
    if not finite.all():
        states = StateBatch.from_data(leaves.game, leaves.states[:size].copy(), check=False)
        raise fault(states, int(np.flatnonzero(~finite)[0]), "observe gives NaN or infinity")


def check_actions(states: StateBatch, actions: Ints) -> None:
    """Examines the actions [B] that a search has found for states that are not over.

    Raises:
        GameError: there was none to find.
    """
    rows = np.flatnonzero(actions < 0)
    if len(rows):
        raise fault(states, int(rows[0]), "no action is legal, though the game is not over")


def check_first(game: NativeGame) -> None:
    """Raises GameError where a game is over before anybody has moved."""
    if game.initial_state().to_play == TERMINAL:
        raise GameError(f"{game} is over before the first move: there is nothing to play")
