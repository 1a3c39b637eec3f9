"""GTP's clocks: Canadian time as the protocol has it, and the kinds that servers and KataGo name.

Both colours begin with the same time. Left out: how much of it a move gets (clock.py).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from playout.agents.players.protocols.clock import Clock
from playout.errors import GameError

if TYPE_CHECKING:
    from playout.agents.players.protocols.gtp import GtpEngine

LONGEST = 10_000_000  # seconds
KINDS = {"none": 0, "absolute": 1, "byoyomi": 3, "canadian": 3, "fischer": 2}
"""Kinds of clocks, and how many numbers each needs: main time, a period or increment, a count."""


def number_of(words: list[str], index: int, count: int) -> float:
    """One of `count` numbers that a command needs; GameError if they are something else."""
    what = "a number" if count == 1 else f"{count} words"
    if len(words) != count:
        raise GameError(f"syntax error: {what} expected")
    try:
        found = float(words[index])
    except ValueError:
        found = math.nan
    if not math.isfinite(found) or len(words[index]) > 30:
        raise GameError(f"syntax error: {words[index][:30]!r} is not a number")
    return found


def _times(words: list[str], count: int) -> list[float]:
    found = [number_of(words, index, count) for index in range(count)]
    if found and (min(found) < 0 or max(found) > LONGEST):
        raise GameError(f"syntax error: times must be from 0 to {LONGEST}")
    return found


def time_settings(engine: GtpEngine, words: list[str]) -> str:
    """Main time, the length of an overtime period, and the stones of one."""
    main, period, stones = _times(words, 3)
    if period and not stones:  # the protocol's way to say "no limit"
        engine.set_clocks(None)
    else:
        engine.set_clocks(Clock(main, period, int(stones)))
    return ""


def by_kind(engine: GtpEngine, words: list[str]) -> str:
    """A kind of clock and its numbers."""
    kind = words[0].lower() if words else ""
    if kind not in KINDS:
        raise GameError(f"syntax error: one of {', '.join(KINDS)} expected")
    main, period, count = [*_times(words[1:], KINDS[kind]), 0.0, 0.0, 0.0][:3]
    if KINDS[kind] == 3 and (not count >= 1 or not period > 0):
        raise GameError("syntax error: overtime needs seconds and a count")
    if kind == "none":
        engine.set_clocks(None)
    elif kind == "fischer":
        engine.set_clocks(Clock(main, increment=period))
    elif kind == "byoyomi":
        engine.set_clocks(Clock(main, period, 1, byoyomi=True))
    else:
        engine.set_clocks(Clock(main, period, int(count)))
    return ""


def time_left(engine: GtpEngine, words: list[str]) -> str:
    """A colour, the seconds that it has, and the stones for which they are, 0 in main time."""
    if len(words) != 3:
        raise GameError("syntax error: a colour, seconds and stones expected")
    colour = engine.colour(words[:1], 1)
    seconds, stones = number_of(words, 1, 3), number_of(words, 2, 3)
    if not 0 <= stones <= LONGEST or abs(seconds) > LONGEST:
        raise GameError(f"syntax error: times must be from 0 to {LONGEST}")
    clock = engine.clocks[colour] or Clock(0.0)
    clock.set_left(max(seconds, 0.0), int(stones))
    engine.clocks[colour] = clock
    return ""
