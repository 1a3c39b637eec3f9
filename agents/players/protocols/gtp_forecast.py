"""How a game is expected to end, in KataGo's words: `scoreLead`, `ownership`, `whiteOwnership`.

Only players whose networks have learned it can say (`ForecastPlayer`); of the others nothing is
written. All is what the network sees at once in a position, without search.
"""

from __future__ import annotations

from collections.abc import Sequence

from playout.agents.players.player import Forecast, ForecastPlayer, Player
from playout.envs.core.game import State, StateBatch

MOST_LEADS = 10  # moves of a report, the best ones, whose scores are asked for


def forecast(player: Player, *states: State) -> Forecast:
    """What a player expects of positions, with a row for each; empty where it cannot say."""
    if not isinstance(player, ForecastPlayer):
        return Forecast()
    return player.forecast(StateBatch.from_states(states))


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
        """`lead` after each of the first MOST_LEADS actions; nothing where it is not known.

        All that are new are asked for at once. Not known are those that chance follows.
        """
        if self.lead is None:
            return {}
        first = actions[:MOST_LEADS]
        self._look([action for action in first if action not in self._leads])
        return {action: self._leads[action] for action in first if action in self._leads}

    def _look(self, actions: Sequence[int]) -> None:
        """Learns the leads after these actions, but for those that chance follows."""
        own, open_ended = self._state.to_play, dict[int, State]()
        for action in actions:
            after = self._state.apply(action)
            score = after.score if after.is_terminal else None
            if score is not None:
                self._leads[action] = float(score[own])
            elif after.to_play >= 0:
                open_ended[action] = after
        if not open_ended:
            return
        found = forecast(self._player, *open_ended.values()).score
        assert found is not None  # it was known before the move
        for (action, after), lead in zip(open_ended.items(), found.tolist(), strict=True):
            self._leads[action] = lead if after.to_play == own else -lead
