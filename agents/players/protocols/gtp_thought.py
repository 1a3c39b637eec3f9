"""What a GTP engine's player thinks of a position: in the time of a colour, and out of turn.

A colour that moves out of turn follows a pass that nobody has made. Passing after it would seem to
end the game, so that such a pass is left out as long as there is another move.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from playout.agents.players.protocols.thinking import Limits, Thought, Watch
from playout.envs.core.game import State

if TYPE_CHECKING:
    from playout.agents.players.protocols.gtp import GtpEngine


def thought_of(
    engine: GtpEngine,
    state: State,
    passed: Sequence[int],
    *,
    plays: bool,
    only: Sequence[int] = (),
    watch: Watch | None = None,
) -> Thought:
    """About a move in the time of its colour, which is spent only if the move is played.

    Args:
        engine: Whose player is asked.
        state: A position of `passed_to` ...
        passed: ... and the pass before it, if any.
        plays: Is the move going to be played?
        only: The legal moves to choose among; by default all.
        watch: Looks on, and may stop it.
    """
    clock = engine.clocks[state.to_play]
    limits = None if clock is None else Limits(seconds=clock.seconds())
    if clock is not None and plays:
        clock.begin()
    thought = untimed(engine, state, passed, limits, only=only, watch=watch)
    if clock is not None and plays:
        clock.end()
    return thought


def untimed(
    engine: GtpEngine,
    state: State,
    passed: Sequence[int],
    limits: Limits | None,
    *,
    only: Sequence[int] = (),
    watch: Watch | None = None,
) -> Thought:
    """As `thought_of`, within limits and not by a clock."""
    moves = engine.moves_to(passed)
    if passed and not only:
        return engine.thinker.think_without(passed, state, limits, moves=moves, watch=watch)
    left = [one for one in only if one not in passed] or only
    return engine.thinker.think_among(left, state, limits, moves=moves, watch=watch)
