"""Whether a game with hidden information hides it: what players know, and states drawn for them.

For games that declare themselves hidden. A state drawn by `resample` must look to the player like
the one it was drawn from, and equal keys of information must mean equal sights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from playout.envs.checks.symmetries import GARBAGE, SymmetryChecker
from playout.envs.core.game import NativeGame, State
from playout.errors import GameError

DRAWS = 3  # states drawn for each player at every state
VIEW = (
    "view_text() (in C write_view()) must show what the player knows and no more; "
    "without it everything is shown"
)
MUTUAL = "a player must not see, nor be bound by, what it does not know"


class HiddenChecker(SymmetryChecker):
    """Examines what players know; remembers what each key of information stood for."""

    def __init__(self, game: NativeGame) -> None:
        super().__init__(game)
        self.by_info: dict[tuple[int, int], Any] = {}

    def check_hidden(self, state: State) -> None:
        """Keys of information, and states drawn for each player."""
        if not self.game.hidden:
            return
        for player in range(self.game.num_players):
            key, sight = state.info_key(player), _sight(state, player)
            known = self.by_info.setdefault((player, key), sight)
            self.need(
                known == sight,
                f"info_key() of player {player} is {key:#x} in two states that it can tell apart",
                "it must tell apart whatever the player sees, may do or is to do",
            )
            for stream in range(DRAWS if self.game.has_resample else 0):
                self.check_drawn(state, player, stream, key, sight)

    def check_drawn(self, state: State, player: int, stream: int, key: int, sight: Any) -> None:
        """A drawn state is a proper one, made anew, that the player cannot tell apart."""
        drawn = state.resample(0, player, stream=stream)
        self.need(
            drawn == state.resample(0, player, stream=stream, fill=GARBAGE),
            f"resample() for player {player} leaves bytes as they were, or differs on a second run",
            "set the whole state, and take all chance from the generator that is handed in",
        )
        try:
            self.game.from_bytes(drawn.to_bytes())
        except GameError:
            self.fail(
                f"check() refuses what resample() draws for player {player}",
                "only states that play can reach count",
            )
        self.need(
            drawn.info_key(player) == key,
            f"resample() for player {player} changes its info_key()",
            "info_key() must hold what the player knows and nothing else",
        )
        self.need(
            drawn.to_play == state.to_play,
            f"resample() for player {player} changes whose turn it is",
            MUTUAL,
        )
        seen = _sight(drawn, player)
        for what, now in seen.items():
            self.need(
                now == sight[what],
                f"a state that resample() draws for player {player} has another {what}",
                VIEW if what.startswith("text") else MUTUAL,
            )


def _sight(state: State, player: int) -> dict[str, Any]:
    """What a player is told of a state, at its end too."""
    return {
        "observe()": state.observe(player).tobytes(),
        "text for the player": state.view(player),
        "to_play()": state.to_play,
        "list of moves": state.legal_actions if state.to_play == player else [],
        "result": float(np.float32(state.returns[player])),
    }
