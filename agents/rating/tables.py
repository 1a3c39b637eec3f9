"""Games of one player, or of more than two: tables, with seats that rotate.

With as many players as seats or more, every group that fills a table plays; every opening is played
once for each rotation of its seats. Fewer players than seats take several seats each. In games of
one player, everybody plays the same openings with the same dice. games.py makes meetings of two out
of that; leaves out games of two players (arena.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from playout.agents.players.player import Player
from playout.agents.rating.games import PlayedGame
from playout.agents.rating.openings import Part, opening_plies, random_openings
from playout.agents.rating.play import ShareDone, play_games
from playout.envs.core.game import NativeGame
from playout.errors import ConfigError

_BATCH = 256  # games that run side by side

Table = tuple[int, ...]
"""Who sits where: numbers of players by seat."""


def tables_of(num_players: int, seats: int) -> list[Table]:
    """The tables of a round robin, before seats rotate.

    Args:
        num_players: How many players there are.
        seats: The game's.
    """
    everybody = range(num_players)
    if num_players >= seats:
        return list(itertools.combinations(everybody, seats))
    # Everybody in turn has the fewest seats: of A and B at three, A B A and B A B.
    turns = [tuple((first + seat) % num_players for seat in range(seats)) for first in everybody]
    return list({tuple(sorted(turn)): turn for turn in turns}.values())


def rotations(table: Table) -> list[Table]:
    """The table with everybody in every seat, as long as that differs."""
    return list(dict.fromkeys(table[k:] + table[:k] for k in range(len(table))))


def games_of_tables(num_players: int, seats: int, num_games: int) -> int:
    """How many games `play_tables` plays in all."""
    sizes = [len(rotations(table)) for table in tables_of(num_players, seats)]
    return sum(size * -(-num_games // size) for size in sizes)


def play_tables(
    players: Sequence[Player],
    game: NativeGame,
    num_games: int,
    *,
    openings: int | None = None,
    part: Part = "all",
    seed: int = 0,
    on_games: Callable[[list[PlayedGame]], None] | None = None,
    on_ply: Callable[[float, str], None] | None = None,
) -> list[PlayedGame]:
    """Plays all tables.

    Args:
        players: Players with different names.
        game: The game.
        num_games: Of each table, rounded up so that everybody sits everywhere.
        openings: Random plies of the openings; by default as suits the game's length.
        part: Which of all openings, see openings.py.
        seed: Of openings, dice and players.
        on_games: Told games as they end.
        on_ply: Told how many games of all are done, and who is playing.

    Raises:
        GameError: A player that plays what is not legal.
    """
    if num_games < 1:
        raise ConfigError(f"a match needs at least one game, not {num_games}")
    plies = opening_plies(game) if openings is None else openings
    told = on_ply if on_ply is not None else lambda done, text: None
    found: list[PlayedGame] = []
    for number, table in enumerate(tables_of(len(players), game.num_players)):
        seatings = rotations(table)
        count = -(-num_games // len(seatings))
        starts = random_openings(game, count, plies=plies, seed=seed, part=part)
        names = " - ".join(players[index].name for index in dict.fromkeys(table))

        def tell(done: float, names: str = names) -> None:
            told(done, names)

        progress = ShareDone(game, plies, tell) if on_ply is not None else None
        each = max(1, _BATCH // len(seatings))
        for begin in range(0, count, each):
            numbers = range(begin, min(begin + each, count))
            # In games of one player everybody's random numbers are the same, whoever else plays.
            salt = 0 if game.num_players == 1 else number
            for index, player in enumerate(players):
                words = np.random.SeedSequence([seed, salt, begin, index]).generate_state(1)
                player.reset(int(words[0]))
            if progress is not None:
                progress.before = len(found)
            played = play_games(
                game,
                players,
                [seating for _ in numbers for seating in seatings],
                [starts[one] for one in numbers for _ in seatings],
                [one for one in numbers for _ in seatings],
                seed=seed,
                on_ply=progress,
                on_games=on_games,
            )
            found += played
    return found
