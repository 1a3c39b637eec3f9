"""A player as an engine that speaks the Go Text Protocol, version 2, in the game's own notation.

`GtpEngine` answers lines, one command each; `serve` connects it to text streams. Moves are written
as the game writes them (Connect Four: columns 1 to 7), colours are b for the player who moves first
and w for the other. What a bad line gets is an answer that begins with "?", never an exception.
Clocks are not kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import IO

import numpy as np
from playout import __version__
from playout.agents.players.player import Player
from playout.envs.core.game import NativeGame, StateBatch
from playout.errors import ConfigError, IllegalActionError, PlayoutError

MAX_LINE = 4096
_COLOURS = {"b": 0, "black": 0, "w": 1, "white": 1}


class _Refused(Exception):
    """Becomes the text of a "?" answer."""


class GtpEngine:
    """Holds one game and answers commands.

    Args:
        player: Chooses moves for `genmove`.
        game: A game of two players without dice.

    Raises:
        ConfigError: The protocol cannot speak of such a game.
    """

    def __init__(self, player: Player, game: NativeGame) -> None:
        must_be_spoken(game)
        self.player, self.game = player, game
        self._states = [game.initial_state()]
        self.running = True
        self._commands: dict[str, Callable[[list[str]], str]] = {
            "boardsize": self._boardsize,
            "clear_board": self._clear_board,
            "final_score": self._final_score,
            "genmove": self._genmove,
            "known_command": lambda words: str(" ".join(words) in self._commands).lower(),
            "komi": lambda words: "",
            "list_commands": lambda words: "\n".join(sorted(self._commands)),
            "name": lambda words: f"playout {player.name}",
            "play": self._play,
            "protocol_version": lambda words: "2",
            "quit": self._quit,
            "showboard": lambda words: "\n" + str(self._states[-1]).rstrip(),
            "undo": self._undo,
            "version": lambda words: __version__,
        }

    def answer(self, line: str) -> str:
        """The answer to one line, its final blank line included; nothing for an empty line."""
        text = re.sub(
            r"[\x00-\x08\x0b-\x1f\x7f]", "", line.split("#", 1)[0].replace("\t", " ")
        ).strip()
        if not text:
            return ""
        words = text[:MAX_LINE].split()
        number = words.pop(0) if re.fullmatch(r"\d{1,9}", words[0]) else ""
        try:
            if not words:
                raise _Refused("a command is missing")
            if words[0] not in self._commands:
                raise _Refused("unknown command")
            return f"={number} {self._commands[words[0]](words[1:])}".rstrip() + "\n\n"
        except _Refused as refused:
            return f"?{number} {refused}\n\n"
        except PlayoutError as error:
            return f"?{number} {' '.join(str(error).split())}\n\n"

    def _colour(self, words: list[str], count: int) -> int:
        if len(words) != count or words[0].lower() not in _COLOURS:
            raise _Refused("syntax error: b or w expected" + (" and a move" if count > 1 else ""))
        colour = _COLOURS[words[0].lower()]
        if self._states[-1].is_terminal:
            raise _Refused("the game is over")
        if self._states[-1].to_play != colour:
            raise _Refused(f"it is {'bw'[self._states[-1].to_play]}'s turn")
        return colour

    def _play(self, words: list[str]) -> str:
        self._colour(words, 2)
        try:
            state = self._states[-1]
            action = state.read_action(words[1])
            self._states.append(state.apply(action))
        except IllegalActionError:
            raise _Refused("illegal move") from None
        self.player.observe(StateBatch.from_states([state]), np.array([action], np.int32))
        return ""

    def _genmove(self, words: list[str]) -> str:
        self._colour(words, 1)
        state = self._states[-1]
        action = int(self.player.act(StateBatch.from_states([state]))[0])
        self._states.append(state.apply(action))
        return state.action_text(action)

    def _undo(self, words: list[str]) -> str:
        if len(self._states) == 1:
            raise _Refused("cannot undo")
        self._states.pop()
        return ""

    def _clear_board(self, words: list[str]) -> str:
        del self._states[1:]
        return ""

    def _boardsize(self, words: list[str]) -> str:
        _, height, width = self.game.obs_shape
        if words not in ([str(width)], [str(width), str(height)]):
            raise _Refused("unacceptable size")
        return self._clear_board([])

    def _final_score(self, words: list[str]) -> str:
        if not self._states[-1].is_terminal:
            raise _Refused("the game is not over")
        first = float(self._states[-1].returns[0])
        return "0" if first == 0 else f"{'B' if first > 0 else 'W'}+{abs(first):g}"

    def _quit(self, words: list[str]) -> str:
        self.running = False
        return ""


def must_be_spoken(game: NativeGame) -> None:
    """Raises ConfigError for a game that the protocol has no words for."""
    if game.num_players != 2:
        raise ConfigError(f"the protocol is for two players, {game} has {game.num_players}")
    if game.has_chance:
        raise ConfigError(f"the protocol has no words for dice, and {game} has chance in it")


def serve(engine: GtpEngine, lines: IO[str], out: IO[str]) -> None:
    """Answers lines until `quit` or the end of input."""
    while engine.running:
        line = lines.readline(MAX_LINE + 1)
        if not line:
            return
        while len(line) > MAX_LINE and not line.endswith("\n"):  # the rest of a line too long
            line = line[:MAX_LINE] + lines.readline(MAX_LINE + 1)[-1:]
        out.write(engine.answer(line))
        out.flush()
