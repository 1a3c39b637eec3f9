"""An engine that speaks UCI, as a client drives it: options, positions, moves.

Chess is played as it is; other games where the engine offers the variant (protocols/moves.py).
Without a limit of its own an engine has 0.1 seconds a move. The options that a person gives are
checked against those that the engine offers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from playout.agents.players.analysis import move_texts
from playout.agents.players.external.client import Client, Resigned
from playout.agents.players.external.process import EngineProcess, find_command
from playout.agents.players.external.spec import EngineSpec
from playout.agents.players.protocols.moves import in_uci, read_move, variant_of
from playout.envs.core.game import NativeGame, State
from playout.errors import ConfigError, EngineError, IllegalActionError, likely_names

MOVE_SECONDS = 0.1
_OPTION = re.compile(
    r"option name (?P<name>.+?) type (?P<kind>check|spin|combo|button|string)(?P<rest>.*)"
)


class UciClient(Client):
    """A running UCI engine, set up for a game.

    Args:
        spec: The engine.
        game: A game of two players.

    Raises:
        EngineError: It does not start.
        ConfigError: It does not play this game, or has no such option.
    """

    def __init__(self, spec: EngineSpec, game: NativeGame) -> None:
        self.game, self.timeout = game, spec.options.timeout
        self.line: list[int] | None = None
        seconds = spec.options.move_seconds or MOVE_SECONDS
        limits = spec.limits or {"movetime": max(1, round(1000 * seconds))}
        self._go = "go " + " ".join(f"{name} {value}" for name, value in limits.items())
        self._options: dict[str, tuple[str, str]] = {}  # name -> (type, all that follows)
        self._process = EngineProcess(find_command(spec.command))
        try:
            for line in self._talk("uci", "uciok"):
                found = _OPTION.match(line)
                if found:
                    self._options[found["name"]] = (found["kind"], found["rest"])
            settings = dict(spec.settings)
            if "UCI_Elo" in settings:  # without this it has no effect
                settings = {"UCI_LimitStrength": "true", **settings}
            if game.name != "chess":
                settings = {"UCI_Variant": self._variant_name(), **settings}
            for name, value in settings.items():
                self._process.send(self._setting(name, value))
            self._talk("isready", "readyok")
        except BaseException:
            self.close(politely=False)
            raise

    def _variant_name(self) -> str:
        """Of the game, which the engine must offer."""
        name = variant_of(self.game)
        _, rest = self._options.get("UCI_Variant", ("", ""))
        if name not in re.findall(r"(?:default|var) (\S+)", rest):
            raise ConfigError(f"the engine does not offer {self.game} (UCI_Variant {name})")
        return name

    def _setting(self, name: str, value: str) -> str:
        """The line that sets an option; ConfigError where the engine has none like it."""
        known = {one.lower(): one for one in self._options}
        if name.lower() not in known:
            close = likely_names(name.lower(), known)
            hint = f"; did you mean {known[close[0]]}?" if close else ""
            raise ConfigError(f"the engine has no option {name!r}{hint}")
        name = known[name.lower()]
        kind, rest = self._options[name]
        if kind == "spin":
            ends = {end: int(n) for end, n in re.findall(r"\b(min|max) (-?\d{1,18})\b", rest)}
            if not re.fullmatch(r"-?\d{1,18}", value):
                raise ConfigError(f"the option {name} needs a whole number, not {value!r}")
            if not ends.get("min", int(value)) <= int(value) <= ends.get("max", int(value)):
                raise ConfigError(
                    f"the option {name} must be from {ends.get('min')} to {ends.get('max')}, "
                    f"not {value}"
                )
        elif kind == "check" and value not in ("true", "false"):
            raise ConfigError(f"the option {name} must be true or false, not {value!r}")
        elif kind == "button":
            return f"setoption name {name}"
        return f"setoption name {name} value {value}"

    def genmove(self, state: State, line: Sequence[int]) -> int:
        """Tells the position, and asks for a move."""
        if self.line is None or list(line[: len(self.line)]) != self.line:
            self._process.send("ucinewgame")
            self._talk("isready", "readyok")
        self.line = None  # unknown until its answer has been understood
        words = move_texts(in_uci(self.game.initial_state()), line)
        return self._best(
            state, f"position startpos{' moves ' if words else ''}{' '.join(words)}", line
        )

    def genmove_from_text(self, state: State) -> int:
        """The move in a position whose line nobody knows, by the game's own text (FEN)."""
        self.line = None
        self._process.send("ucinewgame")
        return self._best(state, f"position fen {state.text}", None)

    def _best(self, state: State, position: str, line: Sequence[int] | None) -> int:
        self._process.send(position)
        words = self._talk(self._go, "bestmove")[-1].split()
        text = words[1] if len(words) > 1 else ""
        if text in ("(none)", "resign"):
            raise Resigned
        try:
            action = read_move(in_uci(state), text)
        except IllegalActionError:
            raise EngineError(f"it played {text[:20]!r}, which is no legal move") from None
        self.line = None if line is None else [*line, action]
        return action

    def _talk(self, command: str, end: str) -> list[str]:
        """All lines after a command, up to the one that begins with the word `end`."""
        lines = list[str]()
        for line in map(str.strip, self._process.ask(command, self.timeout)):
            lines.append(line)
            if line.split(" ")[0] == end:
                break
        return lines

    def close(self, *, politely: bool = True) -> None:
        """Ends the engine."""
        self.line = None
        self._process.close(politely=politely)
