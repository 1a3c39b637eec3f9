"""Moves in TextArena's games: those that a text lists, and legal ones found by trying.

TextArena's games have no list of legal moves. Many print one; for the others a move of the shape of
the prompt's examples is tried on a copy of the game. Opponents that play at random live on that.
"""

import contextlib
import copy
import io
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

__all__ = ["ArenaGame", "find_move", "listed_moves"]

MAX_TRIES = 300
MAX_NUMBER = 12  # of the numbers that are tried in place of an example's
_BRACKETED, _QUOTED = re.compile(r"\[[^\[\]\n]{1,40}\]"), re.compile(r"'([^'\n]{1,40})'")
_LISTED = re.compile(
    r"(?:available|valid|legal|possible|allowed)\s+(?:moves?|actions?)[^:\n]*:\s*(.+)"
    r"|available actions are:?\s*(.+)",
    re.IGNORECASE,
)
# What of an example stands for others of its kind: numbers, squares, and X or N for a number.
_VARIABLE = re.compile(r"\d+|\b[a-h](?=\d)|\b[XN]\b")


class ArenaState(Protocol):
    """What TextArena keeps of a game."""

    current_player_id: int
    done: bool
    game_info: dict[int, dict[str, Any]]


class ArenaGame(Protocol):
    """A game of TextArena, without wrappers."""

    state: ArenaState

    def reset(self, num_players: int, seed: int | None = None) -> None:
        """Begin."""

    def get_observation(self) -> tuple[int, str | Sequence[Sequence[object]]]:
        """Whose turn it is, and what is new to that seat."""

    def step(self, action: str) -> tuple[bool, Mapping[str, object]]:
        """Take that seat's action."""

    def close(self) -> tuple[dict[int, float] | None, dict[int, dict[str, Any]] | None]:
        """Rewards and notes of each seat."""


def listed_moves(text: str) -> list[str]:
    """The moves that a game's text offers, those of its last such line; none if it lists none."""
    found: list[str] = []
    for match in _LISTED.finditer(text):
        line = match.group(1) or match.group(2)
        quoted = [f"[{move}]" for move in _QUOTED.findall(line)]
        found = _BRACKETED.findall(line) or quoted or found
    return list(dict.fromkeys(found))


def find_move(game: ArenaGame, offered: list[str], prompt: str, rng: random.Random) -> str | None:
    """A legal move drawn at random, or None where none is found.

    Args:
        game: The game, at the turn of the seat that moves; it is not changed.
        offered: Moves that the game lists for this turn.
        prompt: All that the seat has read, whose examples show the form of a move.
        rng: Draws the order in which moves are tried.
    """
    moves = list(offered)
    rng.shuffle(moves)
    tried = set(moves)
    for move in moves:
        if is_legal(game, move):
            return move
    for number, move in enumerate(_variations(prompt, rng)):
        if number >= MAX_TRIES:
            break
        if move not in tried and is_legal(game, move):
            return move
        tried.add(move)
    return None


def is_legal(game: ArenaGame, move: str) -> bool:
    """Whether a copy of the game takes the move without complaint."""
    trial = copy.deepcopy(game)
    state = trial.state
    seat, errors = state.current_player_id, getattr(state, "error_count", 0)
    kept = random.getstate()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            trial.step(move)
    except Exception:  # a game that cannot read a move does not take it
        return False
    finally:
        random.setstate(kept)
    wrong = state.game_info.get(seat, {}).get("invalid_move", False)
    repeated = state.current_player_id == seat and getattr(state, "error_count", 0) > errors
    return not wrong and not repeated


def _variations(prompt: str, rng: random.Random) -> Iterator[str]:
    """Moves like the examples in a text, in random order and without end."""
    examples = list(dict.fromkeys(_BRACKETED.findall(prompt)))
    while examples:
        example = rng.choice(examples)
        yield _VARIABLE.sub(lambda part: _other(part.group(), rng), example)


def _other(part: str, rng: random.Random) -> str:
    return rng.choice("abcdefgh") if part in "abcdefgh" else str(rng.randint(0, MAX_NUMBER))
