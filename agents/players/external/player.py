"""Engines as a player of matches: `ExternalPlayer` asks a few copies of one program at once.

Each copy follows games one after the other and is told what it has missed. A copy that breaks down
(no answer in time, an illegal move, its end) has lost the game in which it did and is replaced; a
match that should rather stop gets an error. How copies are spoken to stands in gtp.py and uci.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from playout.agents.players.external.client import Client, Resigned, shared
from playout.agents.players.external.gtp import GtpClient
from playout.agents.players.external.spec import (
    DEFAULT_ENGINES,
    EngineOptions,
    EngineSpec,
    read_spec,
)
from playout.agents.players.external.uci import UciClient
from playout.agents.players.player import Actions, Forfeit, LinePlayer, must_be_positions
from playout.agents.players.protocols.gtp import must_be_spoken
from playout.cores import usable_cores
from playout.envs.core.game import NativeGame
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError, DataError, EngineError

_CLIENTS = {"gtp": GtpClient, "uci": UciClient}


class ExternalPlayer(LinePlayer):
    """Another program.

    Args:
        spec: "gtp:COMMAND" or "uci:COMMAND", with settings or without; see spec.py.
        game: A game of two players without dice. It must start, and play it.
        options: How it is treated, where the spec does not say.

    Raises:
        ConfigError: It cannot be started, or does not play this game.
    """

    def __init__(
        self, spec: str, game: NativeGame, options: EngineOptions = DEFAULT_ENGINES
    ) -> None:
        must_be_spoken(game)
        self.name, self.game = spec, game
        self.spec: EngineSpec = read_spec(spec, options)
        self._clients: list[Client | None] = [None] * (
            self.spec.options.processes or usable_cores()
        )
        self._ending = False  # set while copies work: no further row is begun, no copy started
        try:
            self._client(0)
        except (EngineError, ConfigError) as error:
            raise ConfigError(f"{spec}: {error}") from None

    def reset(self, seed: int) -> None:
        """New games begin; programs have seeds of their own, if any."""

    def act(self, states: StateBatch) -> Actions:
        """Moves in positions whose lines nobody knows: the first one, and any in chess.

        Raises:
            DataError: A position that the program cannot be told.
            EngineError: It broke down, or gave up.
        """
        must_be_positions(states, self.name, self.game)
        self._ending, start = False, self.game.initial_state()
        moves = []
        for state in states:
            client = self._client(0)
            try:
                if state == start:
                    moves.append(client.genmove(state, []))
                elif isinstance(client, UciClient) and self.game.name == "chess":
                    moves.append(client.genmove_from_text(state))
                else:
                    raise DataError(f"{self.name} must be told all moves that led to a position")
            except (EngineError, Resigned) as error:
                self._drop(0)
                raise EngineError(f"{self.name}: {error or 'it resigned'}") from None
        return np.array(moves, np.int32)

    def act_after(
        self, states: StateBatch, lines: Sequence[Sequence[int]]
    ) -> tuple[Actions, dict[int, Forfeit]]:
        """As `LinePlayer.act_after`: positions are spread over the copies of the program."""
        must_be_positions(states, self.name, self.game)
        actions, forfeits = np.full(len(states), -1, np.int32), dict[int, Forfeit]()
        parts, stops = self._spread(lines), self.spec.options.on_failure == "stop"
        self._ending = False

        def work(number: int) -> None:
            for row in parts[number]:
                if self._ending:
                    return
                found = self._move(number, states, row, list(lines[row]))
                if isinstance(found, Forfeit):
                    forfeits[row] = found
                    self._ending = self._ending or (stops and found.failed)
                else:
                    actions[row] = found

        busy = [number for number, rows in enumerate(parts) if rows]
        if len(busy) <= 1:
            for number in busy:
                work(number)
        else:
            with ThreadPoolExecutor(len(busy)) as pool:
                try:
                    list(pool.map(work, busy))
                except BaseException:  # such as Ctrl-C: nobody waits for the other copies
                    self._ending = True
                    for number in busy:
                        self._drop(number)
                    raise
        failed = [row for row, one in forfeits.items() if one.failed]
        if failed and stops:
            row = min(failed)
            raise EngineError(f"{self.name}: {forfeits[row].reason} (in {states[row].text[:100]})")
        return actions, forfeits

    def _spread(self, lines: Sequence[Sequence[int]]) -> list[list[int]]:
        """Rows for each copy: those whose line it follows already, the others evenly."""
        parts: list[list[int]] = [[] for _ in self._clients]
        most = -(-len(lines) // len(parts))
        left = list[int]()
        for row, line in enumerate(lines):
            told = [one.line if one is not None else None for one in self._clients]
            fits = [
                number
                for number, known in enumerate(told)
                if known and shared(known, line) == len(known) and len(parts[number]) < most
            ]
            if fits:
                parts[max(fits, key=lambda number: len(told[number] or []))].insert(0, row)
            else:
                left.append(row)
        for row in left:
            min(parts, key=len).append(row)
        return parts

    def _move(self, number: int, states: StateBatch, row: int, line: list[int]) -> int | Forfeit:
        try:
            return self._client(number).genmove(states[row], line)
        except Resigned:
            return Forfeit("resigned", failed=False)
        except (EngineError, ConfigError) as error:
            self._drop(number)
            return Forfeit(str(error))

    def _client(self, number: int) -> Client:
        client = self._clients[number]
        if client is None and self._ending:
            raise EngineError("the games have been stopped")
        if client is None:
            client = self._clients[number] = _CLIENTS[self.spec.protocol](self.spec, self.game)
        return client

    def _drop(self, number: int, *, politely: bool = False) -> None:
        client, self._clients[number] = self._clients[number], None
        if client is not None:
            client.close(politely=politely)

    def close(self) -> None:
        """Ends all copies; asked again, it starts new ones."""
        for number in range(len(self._clients)):
            self._drop(number, politely=True)
