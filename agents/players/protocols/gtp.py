"""A player as an engine that speaks the Go Text Protocol, version 2, in the game's own notation.

`GtpEngine` answers lines, one command each; `serve` connects it to text streams. Moves are written
as the game writes them (Go: vertices, Connect Four: columns 1 to 7), colours are b for the player
who moves first and w for the other. What a bad line gets is an answer that begins with "?", never
an exception. Handicap and scores stand in gtp_go.py, the words of analysis in gtp_analysis.py,
clocks in gtp_time.py, thoughts in gtp_thought.py, KataGo's further commands in gtp_kata.py.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from playout import __version__
from playout.agents.players.player import GivenUp, Player
from playout.agents.players.protocols import gtp_analysis, gtp_go, gtp_kata, gtp_time
from playout.agents.players.protocols.clock import Clock
from playout.agents.players.protocols.gtp_thought import thought_of
from playout.agents.players.protocols.lines import MAX_LINE, LineReader, cleaned
from playout.agents.players.protocols.moves import pass_action, read_move, remade, resized
from playout.agents.players.protocols.thinking import Thinker
from playout.envs.core.game import NativeGame, State, StateBatch
from playout.errors import ConfigError, IllegalActionError, PlayoutError

RESIGN_AFTER = 3
"""Moves in a row at which a side expects little before it resigns: one alone may be a mistake."""
_COLOURS = {"b": 0, "black": 0, "w": 1, "white": 1}


class Refused(Exception):
    """Becomes the text of a "?" answer."""


class GtpEngine:
    """Holds one game and answers commands.

    Args:
        player: Chooses moves for `genmove`.
        game: A game of two players without dice.
        remake: The same player for another size or komi; ConfigError where it cannot play that.
            By default those that can say it themselves (`for_game`).
        files: The only folder that `loadsgf` reads from; without it nothing is read.
        resign_below: A side resigns that expects less than this, from -1 to 1, at RESIGN_AFTER of
            its moves in a row; -1: never.

    Attributes:
        game: The game, as the last `boardsize` and `komi` have made it.
        states: The positions since the first one, one a move of the protocol.
        clocks: What each colour's time is, where there is a limit.
        emit: Where the lines of an analysis go while it lasts.
        interrupted: Whether the peer has sent another line, which ends an analysis.

    Raises:
        ConfigError: The protocol cannot speak of such a game.
    """

    def __init__(
        self,
        player: Player,
        game: NativeGame,
        *,
        remake: Callable[[NativeGame], Player] | None = None,
        files: Path | None = None,
        resign_below: float = -1.0,
    ) -> None:
        must_be_spoken(game)
        self.files, self.resign_below = files, resign_below
        self._remake = remake if remake is not None else self._for_game
        self._clock: Clock | None = None  # what each colour has when a game begins
        self.player, self.game, self.thinker = player, game, Thinker(player, game)
        self.reset()
        self.running = True
        self.emit: Callable[[str], None] = lambda text: None
        self.interrupted: Callable[[], bool] = lambda: True
        self._commands: dict[str, Callable[[list[str]], str]] = {
            "boardsize": self._boardsize,
            "clear_board": self._clear_board,
            "cputime": lambda words: f"{time.process_time():.3f}",
            "final_score": lambda words: gtp_go.final_score(self.state),
            "final_status_list": lambda words: gtp_go.final_status_list(self.state, words),
            "fixed_handicap": lambda words: gtp_go.fixed_handicap(self, words),
            "genmove": self._genmove,
            "get_komi": self._get_komi,
            "known_command": lambda words: str(" ".join(words) in self.offered).lower(),
            "komi": self._komi,
            "list_commands": lambda words: "\n".join(self.offered),
            "loadsgf": lambda words: gtp_go.load_sgf(self, words),
            "kata-search": self._reg_genmove,
            "name": lambda words: f"playout {self.player.name}",
            "place_free_handicap": lambda words: gtp_go.place_free_handicap(self, words),
            "play": self._play,
            "protocol_version": lambda words: "2",
            "quit": self._quit,
            "reg_genmove": self._reg_genmove,
            "set_free_handicap": lambda words: gtp_go.set_free_handicap(self, words),
            "stop": lambda words: "",  # KataGo's: any line ends an analysis
            "showboard": lambda words: "\n" + str(self.state).rstrip(),
            "time_left": lambda words: gtp_time.time_left(self, words),
            "time_settings": lambda words: gtp_time.time_settings(self, words),
            "undo": self._undo,
            "version": lambda words: __version__,
        }
        self._commands |= gtp_analysis.commands(self) | gtp_kata.commands(self)

    def answer(self, line: str) -> str:
        """The answer to one line, its final blank line included; nothing for an empty line."""
        text = cleaned(line.split("#", 1)[0])
        if not text:
            return ""
        words = text.split()
        number = words.pop(0) if re.fullmatch(r"[0-9]{1,10}", words[0]) else ""
        self._number, self._begun = number, False
        try:
            if not words:
                raise Refused("a command is missing")
            if words[0] not in self._commands:
                raise Refused("unknown command")
            found = self._commands[words[0]](words[1:])
        except (Refused, PlayoutError, MemoryError) as error:
            reason = " ".join(str(error).split()) or "out of memory"
            if self._begun:  # it cannot be refused any more: it ends here
                print(f"{words[0]}: {reason}", file=sys.stderr)
                return "\n"
            return f"?{number} {reason}\n\n"
        if self._begun:
            return f"{found}\n\n" if found else "\n"
        return f"={number} {found}".rstrip() + "\n\n"

    def show(self, line: str) -> None:
        """Sends a line of the answer under way, its head before the first one."""
        if not self._begun:
            self.emit(f"={self._number}\n")
            self._begun = True
        self.emit(f"{line}\n")

    def answer_of(self, name: str, words: list[str]) -> str:
        """What a command says, by which another one is answered."""
        return self._commands[name](words)

    @property
    def offered(self) -> list[str]:
        """Commands by name that do something; GUIs use what they find."""
        without = () if self.files is not None else ("loadsgf",)
        return sorted(set(self._commands) - set(without))

    @property
    def state(self) -> State:
        """The position."""
        return self.states[-1]

    @property
    def moves(self) -> list[int]:
        """All actions so far, those that passed for a colour out of turn included."""
        return [action for actions in self.steps for action in actions]

    def _take(self, player: Player, game: NativeGame) -> None:
        self.player, self.game, self.thinker = player, game, self.thinker.again(player, game)
        self.reset()

    def set_clocks(self, clock: Clock | None) -> None:
        """Gives each colour such a clock, now and whenever a game begins; None: no limit."""
        self._clock = clock
        self.clocks: list[Clock | None] = [
            None if clock is None else replace(clock) for _ in range(2)
        ]

    def reset(self) -> None:
        """A game begins."""
        self.set_clocks(self._clock)
        self.states = [self.game.initial_state()]
        self.steps: list[list[int]] = []  # the actions of each move: two where a colour passed
        self._low = [0, 0]  # of each side, moves in a row at which it expected little

    def begin_at(self, game: NativeGame, start: str | None, actions: list[int]) -> None:
        """Another game begins, at a position given as text or the first, and goes on by moves.

        Raises:
            ConfigError: The player cannot play that game. GameError: It has no such position.
        """
        first = game.initial_state() if start is None else game.from_text(start)
        if game != self.game:
            self._take(self._remake(game), game)
        self._clear_board([])
        self.states = [first]
        for action in actions:
            self.step([action])

    def step(self, actions: list[int]) -> None:
        """Plays legal actions that are one move of the protocol, and one to be undone."""
        self.states, self.steps = self._going_on()
        state = self.state
        for action in actions:
            self.player.observe(StateBatch.from_states([state]), np.array([action], np.int32))
            state = state.apply(action)
        self.states.append(state)
        self.steps.append(actions)

    def _going_on(self) -> tuple[list[State], list[list[int]]]:
        """Positions and steps that a move comes after; only one that is played changes them."""
        return gtp_go.resumed(self) if self.state.is_terminal else (self.states, self.steps)

    def passed_to(self, colour: int | None) -> tuple[State, list[int]]:
        """The position with a colour to move, and the pass that brings that about, if any.

        Without a colour it is that of the side to move.
        """
        state = self._going_on()[0][-1]
        if colour is None or state.to_play == colour:
            return state, []
        action = pass_action(state)
        after = None if action is None else state.apply(action)
        if action is None or after is None or after.to_play != colour:
            raise Refused(f"it is {'bw'[state.to_play]}'s turn")
        return after, [action]

    def colour(self, words: list[str], count: int) -> int:
        """Which colour the first of `count` words names: 0 or 1."""
        if len(words) != count or words[0].lower() not in _COLOURS:
            raise Refused("syntax error: b or w expected" + (" and a move" if count > 1 else ""))
        return _COLOURS[words[0].lower()]

    def _play(self, words: list[str]) -> str:
        state, passed = self.passed_to(self.colour(words, 2))
        if words[1].lower() == "resign":
            raise Refused("illegal move")
        try:
            action = read_move(state, words[1])
        except IllegalActionError:
            raise Refused("illegal move") from None
        self.step([*passed, action])
        return ""

    def moves_to(self, passed: Sequence[int]) -> list[int]:
        """All actions up to a position of `passed_to`."""
        return [action for actions in (*self._going_on()[1], passed) for action in actions]

    def _genmove(self, words: list[str]) -> str:
        state, passed = self.passed_to(self.colour(words, 1))
        try:
            thought = thought_of(self, state, passed, plays=True)
        except GivenUp:
            return "resign"
        if self.gives_up(state.to_play, thought.value):
            return "resign"
        self.step([*passed, thought.action])
        return state.action_text(thought.action)

    def gives_up(self, side: int, value: float) -> bool:
        """Whether a side resigns that expects this of the move it is about to play."""
        self._low[side] = self._low[side] + 1 if value < self.resign_below else 0
        return self._low[side] >= RESIGN_AFTER

    def _reg_genmove(self, words: list[str]) -> str:
        state, passed = self.passed_to(self.colour(words, 1))
        try:
            return state.action_text(thought_of(self, state, passed, plays=False).action)
        except GivenUp:
            return "resign"

    def _undo(self, words: list[str]) -> str:
        if len(self.states) == 1:
            raise Refused("cannot undo")
        self.states.pop()
        self.steps.pop()
        self._low = [0, 0]
        return ""

    def _clear_board(self, words: list[str]) -> str:
        self.reset()
        self.thinker.new_game()
        return ""

    def _boardsize(self, words: list[str]) -> str:
        if len(words) not in (1, 2) or not all(re.fullmatch(r"\d{1,3}", word) for word in words):
            raise Refused("syntax error: boardsize needs a whole number")
        width, height = int(words[0]), int(words[-1])
        try:
            game = resized(self.game, width, height)
            player = self.player if game == self.game else self._remake(game)
        except PlayoutError as error:
            raise Refused(f"unacceptable size: {error}") from None
        if game != self.game:
            self._take(player, game)
        return self._clear_board([])

    def _komi(self, words: list[str]) -> str:
        komi = gtp_time.number_of(words, 0, 1)
        if "komi" in self.game.params:
            self.change(komi=komi)
        return ""

    def change(self, **params: Any) -> None:
        """Other rules of the game, komi among them; the position and clocks stay.

        Raises:
            ConfigError: There are no such rules, or the player cannot play by them.
            Refused: The moves so far break them.
        """
        game = remade(self.game, **params)
        if game == self.game:
            return
        first = self.states[0]
        state = game.initial_state()
        if first != self.game.initial_state():
            state = game.from_text(first.text)
        states = [state]
        for actions in self.steps:
            for action in actions:
                if state.is_terminal or action not in state.legal_actions:
                    raise Refused("the moves so far break these rules")
                state = state.apply(action)
            states.append(state)
        steps, clocks = self.steps, self.clocks
        self._take(self._remake(game), game)
        self.states, self.steps, self.clocks = states, steps, clocks

    def _get_komi(self, words: list[str]) -> str:
        if "komi" not in self.game.params:
            raise Refused(f"{self.game.name} has no komi")
        return f"{self.game.params['komi']:g}"

    def _for_game(self, game: NativeGame) -> Player:
        """The player for another size or komi, where it is not tied to one or says how."""
        remake = getattr(self.player, "for_game", None)
        if remake is not None:
            found: Player = remake(game)
            return found
        if hasattr(self.player, "game"):
            raise ConfigError(f"{self.player.name} plays {self.game} alone")
        return self.player

    def _quit(self, words: list[str]) -> str:
        self.running = False
        return ""


def must_be_spoken(game: NativeGame) -> None:
    """Raises ConfigError for a game that the protocols have no words for."""
    if game.num_players != 2:
        raise ConfigError(f"the protocol is for two players, {game} has {game.num_players}")
    if game.has_chance:
        raise ConfigError(f"the protocol has no words for dice, and {game} has chance in it")
    if game.hidden:
        raise ConfigError(f"the protocol shows all, and players of {game} do not see all")


def serve(engine: GtpEngine, lines: IO[str], out: IO[str]) -> None:
    """Answers lines until `quit` or the end of input."""

    def write(text: str) -> None:
        out.write(text)
        out.flush()

    reader = LineReader(lines, MAX_LINE)
    engine.emit, engine.interrupted = write, lambda: reader.waiting
    try:
        while engine.running and (line := reader.next()) is not None:
            write(engine.answer(line))
    except BrokenPipeError:  # the peer has gone
        engine.running = False
