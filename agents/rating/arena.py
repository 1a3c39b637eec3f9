"""Matches: two players, paired openings, both colours, all games at once; and round robins.

`play_match` moves every unfinished game of a pairing one ply at a time through `Player.act`, so
that searches and networks work in batches. Each opening (openings.py) is played twice with colours
swapped, and the pair's points are kept, since they tell more than two single games. Leaves out
ratings (ratings.py) and showing anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from playout.agents.players.player import Player
from playout.agents.rating.openings import opening_plies, random_openings
from playout.agents.rating.ratings import Result
from playout.agents.rating.sprt import Sprt, SprtConfig, sprt
from playout.envs.core.game import NativeGame
from playout.envs.core.records import GameRecord
from playout.envs.core.registry import game as find_game
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError, GameError

BATCH = 256  # games that run side by side
_SPRT_BATCH = 64  # likewise where a test may end the match: it is asked after each batch
_TIMED_GAMES = 64  # random games that tell how long a game usually is

Lengths = npt.NDArray[np.int64]  # plies of each game


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
    openings: int | None = None,
    seed: int = 0,
    batch: int = BATCH,
    stop: SprtConfig | None = None,
    on_games: Callable[[list[PlayedGame]], None] | None = None,
    on_ply: Callable[[float], None] | None = None,
) -> MatchResult:
    """Plays a match.

    Args:
        a: One player.
        b: The other; its name must differ.
        game: A game of two players.
        num_games: How many games; an odd number is rounded up, since openings are played in pairs.
        openings: Random plies of the openings; by default as suits the game's length.
        seed: Of openings and players.
        batch: Games side by side.
        stop: End early when this test decides; it is asked after each batch.
        on_games: Told the games of each batch as they end.
        on_ply: Told how many games are done, a running one counted by its share of a usual game.

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
    plies = opening_plies(game) if openings is None else openings
    starts = random_openings(game, num_pairs, plies=plies, seed=seed)
    usual = _usual_plies(game) - plies if on_ply is not None else 0.0
    result = MatchResult(a.name, b.name)
    test = None
    for number, begin in enumerate(range(0, num_pairs, batch // 2)):
        chunk = starts[begin : begin + batch // 2]
        for player, salt in ((a, 0), (b, 1)):
            player.reset(int(np.random.SeedSequence([seed, number, salt]).generate_state(1)[0]))
        before = len(result.games)

        def tell(lengths: Lengths, going: npt.NDArray[np.bool_], before: int = before) -> None:
            if on_ply is not None:
                played = lengths - plies
                shares = np.where(going, played / np.maximum(usual, played + 1), 1.0)
                on_ply(before + float(shares.sum()))

        played = _play_chunk(a, b, game, chunk, begin, tell)
        result.games.extend(played)
        if on_games is not None:
            on_games(played)
        if stop is not None:
            test = sprt(result.pairs(), stop)
            if test.decision != "open":
                break
    return MatchResult(a.name, b.name, result.games, test)


def round_robin(
    players: Sequence[Player],
    game: NativeGame,
    num_games: int,
    *,
    openings: int | None = None,
    seed: int = 0,
    stop: SprtConfig | None = None,
    on_games: Callable[[list[PlayedGame]], None] | None = None,
    on_ply: Callable[[float, str], None] | None = None,
) -> list[MatchResult]:
    """Every player meets every other.

    Args:
        players: Players with different names.
        game: A game of two players.
        num_games: Of each pairing; rounded up to an even number.
        openings: As in `play_match`.
        seed: Of openings and players.
        stop: As in `play_match`, of every pairing.
        on_games: Told games as they end.
        on_ply: Told how many games of all are done, and who is playing.
    """
    matches = []
    for number, (a, b) in enumerate(itertools.combinations(players, 2)):
        before, pairing = number * (num_games + num_games % 2), f"{a.name} - {b.name}"

        def tell(done: float, before: int = before, pairing: str = pairing) -> None:
            if on_ply is not None:
                on_ply(before + done, pairing)

        matches.append(
            play_match(
                a,
                b,
                game,
                num_games,
                openings=openings,
                seed=seed + number,
                batch=BATCH if stop is None else _SPRT_BATCH,
                stop=stop,
                on_games=on_games,
                on_ply=tell,
            )
        )
    return matches


def _usual_plies(game: NativeGame) -> float:
    """The mean length of random games: players' own are rarely much shorter or longer."""
    states, total = game.batch(_TIMED_GAMES), 0
    for ply in range(game.max_plies):
        actions = states.random_actions(0, counter=ply)
        going = actions >= 0
        if not going.any():
            break
        states.apply(actions, where=going)
        total += int(going.sum())
    return total / _TIMED_GAMES


def _play_chunk(
    a: Player,
    b: Player,
    game: NativeGame,
    openings: list[list[int]],
    number: int,
    tell: Callable[[Lengths, npt.NDArray[np.bool_]], None],
) -> list[PlayedGame]:
    """Both games of every opening: in even rows `a` moves first, in odd rows `b`."""
    moves = [list(opening) for opening in openings for _ in range(2)]
    states = StateBatch.from_states([game.from_moves(opening) for opening in openings]).tile(2)
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
        tell(np.array([len(line) for line in moves]), ~states.is_terminal())
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


def to_record(game: NativeGame, played: PlayedGame) -> GameRecord:
    """A game as a record for a file."""
    return GameRecord.from_actions(
        game, played.moves, players=[played.first, played.second], info={"opening": played.opening}
    )
