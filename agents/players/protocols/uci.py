"""A player as an engine that speaks UCI (Universal Chess Interface): chess, and moves of any game.

Positions are the game's own, "position startpos" or "position fen TEXT" with the text that the game
reads (FEN for chess), moves are written as the game writes them (chess: e2e4, e7e8q). One thread
searches and looks between two steps whether the GUI has sent a line. What cannot be understood gets
an "info string", never an exception. Tablebases, pondering and several copies are left out.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from playout import __version__
from playout.agents.players.analysis import move_texts
from playout.agents.players.player import Player
from playout.agents.players.protocols.clock import MARGIN, MOVES_LEFT, share
from playout.agents.players.protocols.lines import LineReader, cleaned
from playout.agents.players.protocols.moves import (
    in_uci,
    played_on,
    read_move,
    read_position,
    variant_of,
)
from playout.agents.players.protocols.thinking import (
    MEMORY,
    Candidate,
    Limits,
    Thinker,
    Thought,
)
from playout.envs.checks.counts import perft
from playout.envs.core.game import NativeGame, State
from playout.errors import ConfigError, IllegalActionError, PlayoutError

MAX_LINE = 1 << 16  # a long game's moves come in one line
MAX_CENTIPAWNS = 12_000
_REPORTS = 0.5  # seconds between two reports, and before the first
_NUMBERS = {
    "depth": 1_000,
    "nodes": 10**12,
    "movetime": 10**9,
    "wtime": 10**9,
    "btime": 10**9,
    "winc": 10**9,
    "binc": 10**9,
    "movestogo": 1_000,
}
_WORDS = {*_NUMBERS, "infinite", "mate"}  # of "go", where they end a list of moves


@dataclass(frozen=True, slots=True)
class Option:
    """A setting that a GUI may change, as "setoption" names it."""

    kind: str
    default: int | bool | str = ""
    low: int = 0
    high: int = 0

    def line(self, name: str) -> str:
        """How it is offered."""
        if self.kind == "button":
            return f"option name {name} type button"
        default = str(self.default).lower() if self.kind == "check" else self.default
        ends = f" min {self.low} max {self.high}" if self.kind == "spin" else ""
        choice = f" var {default}" if self.kind == "combo" else ""
        return f"option name {name} type {self.kind} default {default}{ends}{choice}"


class UciEngine:
    """Holds one position and searches it when told.

    Args:
        player: Chooses moves.
        game: A game of two players without dice.
        with_threads: The same player with so many threads, where it knows of them.

    Attributes:
        emit: Where lines for the GUI go.
        reader: Lines of the GUI, looked at during a search; None: nobody can interrupt it.
        running: Has the GUI not said "quit" yet?
    """

    def __init__(
        self,
        player: Player,
        game: NativeGame,
        *,
        with_threads: Callable[[int], Player] | None = None,
    ) -> None:
        self.game = game
        self.thinker = Thinker(player, game)
        self.emit: Callable[[str], None] = print
        self.reader: LineReader | None = None
        self.running = True
        self._with_threads = with_threads
        self._begin(game.initial_state())
        self._pondering: list[str] | None = None
        self.options: dict[str, Option] = {
            "MultiPV": Option("spin", 1, 1, 256),
            "Move Overhead": Option("spin", round(1000 * MARGIN), 0, 10_000),
            "UCI_ShowWDL": Option("check", False),
        }
        if self.thinker.searches:
            self.options |= {
                "Hash": Option("spin", MEMORY, 1, 1 << 20),
                "Clear Hash": Option("button"),
                "Simulations": Option("spin", 0, 0, self.thinker.most_simulations),
                "UCI_AnalyseMode": Option("check", False),
            }
            if with_threads is not None:
                self.options["Threads"] = Option("spin", 1, 1, 256)
        if game.name != "chess":
            self.options["UCI_Variant"] = Option("combo", variant_of(game))
        self.values = {name: option.default for name, option in self.options.items()}
        self._commands: dict[str, Callable[[list[str]], None]] = {
            "uci": self._uci,
            "debug": lambda words: None,
            "isready": lambda words: self.emit("readyok"),
            "setoption": self._setoption,
            "register": lambda words: None,
            "ucinewgame": self._ucinewgame,
            "position": self._position,
            "go": self._go,
            "stop": lambda words: self._end_pondering(False),
            "ponderhit": lambda words: self._end_pondering(True),
            "quit": self._quit,
            "d": lambda words: self.emit(f"{str(self.state).rstrip()}\n{self.state.text}"),
        }

    def take(self, line: str) -> None:
        """Does what one line says; complaints go out as "info string"."""
        words = cleaned(line, MAX_LINE).split()
        if not words:
            return
        try:
            if words[0] not in self._commands:
                raise ConfigError(f"unknown command {words[0][:40]!r}")
            self._commands[words[0]](words[1:])
        except (PlayoutError, MemoryError) as error:
            self.emit(f"info string {' '.join(str(error).split()) or 'out of memory'}")
            if words[0] == "go":
                self.emit("bestmove (none)")

    def _uci(self, words: list[str]) -> None:
        self.emit(f"id name playout {__version__} {self.thinker.player.name}")
        self.emit("id author the authors of playout")
        for name, option in self.options.items():
            self.emit(option.line(name))
        self.emit("uciok")

    def _setoption(self, words: list[str]) -> None:
        if not words or words[0] != "name" or len(words) < 2:
            raise ConfigError("write it as: setoption name NAME value VALUE")
        at = words.index("value") if "value" in words else len(words)
        given, text = " ".join(words[1:at]), " ".join(words[at + 1 :])
        name = next((one for one in self.options if one.lower() == given.lower()), None)
        if name is None:
            raise ConfigError(f"no such option: {given[:40]}")
        option = self.options[name]
        if option.kind == "spin":
            if not (text.isascii() and text.isdigit() and len(text) < 10):
                raise ConfigError(f"{name} needs a whole number, not {text[:40]!r}")
            if not option.low <= int(text) <= option.high:
                raise ConfigError(f"{name} must be from {option.low} to {option.high}, not {text}")
            self.values[name] = int(text)
        elif option.kind == "check":
            if text.lower() not in ("true", "false"):
                raise ConfigError(f"{name} must be true or false, not {text[:40]!r}")
            self.values[name] = text.lower() == "true"
        elif option.kind == "button":
            self.thinker.new_game()
        elif text.lower() != str(option.default).lower():
            raise ConfigError(f"{name} can only be {option.default}: this is an engine for it")
        if name in ("Hash", "Threads"):
            player = self.thinker.player
            if name == "Threads" and self._with_threads is not None:
                player = self._with_threads(int(self.values[name]))
            memory = int(self.values["Hash"])
            self.thinker = self.thinker.again(player, self.game, memory=memory)
        if self.thinker.searches:
            most = self.thinker.most_simulations
            self.thinker.simulations = min(int(self.values["Simulations"]), most) or None
            self.thinker.evenly = bool(self.values["UCI_AnalyseMode"])

    def _begin(self, state: State) -> None:
        self.state, self.moves = state, list[int]()
        self._from_start = True

    def _ucinewgame(self, words: list[str]) -> None:
        self._begin(self.game.initial_state())
        self.thinker.new_game()

    def _position(self, words: list[str]) -> None:
        at = words.index("moves") if "moves" in words else len(words)
        head, moves = words[:at], words[at + 1 :]
        if head[:1] == ["startpos"] and len(head) == 1:
            state = self.game.initial_state()
        elif head[:1] == ["fen"] and len(head) > 1:
            state = read_position(self.game, " ".join(head[1:]))
        else:
            raise ConfigError("write it as: position startpos|fen TEXT [moves MOVE ...]")
        actions = []
        whole, state = head[0] == "startpos", played_on(state)
        for ply, move in enumerate(moves, 1):
            try:
                if state.is_terminal:
                    raise IllegalActionError("the game is over")
                action = read_move(in_uci(state), move)
            except IllegalActionError as error:
                raise ConfigError(f"move {ply} ({move[:20]}): {error}") from None
            actions.append(action)
            after = state.apply(action)
            state = played_on(after)
            whole = whole and state is after
        self._begin(state)
        self.moves, self._from_start = actions, whole

    def _go(self, words: list[str]) -> None:
        if "ponder" in words:
            self.emit("info string pondering is not supported: ponderhit begins the search")
            self._pondering = [word for word in words if word != "ponder"]
            return
        if self.state.is_terminal:
            self.emit("info string the game is over")
            if self.game.name == "chess":  # the side to move is mated, or it is a draw
                score = "mate 0" if self.state.returns.any() else "cp 0"
                self.emit(f"info depth 0 score {score}")
            self.emit("bestmove (none)")
            return
        if "perft" in words:
            self._perft(words[words.index("perft") + 1 :])
            return
        limits, only = self._limits(words)
        due, stopped = time.monotonic() + _REPORTS, False

        def watch(now: Callable[[], Thought]) -> bool:
            nonlocal due, stopped
            if time.monotonic() >= due:
                due = time.monotonic() + _REPORTS
                self._report(now())
            stopped = self._told_to_stop(limits.endless)
            return stopped

        moves = self.moves if self._from_start else None
        thought = self.thinker.think_among(only, self.state, limits, moves=moves, watch=watch)
        self._report(thought)
        while limits.endless and not stopped:  # the tree is full; the GUI must still say "stop"
            time.sleep(0.005)
            stopped = self._told_to_stop(True)
        self.emit(f"bestmove {in_uci(self.state).action_text(thought.action)}")

    def _limits(self, words: list[str]) -> tuple[Limits, list[int]]:
        """What "go" allows, and the moves that it is restricted to, if any."""
        given: dict[str, int] = {}
        only, left = list[int](), list(words)
        endless = False
        while left:
            key = left.pop(0)
            if key == "infinite":
                endless = True
            elif key == "searchmoves":
                while left and left[0] not in _WORDS:
                    move = left.pop(0)
                    try:
                        only.append(read_move(in_uci(self.state), move))
                    except IllegalActionError:
                        raise ConfigError(f"searchmoves: {move[:20]} is no legal move") from None
            elif key in _NUMBERS:
                text = left.pop(0) if left else ""
                if not re.fullmatch(r"-?[0-9]{1,15}", text):
                    raise ConfigError(f"go: {key} needs a whole number, not {text[:20]!r}")
                given[key] = min(max(int(text), 0), _NUMBERS[key])
            else:
                # UCI: what is not known is ignored, and the rest still holds.
                self.emit(f"info string go: {key[:20]!r} is not understood")
                if key == "mate" and left:  # its number
                    left.pop(0)
        seconds = given["movetime"] / 1000 if "movetime" in given else None
        overhead = int(self.values["Move Overhead"]) / 1000
        if seconds is not None:
            seconds = max(seconds / 2, seconds - overhead)
        colour = "wb"[self.state.to_play]
        if f"{colour}time" in given:
            clock = share(
                given[f"{colour}time"] / 1000,
                given.get("movestogo", MOVES_LEFT) or MOVES_LEFT,
                given.get(f"{colour}inc", 0) / 1000,
                overhead,
            )
            seconds = clock if seconds is None else min(seconds, clock)
        nodes = given.get("nodes")
        if nodes is not None:
            nodes = min(max(1, nodes), self.thinker.most_simulations)
        depth = max(1, given["depth"]) if "depth" in given else None
        if seconds is None and depth is None and nodes is None and not endless:
            nodes = self.thinker.simulations
        return Limits(simulations=nodes, seconds=seconds, depth=depth, endless=endless), only

    def _perft(self, words: list[str]) -> None:
        """Counts lines of moves below each move, as Stockfish does."""
        if len(words) != 1 or not re.fullmatch(r"[1-9][0-9]?", words[0]):
            raise ConfigError("go perft needs a whole number from 1 to 99")
        total = 0
        for action in self.state.legal_actions:
            if self.reader is not None and (self.reader.peek()[1] or "").split() == ["stop"]:
                return
            count = perft(self.state.apply(action), int(words[0]) - 1)
            total += count
            self.emit(f"{in_uci(self.state).action_text(action)}: {count}")
        self.emit(f"\nNodes searched: {total}\n")

    def _told_to_stop(self, endless: bool) -> bool:
        """Looks whether the GUI ends the search; answers what may be answered during one."""
        while self.reader is not None:
            there, line = self.reader.peek()
            if not there:
                return False
            if line is None:  # the end of input ends only a search that would have no other end
                return endless
            words = line.split()
            if not words or words[0] in ("isready", "debug", "ponderhit"):
                self.reader.next()
                if words and words[0] == "isready":
                    self.emit("readyok")
                continue
            if words[0] == "stop":
                self.reader.next()
                return True
            # A new order while this one runs: UCI forbids it, but "quit" must not wait.
            return words[0] == "quit" or endless
        return endless

    def _end_pondering(self, search: bool) -> None:
        if self._pondering is None:
            return
        words, self._pondering = self._pondering, None
        self._go(words if search else ["nodes", "1"])

    def _quit(self, words: list[str]) -> None:
        self.running = False

    def _report(self, thought: Thought) -> None:
        milliseconds = max(1, round(1000 * thought.seconds))
        speed = round(1000 * thought.simulations / milliseconds)
        for number, one in enumerate(thought.candidates[: int(self.values["MultiPV"])], 1):
            line = move_texts(in_uci(self.state), one.pv)
            self.emit(
                f"info depth {len(line)} seldepth {len(line)} multipv {number} "
                f"score {self._score(thought, one)}{self._wdl(one.value)} "
                f"nodes {thought.simulations} nps {speed} time {milliseconds} pv {' '.join(line)}"
            )

    def _score(self, thought: Thought, one: Candidate) -> str:
        """Centipawns; where a proof's line goes on to the end, the moves to the mate."""
        if thought.proven and abs(one.value) == 1:
            state = self.state
            for action in one.pv:
                state = state.apply(action)
            if state.is_terminal:
                moves = (len(one.pv) + 1) // 2
                return f"mate {moves if one.value > 0 else -moves}"
        return f"cp {centipawns(one.value)}"

    def _wdl(self, value: float) -> str:
        if not self.values["UCI_ShowWDL"]:
            return ""
        won = min(max(round(500 * (1 + value)), 0), 1000)
        return f" wdl {won} 0 {1000 - won}"


def centipawns(value: float) -> int:
    """The expected result, -1 to 1, in centipawns: with 4 pawns winning is 10 times as likely."""
    share_won = min(max((1 + value) / 2, 1e-9), 1 - 1e-9)
    found = 400 * math.log10(share_won / (1 - share_won))
    return round(min(max(found, -MAX_CENTIPAWNS), MAX_CENTIPAWNS))


def serve(engine: UciEngine, lines: IO[str], out: IO[str]) -> None:
    """Does what lines say until `quit` or the end of input."""

    def write(text: str) -> None:
        out.write(text + "\n")
        out.flush()

    engine.emit, engine.reader = write, LineReader(lines, MAX_LINE)
    try:
        while engine.running and (line := engine.reader.next()) is not None:
            engine.take(line)
    except BrokenPipeError:  # the GUI has gone
        engine.running = False
