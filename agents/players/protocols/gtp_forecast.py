"""How a game is expected to end, in KataGo's words: `scoreLead`, `ownership`, `whiteOwnership`.

Only players whose networks have learned it can say (`ForecastPlayer`); of the others nothing is
written. All is what the network sees at once in a position, without search.
"""

from __future__ import annotations

from collections.abc import Sequence

from playout.agents.players.player import Forecast, ForecastPlayer, Player
from playout.envs.core.game import State, StateBatch

MOST_LEADS = 10  # moves of a report, the best ones, whose scores are asked for


def forecast(player: Player, state: State) -> Forecast:
    """What a player expects of one position, with a row of its own; empty where it cannot say."""
    if not isinstance(player, ForecastPlayer):
        return Forecast()
    return player.forecast(StateBatch.from_states([state]))


class Outlook:
    """What a player expects of a position and of its moves, each asked for once.

    Args:
        player: Whoever is to move.
        state: Somebody is to move.

    Attributes:
        lead: Points that the side to move is ahead by; None: not known.
        ownership: Of each cell from the top left, row by row, from 1, where the side to move is
            expected to own it, to -1; None: not known.
    """

    def __init__(self, player: Player, state: State) -> None:
        self._player, self._state = player, state
        found = forecast(player, state)
        self.lead = None if found.score is None else float(found.score[0])
        self.ownership: list[float] | None = None
        if found.ownership is not None:
            self.ownership = found.ownership[0].ravel().tolist()
        self._leads: dict[int, float] = {}

    def leads(self, actions: Sequence[int]) -> dict[int, float]:
        """`lead` after each of the first MOST_LEADS actions; nothing where it is not known."""
        if self.lead is None:
            return {}
        for action in actions[:MOST_LEADS]:
            if action not in self._leads:
                self._leads[action] = self._after(action)
        return {action: self._leads[action] for action in actions[:MOST_LEADS]}

    def _after(self, action: int) -> float:
        own, after = self._state.to_play, self._state.apply(action)
        score = after.score if after.is_terminal else None
        if score is not None:
            return float(score[own])
        found = forecast(self._player, after).score
        assert found is not None  # it was known before the move
        return float(found[0]) * (1 if after.to_play == own else -1)
