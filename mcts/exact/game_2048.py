"""Best play of 2048 on small boards, exactly: 3x3 has tens of millions of positions.

Every new tile adds to the sum of all tiles, so positions of one sum are a layer whose values need
those of two larger sums alone, and a single pass backwards is enough. A board is one integer with
four bits a cell, moves are looked up line by line, and boards that differ in a symmetry are one.
The rules are written once more here, beside envs/games/game_2048.h, which tests compare. Left out:
other games, of which value_iteration.py lists every position (J. Lees-Miller, "The Mathematics of
2048: Optimal Play with Markov Decision Processes", 2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import CHANCE, TERMINAL, NativeGame, State
from playout.envs.core.registry import game as find_game
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError, GameError

_BITS = 4
_CELL = np.uint64(15)
_FOURS = 0.1  # how often a new tile is a 4
_MOVES = 4  # up, right, down, left, as the game counts them

Boards = npt.NDArray[np.uint64]
Values = npt.NDArray[np.float64]
Layers = dict[int, tuple[Boards, Values]]
"""Boards that wait for a move, sorted, and what they are worth, by the sum of their tiles."""


class _Board:
    """Moves and symmetries of boards of some size, each board [B] as one integer.

    Attributes:
        cells: how many a board has; cell i lies at bit 4 i.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns, self.cells = rows, columns, rows * columns
        self._tables = {count: _line_tables(count) for count in {rows, columns}}
        across = np.arange(self.cells).reshape(rows, columns)
        ways = [across, across[:, ::-1], across[::-1], across[::-1, ::-1]]
        if rows == columns:
            ways += [way.T for way in ways]
        self._symmetries = [way.ravel() for way in ways[1:]]

    def cell(self, boards: Boards, at: int) -> Boards:
        """The power in a cell, 0 for none."""
        return (boards >> np.uint64(_BITS * at)) & _CELL

    def put(self, boards: Boards, at: int, power: int) -> Boards:
        """With a tile in an empty cell."""
        return boards | np.uint64(power << (_BITS * at))

    def pack(self, cells: npt.NDArray[np.uint8]) -> Boards:
        """Boards of powers [B, cells]."""
        found = np.zeros(len(cells), np.uint64)
        for at in range(self.cells):
            found |= cells[:, at].astype(np.uint64) << np.uint64(_BITS * at)
        return found

    def canonical(self, boards: Boards) -> Boards:
        """The same one of all that differ in a symmetry."""
        cells = [self.cell(boards, at) for at in range(self.cells)]
        found = boards.copy()
        for way in self._symmetries:
            other = np.zeros_like(boards)
            for at, source in enumerate(way.tolist()):
                other |= cells[source] << np.uint64(_BITS * at)
            np.minimum(found, other, out=found)
        return found

    def slide(self, boards: Boards, move: int) -> tuple[Boards, Values]:
        """Boards after a move, and the sum of tiles that it merged."""
        sideways, back = move & 1, move in (1, 2)
        places = np.arange(self.cells).reshape(self.rows, self.columns)
        lines = places if sideways else places.T
        found, gained = np.zeros_like(boards), np.zeros(len(boards))
        after, gains = self._tables[lines.shape[1]]
        for line in lines[:, ::-1] if back else lines:
            code = np.zeros(len(boards), np.int64)
            for number, at in enumerate(line.tolist()):
                code |= self.cell(boards, at).astype(np.int64) << (_BITS * number)
            gained += gains[code]
            for number, at in enumerate(line.tolist()):
                found |= self.cell(after[code], number) << np.uint64(_BITS * at)
        return found, gained


def _line_tables(count: int) -> tuple[Boards, Values]:
    """What each line of so many cells becomes when it slides to its first, and what that merges."""
    after, gains = np.zeros(1 << (_BITS * count), np.uint64), np.zeros(1 << (_BITS * count))
    for code in range(len(after)):
        tiles = [t for at in range(count) if (t := code >> (_BITS * at) & 15)]
        line: list[int] = []
        held = False
        for tile in tiles:
            if held and line[-1] == tile:
                line[-1], held = tile + 1, False
                gains[code] += 2 << tile
            else:
                line.append(tile)
                held = True
        after[code] = sum(min(tile, 15) << (_BITS * at) for at, tile in enumerate(line))
    return after, gains


