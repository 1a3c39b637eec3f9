"""A person at the terminal as a player: sees the board, is asked, can play legal moves only.

Besides moves it understands "hint", "undo", "help" and "quit"; undo and quit reach the game's loop
as exceptions, since only the loop (terminal.py) knows the moves before.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from playout.agents.players.player import Actions, Player
from playout.agents.players.protocols.moves import read_move
from playout.envs.core.game import State, StateBatch, possible_moves
from playout.errors import IllegalActionError


class Quit(Exception):
    """The person does not want to go on."""


class Undo(Exception):
    """The person wants the last own move back."""


class HumanPlayer(Player):
    """Asks a person.

    Args:
        ask: Prints its argument and returns a line; EOFError is taken as "quit".
        show: Prints a text.
        hint: Says something helpful about a position.
        name: What tables call the person.
    """

    def __init__(
        self,
        *,
        ask: Callable[[str], str] = input,
        show: Callable[[str], None] = print,
        hint: Callable[[State], str] | None = None,
        name: str = "human",
    ) -> None:
        self.name = name
        self._ask, self._show, self.hint = ask, show, hint

    def reset(self, seed: int) -> None:
        """A person forgets nothing."""

    def act(self, states: StateBatch) -> Actions:
        """Asks for a move in each position."""
        return np.array([self._move(state) for state in states], np.int32)

    def _move(self, state: State) -> int:
        shown = possible_moves(state)
        while True:
            try:
                line = self._ask(f"Your move ({shown}): ").strip()
            except EOFError:
                raise Quit from None
            word = line.lower()
            if word in ("q", "quit", "exit"):
                raise Quit
            if word in ("u", "undo"):
                raise Undo
            if word in ("h", "hint"):
                self._show(self.hint(state) if self.hint is not None else "There is nobody to ask.")
            elif word in ("?", "help"):
                self._show(f"Type a move: {shown}. Or: hint, undo, quit.")
            elif line:
                try:
                    return read_move(state, line)
                except IllegalActionError:
                    self._show(
                        f"{line[:40]} cannot be played now; possible are {shown}."
                        if _is_move(state, line)
                        else f"{line[:40]!r} is not a move; type one of {shown}, or hint, undo, "
                        "quit."
                    )


def _is_move(state: State, line: str) -> bool:
    """Whether the words name an action that could be played elsewhere."""
    try:
        state.read_action(line)
    except IllegalActionError:
        return False
    return True
