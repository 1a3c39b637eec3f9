"""How long to think about a move: from a clock, in the words of GTP and of UCI.

A move gets an even share of the time that is left for an assumed number of moves, less a margin for
the way to the peer and back. Whether the search keeps to it is thinking.py's part.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

MOVES_LEFT = 30  # that the rest of the time is shared between, where nobody says how many
MARGIN = 0.05  # seconds a move that the way to the peer may take
LEAST = 0.01  # seconds; even a lost clock gets a move
_INCREMENT = 0.8  # of what is added after a move that may be spent on it


@dataclass(slots=True)
class Clock:
    """One player's time in a game: with overtime, Canadian or by byo-yomi, or with an increment.

    Attributes:
        main: Seconds of main time that are left.
        period: Seconds of an overtime period; 0 where there is no overtime.
        stones: Moves of a period.
        period_left: Seconds that are left of the period under way ...
        stones_left: ... and the moves that must be made in them.
        byoyomi: A period is for one move, and begins anew where that was in time.
        increment: Seconds that are added to main time with every move.
    """

    main: float
    period: float = 0.0
    stones: int = 0
    period_left: float = 0.0
    stones_left: int = 0
    byoyomi: bool = False
    increment: float = 0.0
    _begun: float | None = None

    def set_left(self, seconds: float, stones: int) -> None:
        """What the peer says is left: of main time with 0 stones, else of a period.

        With byo-yomi, servers tell the number of periods in place of that of stones.
        """
        if stones:
            moves = 1 if self.byoyomi else stones
            self.main, self.period_left, self.stones_left = 0.0, seconds, moves
        else:
            self.main, self.stones_left = seconds, 0

    def begin(self) -> None:
        """A move begins."""
        self._begun = time.monotonic()

    def end(self) -> None:
        """The move was made: its time is taken off."""
        if self._begun is None:
            return
        spent, self._begun = time.monotonic() - self._begun, None
        main = min(spent, self.main)
        self.main += self.increment - main
        if self.main > 0:
            return
        self._enter_overtime()
        if self.stones_left <= 0:
            return
        self.period_left -= spent - main
        self.stones_left -= 1

    def seconds(self) -> float:
        """What the next move may take."""
        if self.main > 0:
            extra = self.period / self.stones if self.period and self.stones else 0.0
            return share(self.main, MOVES_LEFT, self.increment) + extra / 2
        self._enter_overtime()
        return share(self.period_left, self.stones_left) if self.stones_left > 0 else LEAST

    def _enter_overtime(self) -> None:
        # Of a period that only the peer has told of, nobody knows what the next one would be.
        if self.stones_left <= 0 and self.period:
            self.period_left, self.stones_left = self.period, max(1, self.stones)


def share(left: float, moves: int, increment: float = 0.0, margin: float = MARGIN) -> float:
    """Seconds for one of so many moves.

    Args:
        left: Seconds on the clock.
        moves: Moves that they must last for.
        increment: Seconds that come with each move.
        margin: Seconds a move that are lost on the way.
    """
    fair = left / max(1, moves) + _INCREMENT * increment - margin
    return max(LEAST, min(fair, left - margin))
