"""Matches: two players, paired openings, both colours, all games at once.

`play_match` moves every unfinished game of a pairing one ply at a time through `Player.act`, so
that searches and networks work in batches. Openings are random positions that no shallow search
finds decided; each is played twice with colours swapped, and the pair's points are kept, since they
tell more than two single games. Ratings stand in ratings.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from playout.agents.players.player import Player
from playout.agents.rating.ratings import Result
from playout.agents.rating.sprt import Sprt, SprtConfig, sprt
from playout.envs.core.game import NativeGame
from playout.envs.core.records import GameRecord
from playout.envs.core.registry import game as find_game
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError, GameError
from playout.mcts.exact.alphabeta import AlphaBeta

BATCH = 256  # games that run side by side
_FRUITLESS = 30  # rounds of random play without a new opening
_LOOK_AHEAD = 6  # plies in which an opening must not be decided


@dataclass(frozen=True, slots=True)
class PlayedGame:
    """One game of a match.

    Attributes:
        first: Name of the player who moved first.
        second: Name of the other.
        moves: All actions, those of the opening included.
        opening: Number of the opening.
        result: 1, 0 or -1 for the player who moved first.
    """

    first: str
    second: str
    moves: tuple[int, ...]
    opening: int
    result: int


@dataclass(frozen=True, slots=True)
class MatchResult:
    """What happened between two players.

    Attributes:
        a: One player's name.
        b: The other's.
        games: All games, pairs of one opening side by side.
        sprt: Where the sequential test stood at the end, if one was asked for.
    """

    a: str
    b: str
    games: list[PlayedGame] = field(default_factory=list)
    sprt: Sprt | None = None

    def score(self, name: str) -> tuple[int, int, int]:
        """(wins, draws, losses) of a player."""
        results = [game.result if game.first == name else -game.result for game in self.games]
        return results.count(1), results.count(0), results.count(-1)

    def pairs(self) -> list[int]:
        """How many pairs brought `a` 0, 1/2, 1, 3/2 and 2 points."""
        counts = [0] * 5
        for one, two in zip(self.games[::2], self.games[1::2], strict=True):
            points = sum(
                game.result if game.first == self.a else -game.result for game in (one, two)
            )
            counts[points + 2] += 1
        return counts

    def results(self) -> list[Result]:
        """Counts for `rate`, one entry for each player moving first."""
        found = []
        for first, second in ((self.a, self.b), (self.b, self.a)):
            values = [game.result for game in self.games if game.first == first]
            if values:
                found.append(
                    Result(first, second, values.count(1), values.count(0), values.count(-1))
                )
        return found

    def distinct_games(self) -> int:
        """Games that differ from all others; few of them tell little, however many are played."""
        return len({(game.first, game.moves) for game in self.games})


def play_match(
    a: Player,
    b: Player,
    game: NativeGame | str,
    num_games: int = 100,
    *,
    openings: int = 4,
    seed: int = 0,
    batch: int = BATCH,
    stop: SprtConfig | None = None,
    on_games: Callable[[list[PlayedGame]], None] | None = None,
) -> MatchResult:
    """Plays a match.

    Args:
        a: One player.
        b: The other; its name must differ.
        game: A game of two players.
        num_games: How many games; an odd number is rounded up, since openings are played in pairs.
        openings: Random plies of the openings.
        seed: Of openings and players.
        batch: Games side by side.
        stop: End early when this test decides; it is asked after each batch.
        on_games: Told the games of each batch as they end.

    Raises:
        GameError: A player that plays what is not legal.
    """
    game = find_game(game)
    if game.num_players != 2:
        raise ConfigError(f"matches are between two players, {game} has {game.num_players}")
    if a.name == b.name:
        raise ConfigError(f"two players of a match cannot both be called {a.name!r}")
    if num_games < 1 or batch < 2:
        raise ConfigError(f"a match needs at least one game, not {num_games}")
    num_pairs = (num_games + 1) // 2
    starts = random_openings(game, num_pairs, plies=openings, seed=seed)
    result = MatchResult(a.name, b.name)
    test = None
    for number, begin in enumerate(range(0, num_pairs, batch // 2)):
        chunk = starts[begin : begin + batch // 2]
        for player, salt in ((a, 0), (b, 1)):
            player.reset(int(np.random.SeedSequence([seed, number, salt]).generate_state(1)[0]))
        played = _play_chunk(a, b, game, chunk, begin)
        result.games.extend(played)
        if on_games is not None:
            on_games(played)
        if stop is not None:
            test = sprt(result.pairs(), stop)
            if test.decision != "open":
                break
    return MatchResult(a.name, b.name, result.games, test)


def _play_chunk(
    a: Player, b: Player, game: NativeGame, openings: list[list[int]], number: int
) -> list[PlayedGame]:
    """Both games of every opening: in even rows `a` moves first, in odd rows `b`."""
    moves = [list(opening) for opening in openings for _ in range(2)]
    states = StateBatch.concatenate([_state_after(game, opening) for opening in openings]).tile(2)
    a_moves_first = np.arange(len(states)) % 2 == 0
    while (going := ~states.is_terminal()).any():
        turn = states.to_play()
        if (turn[going] < 0).any():
            raise GameError(f"{game} has dice, which matches do not play")
        a_to_move = (turn == 0) == a_moves_first
        for player, rows in (
            (a, np.flatnonzero(going & a_to_move)),
            (b, np.flatnonzero(going & ~a_to_move)),
        ):
            if not len(rows):
                continue
            positions = states[rows]
            actions = _actions_of(player, positions)
            for row, action in zip(rows.tolist(), actions.tolist(), strict=True):
                moves[row].append(action)
            (b if player is a else a).observe(positions, actions)
            everywhere = np.zeros(len(states), np.int32)
            everywhere[rows] = actions
            states.apply(everywhere, where=rows)
    results = np.sign(states.returns()[:, 0]).astype(int).tolist()
    return [
        PlayedGame(
            first=(a if a_moves_first[row] else b).name,
            second=(b if a_moves_first[row] else a).name,
            moves=tuple(moves[row]),
            opening=number + row // 2,
            result=results[row],
        )
        for row in range(len(states))
    ]


def _actions_of(player: Player, states: StateBatch) -> npt.NDArray[np.int32]:
    """What a player chooses, checked: its mistakes carry its name."""
    actions = np.asarray(player.act(states))
    if actions.shape != (len(states),) or actions.dtype.kind not in "iu":
        raise GameError(
            f"player {player.name} gave {actions.dtype} {actions.shape} for {len(states)} positions"
        )
    mask = states.legal_mask()
    inside = (actions >= 0) & (actions < mask.shape[1])
    illegal = ~inside | (mask[np.arange(len(states)), np.where(inside, actions, 0)] == 0)
    if illegal.any():
        row = int(np.flatnonzero(illegal)[0])
        raise GameError(
            f"player {player.name} chose action {actions[row]}, which is illegal in "
            f"{states[row].text!r}"
        )
    return actions.astype(np.int32)


def _state_after(game: NativeGame, moves: list[int]) -> StateBatch:
    return StateBatch.from_states([game.from_moves(moves)])


def random_openings(
    game: NativeGame | str, count: int, *, plies: int, seed: int
) -> list[list[int]]:
    """Random openings that are not decided within a few plies.

    Args:
        game: A game of two players.
        count: How many; where there are not so many, they are repeated in turn.
        plies: Their length; 0 is the first position alone.
        seed: The same seed gives the same openings.

    Returns:
        `count` lists of actions. Until they repeat, no two lead to the same position, mirror images
        counted as the same.

    Raises:
        ConfigError: There is no undecided position of this length.
    """
    game = find_game(game)
    if not 0 <= plies <= game.max_plies:
        raise ConfigError(f"openings of {game} can have 0 to {game.max_plies} plies, not {plies}")
    if plies == 0:
        return [[] for _ in range(count)]
    solver = AlphaBeta(game)
    seen, found = set[int](), list[list[int]]()
    fruitless = 0
    for number in itertools.count():
        states, moves = game.batch(256), []
        rng = np.random.default_rng([seed, number])
        for ply in range(plies):
            actions = states.random_actions(int(rng.integers(2**63)), counter=ply)
            states.apply(actions, where=actions >= 0)
            moves.append(actions)
        rows = _distinct(states, np.flatnonzero(~states.is_terminal()), seen)
        values = solver.values(states[rows], depth=_LOOK_AHEAD)
        open_rows = rows[np.abs(np.nanmax(values, axis=1)) < 1] if len(rows) else rows
        found += [[int(actions[row]) for actions in moves] for row in open_rows]
        fruitless = 0 if len(open_rows) else fruitless + 1
        if len(found) >= count or fruitless == _FRUITLESS:
            break
    if not found:
        raise ConfigError(f"{game} has no undecided position after {plies} random plies; use fewer")
    return [found[i % len(found)] for i in range(count)]


def _distinct(
    states: StateBatch, rows: npt.NDArray[np.int64], seen: set[int]
) -> npt.NDArray[np.int64]:
    """The rows whose positions are new; notes them in `seen`."""
    hashes = np.min([states.symmetry(k).hash() for k in range(states.game.num_symmetries)], axis=0)
    new = []
    for row in rows.tolist():
        if int(hashes[row]) not in seen:
            seen.add(int(hashes[row]))
            new.append(row)
    return np.array(new, np.int64)


def to_record(game: NativeGame, played: PlayedGame) -> GameRecord:
    """A game as a record for a file."""
    return GameRecord.from_actions(
        game, played.moves, players=[played.first, played.second], info={"opening": played.opening}
    )
