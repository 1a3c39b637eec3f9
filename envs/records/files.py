"""Files of games by their suffix: .pgn, .sgf, .mat (backgammon), any other JSON lines.

Commands that read or write games call this; a format is a module with `append`, `read` and `load`
as in json_lines.py. Leaves out what the formats are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

from playout.envs.core.game import NativeGame, State
from playout.envs.core.registry import game as make_game
from playout.envs.game_text import read as read_form
from playout.envs.records.json_lines import GameRecord
from playout.envs.records.sgf_dialects import usual_name
from playout.errors import ConfigError, DataError, PlayoutError

# The module of this folder for each suffix, and the games that it can hold; json_lines for others.
FORMATS: dict[str, tuple[str, tuple[str, ...]]] = {
    ".mat": ("mat", ("backgammon",)),
    ".pgn": ("pgn", ("chess",)),
    ".sgf": ("sgf", ("go", "othello", "gomoku", "hex")),
}


_PICTURES = (".gif", ".webp", ".png", ".svg")


def holds_games(path: str | os.PathLike[str]) -> bool:
    """Do its name or its first bytes say that a file holds games, not lines of something else?"""
    suffix = Path(path).suffix.lower()
    return suffix in FORMATS or suffix == ".jsonl" or _begins_as_json(Path(path))


def _begins_as_json(path: Path) -> bool:
    """Whether a file begins with a JSON object, as records do, whatever their file is called."""
    try:
        if not path.is_file():  # what comes out of a pipe is there only once
            return False
        with path.open("rb") as file:
            return re.match(rb"\{\s*\"", file.read(80)) is not None
    except OSError:
        return False


def format_of(path: str | os.PathLike[str]) -> ModuleType:
    """The module that reads and writes files with this suffix."""
    name, _ = FORMATS.get(Path(path).suffix.lower(), ("json_lines", ()))
    return import_module(f"playout.envs.records.{name}")


def must_hold(path: str | os.PathLike[str], game: NativeGame) -> None:
    """Raises ConfigError if the format that the suffix stands for is one of others, or of none."""
    suffix = Path(path).suffix.lower()
    if suffix in _PICTURES:
        raise ConfigError(
            f"{path}: games are kept as moves, not as pictures: name a file that ends in .jsonl, "
            "or as docs/games.md lists"
        )
    name = usual_name(game.name, game.params)
    _, games = FORMATS.get(suffix, ("", (name,)))
    if name not in games:
        fitting = [other for other, (_, held) in FORMATS.items() if name in held]
        raise ConfigError(
            f"{suffix} files hold {', '.join(games)}, not {game.name}; "
            f"use {' or '.join([*fitting, '.jsonl'])}"
        )


def must_be_of(record: GameRecord, game: NativeGame, where: str) -> None:
    """Raises DataError if a record is of another game or another board; another komi is none."""
    own = game.name if game.origin is None else read_form(game.origin)[0]
    names = (own, game.name, usual_name(game.name, game.params))
    if record.game not in names and usual_name(record.game, record.params) not in names:
        raise DataError(f"{where} is one of {record.game}, not of {game.name}")
    if game.origin is None and record.params != game.params:
        played = make_game(record.game, **record.params)
        if (played.obs_shape, played.num_actions) != (game.obs_shape, game.num_actions):
            raise DataError(f"{where} is one of {played}, not of {game}")


def played(record: GameRecord, game: NativeGame, where: str) -> tuple[list[State], list[int]]:
    """A record's positions by the rules of `game`, which its own may differ from, and its actions.

    What comes after the end by these rules is left out: people play chess on where a draw could
    have been claimed.

    Raises:
        DataError: It is no game by these rules.
    """
    try:
        state = game.initial_state() if record.start is None else game.from_text(record.start)
        states, actions = [state], list[int]()
        for move in record.moves:
            if state.is_terminal:
                break
            actions.append(state.read_action(move))
            state = state.apply(actions[-1])
            states.append(state)
    except PlayoutError as error:
        raise DataError(f"{where} is no game of {game}: {error}") from None
    return states, actions


def append(path: str | os.PathLike[str], records: Iterable[GameRecord]) -> int:
    """Adds games to a file (made if missing): all of them, or none if anything fails.

    Returns:
        How many were added.

    Raises:
        DataError: A game that the format cannot hold, or a file whose last line is cut off.
        OSError: The disk is full, or the file cannot be written.
    """
    return int(format_of(path).append(path, records))


def read(path: str | os.PathLike[str]) -> Iterator[GameRecord]:
    """Reads games one by one; DataError names the line of the first that is not a proper one."""
    games: Iterator[GameRecord] = format_of(path).read(path)
    return games


def load(path: str | os.PathLike[str]) -> list[GameRecord]:
    """All games of a file."""
    return list(read(path))