@dataclass(frozen=True, slots=True)
class Values2048:
    """What `solve_2048` has found.

    Attributes:
        game: The game.
        tile: The tile that is to be reached, or 0 where the score counts.
    """

    game: NativeGame
    tile: int
    _board: _Board = field(repr=False)
    _layers: Layers = field(repr=False)

    def __len__(self) -> int:
        """Positions in which a move is chosen, each counted once for all its symmetries."""
        return sum(len(boards) for boards, _ in self._layers.values())

    def values(self, states: StateBatch) -> Values:
        """Best play's score that is still to come, or chance to reach the tile, float64 [B].

        Raises:
            GameError: A position of another game, or one that play does not reach.
        """
        if states.game != self.game:
            raise GameError(f"the values are of {self.game}, not of {states.game}")
        boards = self._board.pack(states.data[:, : self._board.cells])
        found, turns = np.zeros(len(boards)), states.to_play()
        if self.tile:
            held = _holds(self._board, boards, self.tile)
            found[held], turns[held] = 1.0, TERMINAL
        chosen = turns >= 0
        found[chosen] = self._known(boards[chosen])
        for row in np.flatnonzero(turns == CHANCE).tolist():
            outcomes = states[row].chance_outcomes
            after = StateBatch.from_states([states[row].apply(action) for action, _ in outcomes])
            found[row] = self.values(after) @ np.array([share for _, share in outcomes])
        return found

    def value(self, state: State) -> float:
        """The same of one position."""
        return float(self.values(StateBatch.from_states([state]))[0])

    def action_values(self, state: State) -> dict[int, float]:
        """For each legal action what it brings and what comes then; nothing where it is over."""
        if state.to_play == TERMINAL:
            return {}
        after = [state.apply(action) for action in state.legal_actions]
        found = self.values(StateBatch.from_states(after))
        if not self.tile:
            found += [one.returns[0] - state.returns[0] for one in after]
        return dict(zip(state.legal_actions, found.tolist(), strict=True))

    def _known(self, boards: Boards) -> Values:
        """Of boards that wait for a move."""
        found, sums = np.zeros(len(boards)), _sums(self._board, boards)
        for total in np.unique(sums).tolist():
            rows = sums == total
            found[rows] = _look_up(self._board, self._layers, boards[rows], total)
        return found


def solve_2048(
    game: NativeGame | str = "game_2048(size=2)", *, tile: int = 0, max_states: int = 100_000_000
) -> Values2048:
    """Values of every position that play reaches from the beginning.

    On 3x3 that takes minutes and about 20 bytes a position; the score of 4x4 is out of reach.

    Args:
        game: A game of 2048 of at most 9 cells, or its name.
        tile: Values are the highest chance to reach this tile; 0: the expected score.
        max_states: Gives up beyond so many positions in which a move is chosen.

    Raises:
        ConfigError: Another game, a larger board, a tile that is none, or too many positions.
    """
    game = find_game(game)
    if game.name != "game_2048":
        raise ConfigError(f"these are the values of game_2048, not of {game}")
    rows, columns = game.params["size"], game.params["columns"] or game.params["size"]
    if rows * columns > 9:
        raise ConfigError(f"boards of at most 9 cells are solved, and {game} has {rows * columns}")
    if tile and (tile < 8 or tile & (tile - 1) or tile >= 1 << 15):
        raise ConfigError(f"tile must be 0 or a power of two from 8 to 16384, not {tile}")
    board = _Board(rows, columns)
    layers: Layers = {}
    count = 0
    for total, boards in _reached(board, tile):
        count += len(boards)
        if count > max_states:
            raise ConfigError(f"{game} has more than {max_states:,} positions")
        layers[total] = boards, np.zeros(len(boards))
    for total in sorted(layers, reverse=True):
        boards, values = layers[total]
        values[:] = _best(board, layers, boards, total, tile)
    return Values2048(game, tile, board, layers)


