"""An engine that speaks GTP, as a client drives it: board, komi, moves, and taking dead stones.

Under area scoring stones that are left on the board count as alive. An engine that passes while
dead stones are left is therefore asked once more by `kgs-genmove_cleanup`, where it knows that
command: it answers with moves that take them, and passes when there are none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from playout.agents.players.external.client import Client, Resigned, shared
from playout.agents.players.external.process import EngineProcess, find_command
from playout.agents.players.external.spec import EngineSpec
from playout.agents.players.protocols.moves import PASSES, pass_action, read_move
from playout.envs.core.game import NativeGame, State
from playout.errors import EngineError, IllegalActionError

_UNDOS = 4  # moves that are taken back one by one; for more the game is begun again
_CLEANUP = "kgs-genmove_cleanup"
_COLOURS = ("b", "w")
_OTHER_WORDS = {"swap": "swap-pieces"}  # MoHex's and others' for a move, where ours is refused


class GtpClient(Client):
    """A running GTP engine, set up for a game.

    Args:
        spec: The engine.
        game: A game of two players.

    Raises:
        EngineError: It does not start, or refuses the board's size.
    """

    def __init__(self, spec: EngineSpec, game: NativeGame) -> None:
        self.game, self.timeout = game, spec.options.timeout
        self.line: list[int] | None = None
        self._process = EngineProcess(find_command(spec.command))
        try:
            self._ask("protocol_version")
            known = self._try("list_commands") or ""
            self._known = set(known.split())
            self._set_up(spec)
        except BaseException:
            self.close(politely=False)
            raise

    def _set_up(self, spec: EngineSpec) -> None:
        _, height, width = self.game.obs_shape
        size = f"{width}" if width == height else f"{width} {height}"
        if self._try(f"boardsize {size}") is None:
            raise EngineError(f"it does not play on a board of {width} x {height}")
        self._ask("clear_board")
        if "komi" in self.game.params:
            self._ask(f"komi {self.game.params['komi']:g}")
        if self.game.name == "go" and "kata-set-rules" in self._known:
            self._try("kata-set-rules tromp-taylor")
            self._try(f"kata-set-rule ko {str(self.game.params['ko']).upper()}")
            self._try(f"kata-set-rule suicide {str(bool(self.game.params['suicide'])).lower()}")
        seconds = spec.options.move_seconds
        if seconds is not None:
            exact = f"kata-time_settings byoyomi 0 {seconds:g} 1"
            if "kata-time_settings" not in self._known or self._try(exact) is None:
                self._try(f"time_settings 0 {max(1, math.ceil(seconds))} 1")  # whole seconds alone
        self.line = []

    def genmove(self, state: State, line: Sequence[int]) -> int:
        """Tells the moves that are missing, and asks for the next; a forced pass is no question."""
        legal = state.legal_actions
        if len(legal) == 1 and legal[0] == pass_action(state):
            return legal[0]
        self._follow(state.game, list(line))
        assert self.line is not None
        colour = _COLOURS[state.to_play]
        text = self._asked_move(f"genmove {colour}")
        told, self.line = self.line, None  # unknown until its answer has been understood
        passes = text.lower() in PASSES and state.game.name == "go"
        if passes and _CLEANUP in self._known and self._try("undo") is not None:
            self.line = told
            text = self._asked_move(f"{_CLEANUP} {colour}")
            self.line = None
        try:
            action = read_move(state, text)
        except IllegalActionError:
            raise EngineError(f"it played {text[:20]!r}, which is no legal move") from None
        self.line = [*told, action]
        return action

    def _asked_move(self, command: str) -> str:
        """The move by which it answers; Resigned, which changes no board, where it gives up."""
        text = self._ask(command)
        if text.lower() == "resign":
            raise Resigned
        return text

    def _follow(self, game: NativeGame, line: list[int]) -> None:
        common = shared(self.line, line)
        told = len(self.line) if self.line is not None else 0
        if common >= 0 and common < told and "undo" in self._known and told - common <= _UNDOS:
            while told > common and self._try("undo") is not None:
                told -= 1
        if common < told or common < 0:
            self._ask("clear_board")
            common = 0
        self.line = None
        state = game.from_moves(line[:common])
        for action in line[common:]:
            text = state.action_text(action)
            colour = _COLOURS[state.to_play]
            taken = self._try(f"play {colour} {text}")
            if taken is None and text in _OTHER_WORDS:
                taken = self._try(f"play {colour} {_OTHER_WORDS[text]}")
            # A forced pass goes without saying to some programs, such as GRhino.
            if taken is None and state.legal_actions != [pass_action(state)]:
                raise EngineError(f"it refused the legal move {text}")
            state = state.apply(action)
        self.line = line

    def _ask(self, command: str) -> str:
        """The answer to a command; EngineError where it is refused."""
        found, text = self._answer(command)
        if not found:
            raise EngineError(f"it answered {command.split()[0]} with '? {text[:80]}'")
        return text

    def _try(self, command: str) -> str | None:
        """The answer to a command, or None where it is refused."""
        found, text = self._answer(command)
        return text if found else None

    def _answer(self, command: str) -> tuple[bool, str]:
        lines = list[str]()
        for line in map(str.rstrip, self._process.ask(command, self.timeout)):
            if lines and not line:
                break
            # Anything before the answer is chatter, which GNU Go and others sometimes write.
            if lines or line[:1] in ("=", "?"):
                lines.append(line)
        good = lines[0][0] == "="
        lines[0] = re.sub(r"^[=?]\d*\s*", "", lines[0])
        return good, "\n".join(lines).strip()

    def close(self, *, politely: bool = True) -> None:
        """Ends the engine."""
        self.line = None
        self._process.close(politely=politely)
