"""Matches: two players, paired openings, both colours, all games at once; and round robins.

Each opening (openings.py) is played twice with colours swapped, and the pair's points are kept,
since they tell more than two single games. A round robin of a game of another number of players is
played at tables (tables.py). Leaves out moving (play.py), ratings (ratings.py) and showing
anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from playout.agents.players.player import Player
from playout.agents.rating.games import MatchResult, PlayedGame, pair_up
from playout.agents.rating.openings import Part, opening_plies, random_openings
from playout.agents.rating.play import ShareDone, play_games
from playout.agents.rating.sprt import SprtConfig, sprt
from playout.agents.rating.tables import games_of_tables, play_tables
from playout.envs.core.game import NativeGame
from playout.envs.core.registry import game as find_game
from playout.errors import ConfigError

BATCH = 256  # games that run side by side
_SPRT_BATCH = 64  # likewise where a test may end the match: it is asked after each batch


def play_match(
    a: Player,
    b: Player,
    game: NativeGame | str,
    num_games: int = 100,
    *,
    openings: int | None = None,
    part: Part = "all",
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
        part: Which of all openings, see openings.py.
        seed: Of openings and players.
        batch: Games side by side.
        stop: End early when this test decides; it is asked after each batch.
        on_games: Told games as they end.
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
    starts = random_openings(game, num_pairs, plies=plies, seed=seed, part=part)
    progress = None if on_ply is None else ShareDone(game, plies, on_ply)
    result = MatchResult(a.name, b.name)
    test = None
    for number, begin in enumerate(range(0, num_pairs, batch // 2)):
        chunk = starts[begin : begin + batch // 2]
        for player, salt in ((a, 0), (b, 1)):
            player.reset(int(np.random.SeedSequence([seed, number, salt]).generate_state(1)[0]))
        if progress is not None:
            progress.before = len(result.games)
        # In even rows `a` moves first, in odd rows `b`.
        played = play_games(
            game,
            (a, b),
            [(0, 1), (1, 0)] * len(chunk),
            [opening for opening in chunk for _ in range(2)],
            [begin + row // 2 for row in range(2 * len(chunk))],
            seed=seed,
            on_ply=progress,
            on_games=on_games,
        )
        result.games.extend(played)
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
    part: Part = "all",
    seed: int = 0,
    stop: SprtConfig | None = None,
    on_games: Callable[[list[PlayedGame]], None] | None = None,
    on_ply: Callable[[float, str], None] | None = None,
) -> list[MatchResult]:
    """Every player meets every other.

    Args:
        players: Players with different names.
        game: A game of any number of players.
        num_games: Of each pairing, rounded up to an even number; for other than two players of each
            table, see tables.py.
        openings: As in `play_match`.
        part: As in `play_match`.
        seed: Of openings and players.
        stop: As in `play_match`, of every pairing; only in games of two players.
        on_games: Told games as they end.
        on_ply: Told how many games of all (`num_games_of`) are done, and who is playing.

    Returns:
        One result for every two players.
    """
    if game.num_players != 2:
        if stop is not None:
            raise ConfigError(f"a sequential test needs a game of two players, not {game}")
        tables = play_tables(
            players,
            game,
            num_games,
            openings=openings,
            part=part,
            seed=seed,
            on_games=on_games,
            on_ply=on_ply,
        )
        return pair_up(tables)
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
                part=part,
                seed=seed + number,
                batch=BATCH if stop is None else _SPRT_BATCH,
                stop=stop,
                on_games=on_games,
                on_ply=tell,
            )
        )
    return matches


def num_games_of(game: NativeGame, players: int, num_games: int) -> int:
    """How many games `round_robin` plays in all."""
    if game.num_players != 2:
        return games_of_tables(players, game.num_players, num_games)
    return (num_games + num_games % 2) * (players * (players - 1) // 2)
