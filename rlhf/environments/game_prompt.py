"""A position of any game as a prompt, and an answer as a move, from the game's table alone.

What wins is the game's own word (`NativeGame.goal`). What else a prompt says of the rules (players,
their marks, how moves are written) is found by looking at what the game's texts do in a few random
games, so that it holds for compiled games, games in Python and capsules alike. A player sees its
own view. Legal moves are named on request only.
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from playout.envs.core.game import NativeGame, State
from playout.errors import IllegalActionError

__all__ = ["MOST_TOLD", "GamePrompt", "marks"]

MOST_TOLD = 64
"""Moves of a game of which answers say, before the move, what each leads to."""
_LOOKS = 6  # random games in which marks are looked for
_LOOKED_PLIES = 40  # of each
_LONGEST = 40  # characters of a move
_AROUND = " \t\r\n.,:;!?\"'`*_()[]{}<>"
_WORD = re.compile(r"[^\s]+")


@lru_cache(maxsize=64)
def marks(game: NativeGame) -> tuple[str, ...] | None:
    """The letter that each player adds to the board, such as ("X", "O"), or None.

    None where boards do not tell: moves bring no letter, or several.
    """
    gains: list[Counter[str]] = [Counter() for _ in range(game.num_players)]
    moves = [0] * game.num_players
    for number in range(_LOOKS):
        state = game.initial_state()
        for ply in range(min(game.max_plies, _LOOKED_PLIES)):
            state = state.resolve_chance(number, stream=ply)
            player = state.to_play
            if player < 0:
                break
            actions = state.legal_actions
            after = state.apply(actions[(7 * number + 5 * ply) % len(actions)])
            before, then = Counter(str(state)), Counter(str(after))
            moves[player] += 1
            for letter in then:
                if letter.isalpha() and then[letter] > before[letter]:
                    gains[player][letter] += 1
            state = after
    found = []
    for player, gained in enumerate(gains):
        own = [letter for letter, count in gained.items() if count == moves[player] > 0]
        if len(own) != 1 or any(own[0] in one for p, one in enumerate(gains) if p != player):
            return None
        found.append(own[0])
    return tuple(found) if len(found) > 1 else None


@lru_cache(maxsize=64)
def introduction(game: NativeGame, *, goal: bool = True) -> str:
    """A few sentences about a game: players, what wins if `goal`, how a move is written."""
    names = marks(game)
    if game.num_players == 1:
        players = "a game for one player"
    else:
        players = f"a game of {game.num_players} players"
        if names:
            are = [f"player {number} is {name}" for number, name in enumerate(names, 1)]
            players += f": {', '.join(are)}"
    wins = f" {game.goal}" if goal and game.goal else ""
    hidden = " You see your own part only." if game.hidden else ""
    state = game.initial_state().resolve_chance(0)
    some = state.legal_actions
    moves = [state.action_text(one) for one in dict.fromkeys((some[0], some[-1]))]
    return f"{game}, {players}.{wins}{hidden} A move is written like {' or '.join(moves)}."


@dataclass(frozen=True, slots=True)
class GamePrompt:
    """How positions are shown and answers are read.

    Attributes:
        game: The game.
        rules: Begin with sentences about the game.
        legal_moves: Name the legal moves.
        find: Take an answer's last word that is a legal move, for policies that talk; else the
            whole answer must be a move, marks around it aside.
        goal: With `rules`: say what wins, too, where the game says it.
        own: Show every player its own stones as the first player's, where two players have a
            letter each; who moves is then said by number.
    """

    game: NativeGame
    rules: bool = True
    legal_moves: bool = False
    find: bool = False
    goal: bool = True
    own: bool = False

    @property
    def told(self) -> int:
        """Of how many moves an answer may say what they lead to, a token each."""
        count: int = self.game.num_actions
        return count if self.find and count <= MOST_TOLD else 0

    def __call__(self, state: State) -> str:
        """The prompt for the side to move; it ends where the move is to be written."""
        lines = [introduction(self.game, goal=self.goal)] if self.rules else []
        names = self._own_names()
        if lines and names:
            lines[0] += f" The side to move is shown as {names[0]}."
        lines += [self._board(state)]
        if self.legal_moves:
            lines.append(f"Legal moves: {' '.join(self.answers(state))}")
        return "\n".join([*lines, f"{self.side(state)}:"])

    def _own_names(self) -> tuple[str, ...] | None:
        names = marks(self.game) if self.own else None
        return names if names is not None and len(names) == 2 else None

    def _board(self, state: State) -> str:
        """The board, in the letters of whoever is to move."""
        text = state.view().strip("\n")
        names = self._own_names() if state.to_play == 1 else None
        if names is None:
            return text
        return text.translate(str.maketrans("".join(names), "".join(reversed(names))))

    def side(self, state: State) -> str:
        """Who is to move, such as "X to move"."""
        names = None if self._own_names() else marks(self.game)
        if self.game.num_players == 1:
            return "Your move"
        player = state.to_play
        return f"{names[player] if names else f'Player {player + 1}'} to move"

    def answers(self, state: State) -> list[str]:
        """The legal moves in the game's notation."""
        return [state.action_text(action) for action in state.legal_actions]

    def answer(self, state: State, action: int) -> str:
        """A move as a plain text goes on with it: after a blank."""
        return f" {state.action_text(action)}"

    def read(self, state: State, answer: str) -> int | None:
        """The legal action that an answer names, or None; any text may be given."""
        whole = answer.strip()
        words = [whole, whole.strip(_AROUND)]
        if self.find:
            words += [word.strip(_AROUND) for word in reversed(_WORD.findall(answer))]
        return next((a for word in words if (a := legal_action(state, word)) is not None), None)


def legal_action(state: State, text: str) -> int | None:
    """The legal action that a text is the notation of, or None."""
    if not 0 < len(text) <= _LONGEST or not text.isprintable():
        return None
    try:
        action = state.read_action(text)
    except IllegalActionError:
        return None
    return action if action in state.legal_actions else None
