"""How long a match will take, before its first game is over.

A player that thinks for minutes about a move shows no progress until it has moved. A look at a few
positions tells at most how long all of it takes: later positions are easier for exact players, and
searches and networks are quicker in large batches. Left out: the time left while games go on
(runs/console.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from playout.agents.players.player import Player, choose
from playout.agents.rating.arena import num_games_of
from playout.agents.rating.openings import random_openings
from playout.agents.rating.play import usual_plies
from playout.envs.core.game import NativeGame
from playout.envs.core.state_batch import StateBatch

_LOOKS = 4  # positions that each player is asked about


def most_seconds(
    players: Sequence[Player], game: NativeGame, num_games: int, *, openings: int, seed: int = 0
) -> float:
    """What a round robin takes at most, about; the players are to be reset afterwards.

    Args:
        players: Who takes part.
        game: The game.
        num_games: As in `round_robin`.
        openings: Random plies at the start of each game.
        seed: Of the openings that are looked at.
    """
    starts = random_openings(game, _LOOKS, plies=openings, seed=seed)
    states = StateBatch.from_states([game.from_moves(list(moves)) for moves in starts])
    rows = (states.to_play() >= 0).nonzero()[0]
    states, lines = states[rows], [starts[row] for row in rows.tolist()]
    if not len(states):  # dice are thrown first
        return 0.0
    seconds = 0.0
    for player in players:
        player.reset(seed)
        begun = time.perf_counter()
        choose(player, states, lines)
        seconds += (time.perf_counter() - begun) / len(states)
    moves = max(usual_plies(game) - openings, 1.0)
    return num_games_of(game, len(players), num_games) * moves * seconds / len(players)