def _reached(board: _Board, tile: int) -> Iterator[tuple[int, Boards]]:
    """Sums of tiles and the boards that have them, smallest first, each sorted."""
    nothing = np.zeros(1, np.uint64)
    waiting: dict[int, list[Boards]] = {}

    def wait(boards: Boards, total: int) -> None:
        for at in range(board.cells):
            free = boards[board.cell(boards, at) == 0]
            for power in (1, 2):
                new = np.unique(board.canonical(board.put(free, at, power)))
                if len(new):
                    waiting.setdefault(total + (1 << power), []).append(new)

    wait(nothing, 0)
    first, waiting = waiting, {}
    for total, parts in first.items():
        for part in parts:
            wait(part, total)
    while waiting:
        total = min(waiting)
        boards = np.unique(np.concatenate(waiting.pop(total)))
        yield total, boards
        moved = []
        for move in range(_MOVES):
            after, _ = board.slide(boards, move)
            moved.append(np.unique(board.canonical(after[after != boards])))
        after = np.unique(np.concatenate(moved))
        wait(after[~_holds(board, after, tile)] if tile else after, total)


def _best(board: _Board, layers: Layers, boards: Boards, total: int, tile: int) -> Values:
    """What the best move of each board, of this sum of tiles, is worth; 0 where there is none."""
    best = np.zeros(len(boards))
    for move in range(_MOVES):
        after, gained = board.slide(boards, move)
        moving = np.flatnonzero(after != boards)
        distinct, places = np.unique(board.canonical(after[moving]), return_inverse=True)
        worth = np.zeros(len(distinct))
        going = np.ones(len(distinct), bool)
        if tile:
            going = ~_holds(board, distinct, tile)
            worth[~going] = 1.0
        worth[going] = _expected(board, layers, distinct[going], total)
        found = worth[places] + (0.0 if tile else gained[moving])
        best[moving] = np.maximum(best[moving], found)
    return best


def _expected(board: _Board, layers: Layers, boards: Boards, total: int) -> Values:
    """What boards of this sum of tiles are worth before a tile appears."""
    found, free = np.zeros(len(boards)), np.zeros(len(boards))
    for at in range(board.cells):
        rows = np.flatnonzero(board.cell(boards, at) == 0)
        free[rows] += 1
        for power, share in ((1, 1 - _FOURS), (2, _FOURS)):
            new = board.put(boards[rows], at, power)
            found[rows] += share * _look_up(board, layers, new, total + (1 << power))
    return found / np.maximum(free, 1)


def _look_up(board: _Board, layers: Layers, boards: Boards, total: int) -> Values:
    """Values of boards of this sum of tiles that wait for a move.

    Raises:
        GameError: One is not reached by play.
    """
    if not len(boards):
        return np.zeros(0)
    wanted = board.canonical(boards)
    known, values = layers.get(total, (wanted[:0], np.zeros(0)))
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    if not len(known) or (known[places] != wanted).any():
        raise GameError("no value is known of a position that play does not reach")
    return values[places]


def _sums(board: _Board, boards: Boards) -> npt.NDArray[np.int64]:
    """Of all tiles."""
    powers = (board.cell(boards, at).astype(np.int64) for at in range(board.cells))
    found = np.zeros(len(boards), np.int64)
    for power in powers:
        found += np.where(power > 0, 1 << power, 0)
    return found


def _holds(board: _Board, boards: Boards, tile: int) -> npt.NDArray[np.bool_]:
    """Whether boards hold a tile, or a larger one."""
    power, found = tile.bit_length() - 1, np.zeros(len(boards), bool)
    for at in range(board.cells):
        found |= board.cell(boards, at) >= power
    return found
