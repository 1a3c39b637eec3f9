"""Plays many games to their end at once, whoever sits where: any number of players, and dice.

Every unfinished game moves one ply at a time through `Player.act`, so that searches and networks
work in batches. Dice are drawn from streams of their own: games of one opening meet the same luck
as long as they run alike. Work can be stopped between two moves. A player that forfeits has
lost its game there. Who meets whom is the caller's part (arena.py, tables.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from playout.agents.players.player import Forfeit, Player, choose, results_without
from playout.agents.rating.games import PlayedGame
from playout.envs.core.game import CHANCE, TERMINAL, NativeGame
from playout.envs.core.state_batch import StateBatch
from playout.errors import GameError, StoppedError

_TIMED_GAMES = 64  # random games that tell how long a game usually is ...
_TIMED_SLOW_GAMES = 8  # ... and fewer where the rules run at Python's speed

Lengths = npt.NDArray[np.int64]
"""Plies of each game, [rows]."""

Progress = Callable[[Lengths, npt.NDArray[np.bool_]], None]
"""Told after every ply how long the games are, and which go on."""


def play_games(
    game: NativeGame,
    players: Sequence[Player],
    seats: npt.ArrayLike,
    openings: Sequence[Sequence[int]],
    numbers: Sequence[int],
    *,
    seed: int,
    on_ply: Progress | None = None,
    on_games: Callable[[list[PlayedGame]], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> list[PlayedGame]:
    """Plays one game a row.

    Args:
        game: The game, of P players.
        players: Who takes part; names differ.
        seats: Integers [rows, P]: which of the players sits where.
        openings: The actions that each game begins with, [rows].
        numbers: The number of each row's opening, [rows]; rows of one number throw the same dice.
        seed: Of dice.
        on_ply: Told after every ply.
        on_games: Told games as they end.
        stop: Asked before every ply.

    Raises:
        GameError: A player that plays what is not legal, or a game that does not end.
        StoppedError: `stop` said so; the games are lost.
    """
    sitting = np.asarray(seats)
    rows = np.arange(len(sitting))
    moves = [list(opening) for opening in openings]
    states = StateBatch.from_states([game.from_moves(list(opening)) for opening in openings])
    streams = np.asarray(numbers, np.uint64)
    forfeits: dict[int, tuple[int, Forfeit]] = {}  # row -> the seat that has lost, and why
    given_up = np.zeros(len(sitting), bool)
    ended: dict[int, PlayedGame] = {}

    def tell(over: npt.NDArray[np.bool_]) -> None:
        new = [row for row in np.flatnonzero(over).tolist() if row not in ended]
        if not new:
            return
        returns = states[new].returns()
        for row, values in zip(new, returns, strict=True):
            if row in forfeits:
                values[:] = results_without(len(values), forfeits[row][0])
            ended[row] = PlayedGame(
                players=tuple(players[seat].name for seat in sitting[row].tolist()),
                moves=tuple(moves[row]),
                opening=int(numbers[row]),
                returns=tuple(values.tolist()),
                forfeit=forfeits.get(row),
            )
        if on_games is not None:
            on_games([ended[row] for row in new])

    tell(states.is_terminal())
    ply = 0
    while (going := ~states.is_terminal() & ~given_up).any():
        if stop is not None and stop():
            raise StoppedError("games were stopped before their end")
        if ply > game.max_plies:
            row = int(np.flatnonzero(going)[0])
            raise GameError(
                f"{game}: a game goes on for more than its max_plies {game.max_plies}, "
                f"in {states[row].text[:200]!r}"
            )
        turn = np.where(given_up, TERMINAL, states.to_play())
        dice = np.flatnonzero(turn == CHANCE)
        if len(dice):
            drawn = states[dice].random_actions(seed, streams=streams[dice], counter=ply)
            _play(states, moves, dice, drawn)
        mover = sitting[rows, np.maximum(turn, 0)]
        for index, player in enumerate(players):
            chosen = np.flatnonzero((turn >= 0) & (mover == index))
            if not len(chosen):
                continue
            lines = [moves[row] for row in chosen.tolist()]
            actions, lost = _actions_of(player, states[chosen], lines)
            if lost:
                for place, forfeit in lost.items():
                    row = int(chosen[place])
                    forfeits[row], given_up[row] = (int(turn[row]), forfeit), True
                kept = np.setdiff1d(np.arange(len(chosen)), list(lost))
                chosen, actions = chosen[kept], actions[kept]
            positions = states[chosen]
            _play(states, moves, chosen, actions)
            for other, listener in enumerate(players):
                hears = (sitting[chosen] == other).any(axis=1)
                if other != index and hears.any():
                    heard = np.flatnonzero(hears)
                    listener.observe(positions[heard], actions[heard])
        ply += 1
        over = states.is_terminal() | given_up
        tell(over)
        if on_ply is not None:
            on_ply(np.array([len(line) for line in moves]), ~over)
    return [ended[row] for row in rows.tolist()]


def _play(
    states: StateBatch,
    moves: list[list[int]],
    rows: npt.NDArray[np.int64],
    actions: npt.NDArray[np.int32],
) -> None:
    """Plays in some rows, and notes it."""
    for row, action in zip(rows.tolist(), actions.tolist(), strict=True):
        moves[row].append(action)
    everywhere = np.zeros(len(states), np.int32)
    everywhere[rows] = actions
    states.apply(everywhere, where=rows)


def _actions_of(
    player: Player, states: StateBatch, lines: Sequence[Sequence[int]]
) -> tuple[npt.NDArray[np.int32], dict[int, Forfeit]]:
    """What a player chooses, checked: its mistakes carry its name; and the rows it forfeits."""
    found, forfeits = choose(player, states, lines)
    actions = np.asarray(found)
    if actions.shape != (len(states),) or actions.dtype.kind not in "iu":
        raise GameError(
            f"player {player.name} gave {actions.dtype} {actions.shape} for {len(states)} positions"
        )
    mask = states.legal_mask()
    inside = (actions >= 0) & (actions < mask.shape[1])
    illegal = ~inside | (mask[np.arange(len(states)), np.where(inside, actions, 0)] == 0)
    illegal[list(forfeits)] = False
    if illegal.any():
        row = int(np.flatnonzero(illegal)[0])
        raise GameError(
            f"player {player.name} chose action {actions[row]}, which is illegal in "
            f"{states[row].text!r}"
        )
    return actions.astype(np.int32), forfeits


def usual_plies(game: NativeGame) -> float:
    """The mean length of random games: players' own are rarely much shorter or longer."""
    return _usual_plies(game.capsule, game)


@lru_cache(maxsize=8)
def _usual_plies(_rules: object, game: NativeGame) -> float:
    """The same, remembered; two games of one's own may be called alike, but have other rules."""
    count = _TIMED_SLOW_GAMES if game.calls_python else _TIMED_GAMES
    states, total = game.batch(count), 0
    for ply in range(game.max_plies):
        actions = states.random_actions(0, counter=ply)
        going = actions >= 0
        if not going.any():
            break
        states.apply(actions, where=going)
        total += int(going.sum())
    return total / count


class ShareDone:
    """Counts games that run: each by the share of a usual game that it has lasted."""

    def __init__(self, game: NativeGame, opening: int, tell: Callable[[float], None]) -> None:
        self.opening, self.tell = opening, tell
        self.usual = usual_plies(game) - opening
        self.before = 0
        """Games of earlier batches."""

    def __call__(self, lengths: Lengths, going: npt.NDArray[np.bool_]) -> None:
        """As `Progress`: tells how many games are done, a running one by its share."""
        played = lengths - self.opening
        shares = np.where(going, played / np.maximum(self.usual, played + 1), 1.0)
        self.tell(self.before + float(shares.sum()))
