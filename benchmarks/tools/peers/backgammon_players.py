"""GNU Backgammon's network and Tesauro's pubeval as players of backgammon, by the package gnubg-nn.

Both judge what is on the board after a whole turn, without looking ahead (GNU Backgammon calls that
0-ply), and play the turn that is judged best. Turns are enumerated by playout's rules, so a player
may also go on with a turn that somebody else has begun.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
from playout.agents.players.player import Actions, Player, must_be_positions
from playout.benchmarks.tools.measuring import peer
from playout.envs.core.state import State
from playout.envs.core.state_batch import StateBatch

POINTS = 26  # of a player in a state's bytes: men borne off, the points 1 to 24, the bar
Board = list[list[int]]
"""The men of the other player, then of the one in question: points 1 to 24 as each counts, bar."""


def board_of(state: State, player: int) -> Board:
    """The men of a state for GNU Backgammon, as it sees them when `player` has the dice."""
    men = np.frombuffer(state.to_bytes()[: 2 * POINTS], np.uint8).reshape(2, POINTS)
    return [men[1 - player, 1:].tolist(), men[player, 1:].tolist()]


def ends_of_turn(state: State) -> dict[State, list[tuple[State, int]]]:
    """Every state in which the turn can end, and one way there: states and the action in each."""
    found: dict[State, list[tuple[State, int]]] = {}
    mover, seen = state.to_play, {state}
    open_ones: list[tuple[State, list[tuple[State, int]]]] = [(state, [])]
    while open_ones:
        here, way = open_ones.pop()
        if here.to_play != mover:
            found[here] = way
            continue
        for action in here.legal_actions:
            after = here.apply(action)
            if after not in seen:
                seen.add(after)
                open_ones.append((after, [*way, (here, action)]))
    return found


class TurnPlayer(Player):
    """Plays the turn whose end is worth most.

    Args:
        name: What tables call it.
        value: What a state after the turn of a player is worth to that player; of states in which
            the game is over, its result decides.
    """

    def __init__(self, name: str, value: Callable[[State, int], float]) -> None:
        self.name = name
        self._value = value
        self._planned: dict[State, int] = {}

    def reset(self, seed: int) -> None:
        """Forgets the turns that it had planned; nothing about it is random."""
        self._planned.clear()

    def act(self, states: StateBatch) -> Actions:
        """The next man of the best turn in each position."""
        must_be_positions(states, self.name)
        chosen = np.empty(len(states), np.int32)
        for row, state in enumerate(states):
            if state not in self._planned:
                self._planned.update(self._best(state))
            chosen[row] = self._planned[state]
        return chosen

    def _best(self, state: State) -> list[tuple[State, int]]:
        mover = state.to_play

        def worth(end: State) -> tuple[bool, float]:
            """The end of a game, which a turn reaches by winning it, is better than any other."""
            if end.is_terminal:
                return True, float(end.returns[mover])
            return False, self._value(end, mover)

        ends = ends_of_turn(state)
        return ends[max(ends, key=worth)]


def equity(nn: ModuleType, board: Board) -> float:
    """Points that GNU Backgammon expects for who has the dice, without the cube."""
    win, gammon, backgammon, lost_gammon, lost_backgammon = nn.probabilities(board, 0)
    return float(2 * win - 1 + gammon + backgammon - lost_gammon - lost_backgammon)


def backgammon_players() -> list[TurnPlayer]:
    """GNU Backgammon and pubeval; none, and a line on stderr, where the package is missing."""
    nn = peer("gnubg_nn", "gnubg-nn")
    if nn is None:
        return []

    def gnubg(end: State, mover: int) -> float:
        return -equity(nn, board_of(end, 1 - mover))

    def pubeval(end: State, mover: int) -> float:
        return float(nn.pub_eval_score(board_of(end, 1 - mover)))

    return [TurnPlayer("GNU Backgammon", gnubg), TurnPlayer("pubeval", pubeval)]
