"""What both kinds of engines have in common: a client that follows one line of moves at a time.

A client keeps the moves that its engine has been told. Asked about another line it tells what is
missing, or begins again. The rules are ours: an answer that is no legal move here is the engine's
failure, whatever it thinks itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from playout.envs.core.game import State


class Resigned(Exception):
    """The engine gives up the game."""


class Client(Protocol):
    """One running engine.

    Attributes:
        line: The actions that it has been told, or None if that is not known.
    """

    line: list[int] | None

    def genmove(self, state: State, line: Sequence[int]) -> int:
        """The engine's move in a position.

        Args:
            state: Somebody is to move.
            line: The actions from the first position to it.

        Raises:
            EngineError: No answer in time, or none that makes a legal move.
            Resigned: It gives up.
        """
        ...

    def close(self, *, politely: bool = True) -> None:
        """Ends the engine; one that has broken down not politely."""
        ...


def shared(told: Sequence[int] | None, line: Sequence[int]) -> int:
    """How many moves two lines have in common at their beginnings; -1 where one is not known."""
    if told is None:
        return -1
    count = 0
    for one, other in zip(told, line, strict=False):
        if one != other:
            break
        count += 1
    return count
