"""`Counts`: what self-play did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """What self-play did: sums over groups and rounds.

    Attributes:
        moves: that a search has chosen.
        games: that are over ...
        plies: ... and the moves that were made in them.
        evaluations: questions that searches asked their evaluators.
        simulations: of all searches.
        first_wins: games that ended well for the first player ...
        draws: ... and with 0 for that player.
        proven: games that a search's proof ended.
        chance: outcomes drawn at chance nodes of games in play.
        first_return: the first player's results, summed up.
        resigned: games that a side has given up.
        resign_checked: games that a side would have given up, but that were played on ...
        resign_wrong: ... and that this side did not lose.
    """

    moves: int = 0
    games: int = 0
    plies: int = 0
    evaluations: int = 0
    simulations: int = 0
    first_wins: int = 0
    draws: int = 0
    proven: int = 0
    chance: int = 0
    first_return: float = 0.0
    resigned: int = 0
    resign_checked: int = 0
    resign_wrong: int = 0

    def add(self, other: Counts) -> None:
        """Adds another part's counts."""
        for name in Counts.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def metrics(self, examples: int) -> dict[str, float]:
        """Shares and means of a part of self-play that brought so many examples."""
        games, moves = max(self.games, 1), max(self.moves, 1)
        found = {
            "selfplay/examples": float(examples),
            "selfplay/game_length": self.plies / games,
            "selfplay/first_player_wins": self.first_wins / games,
            "selfplay/draws": self.draws / games,
            "search/evaluations_per_move": self.evaluations / moves,
            "search/proven_share": self.proven / moves,
        }
        if self.resigned or self.resign_checked:
            found["selfplay/resigned"] = self.resigned / games
        if self.resign_checked:
            found["selfplay/resigned_wrongly"] = self.resign_wrong / self.resign_checked
        return found

    def values(self) -> list[float]:
        """All of them as numbers, in the order of their names above."""
        return [float(getattr(self, name)) for name in Counts.__slots__]

    @staticmethod
    def of(values: Iterable[float]) -> Counts:
        """What `values` gave, or a sum of such."""
        counts = Counts()
        for name, value in zip(Counts.__slots__, values, strict=True):
            setattr(counts, name, type(getattr(counts, name))(value))
        return counts

    def state_dict(self) -> dict[str, int | float]:
        """All of them by name."""
        return {name: getattr(self, name) for name in Counts.__slots__}

    @staticmethod
    def from_state(state: Mapping[str, int | float]) -> Counts:
        """What `state_dict` gave; other versions may hold fewer counts, or more."""
        counts = Counts()
        for name in set(Counts.__slots__) & state.keys():
            setattr(counts, name, state[name])
        return counts
