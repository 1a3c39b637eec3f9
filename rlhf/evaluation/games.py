"""How a language policy plays: share of legal moves, share that keeps the outcome, games.

Positions are those of the side that nothing was learned from, where the moves differ in outcome; an
answer that is no legal move keeps nothing. Games are the arena's, as for every other player. What
came of it stands in tables of the recipe (games/) and of `playout eval`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from playout.agents.players.load import make_player
from playout.agents.players.player import Player
from playout.agents.rating.arena import play_match
from playout.agents.rating.evaluation import evaluate_player
from playout.agents.rating.games import MatchResult
from playout.agents.rating.intervals import share_interval
from playout.agents.rating.ratings import Result, rate
from playout.agents.runs.kinds import EvalOptions
from playout.agents.runs.reporting import note_found
from playout.envs.core.game import NativeGame
from playout.errors import ConfigError
from playout.rlhf.environments.game_player import LanguageGamePlayer
from playout.rlhf.environments.game_tasks import Referee, SolvedPositions, judging_positions

__all__ = [
    "evaluate_game_policy",
    "judged_moves",
    "measure_moves",
    "meet_opponents",
    "positions_for",
    "told",
]

POSITIONS = 400


def positions_for(
    game: NativeGame, count: int = POSITIONS, *, choosing: bool = False
) -> SolvedPositions:
    """Positions to be judged on, solved if the game can be; or those to choose a policy by."""
    try:
        referee: Referee | None = Referee(game)
    except ConfigError:
        referee = None
    return judging_positions(game, count, referee, choosing=choosing)


def measure_moves(player: LanguageGamePlayer, positions: SolvedPositions) -> dict[str, Any]:
    """What `judged_moves` says of a policy's answers."""
    player.reset(1)
    return judged_moves(player.read(positions.states), positions)


def judged_moves(actions: npt.NDArray[np.int32], positions: SolvedPositions) -> dict[str, Any]:
    """Shares with 95 % intervals: `legal`, and `kept` where the positions are solved.

    `random` is what a random legal move would keep.

    Args:
        actions: One a position; -1 is none that is legal.
        positions: Where they were asked for.
    """
    legal = actions >= 0
    count = len(actions)
    found: dict[str, Any] = {
        "positions": count,
        "legal": float(legal.mean()),
        "legal_interval": list(share_interval(int(legal.sum()), count)),
    }
    if positions.outcomes is not None:
        best = positions.outcomes == positions.outcomes.max(axis=1, keepdims=True)
        kept = legal & best[np.arange(count), np.maximum(actions, 0)]
        possible = positions.outcomes != -2
        found |= {
            "kept": float(kept.mean()),
            "kept_interval": list(share_interval(int(kept.sum()), count)),
            "random": float((best.sum(axis=1) / possible.sum(axis=1)).mean()),
        }
    return found


def meet_opponents(
    player: Player, game: NativeGame, opponents: Sequence[str], num_games: int, *, seed: int
) -> tuple[dict[str, Any], list[MatchResult]]:
    """Games against opponents, which also meet each other.

    Args:
        player: Who is measured.
        game: Of two players.
        opponents: Their texts; the first is that from which Elo counts.
        num_games: Of each pair.
        seed: Of the opponents.

    Returns:
        `games`, a row an opponent, and `elo` with the ends of its 95 % interval; and the player's
        own matches.
    """
    others = [make_player(spec, game, seed=seed) for spec in opponents]
    results: list[Result] = []
    rows, matches = [], []
    for number, other in enumerate(others):
        for stronger in others[number + 1 :]:
            results += play_match(other, stronger, game, num_games, seed=3).results()
        match = play_match(player, other, game, num_games, seed=2, part="rating")
        results += match.results()
        matches.append(match)
        wins, draws, losses = match.score(player.name)
        rows.append({"opponent": other.name, "wins": wins, "draws": draws, "losses": losses})
    rating = rate(results, anchor=others[0].name)[player.name]
    return {"games": rows, "elo": [rating.elo, rating.low, rating.high]}, matches


def evaluate_game_policy(player: LanguageGamePlayer, options: EvalOptions) -> dict[str, Any]:
    """What `playout eval RUN` says of a policy that learned a game."""
    if options.stochastic:
        player.temperature = 1.0
    found: dict[str, Any] = {"moves": measure_moves(player, positions_for(player.game))}
    print(told(found["moves"]))
    note_found(found)
    return found | evaluate_player(player, options)


def told(moves: dict[str, Any]) -> str:
    """What `measure_moves` found, in a line."""
    low, high = (100 * end for end in moves["legal_interval"])
    line = f"{100 * moves['legal']:.1f} % legal answers ({low:.1f} to {high:.1f})"
    if "kept" in moves:
        low, high = (100 * end for end in moves["kept_interval"])
        line += (
            f", {100 * moves['kept']:.1f} % keep the outcome ({low:.1f} to {high:.1f}; a random "
            f"legal move {100 * moves['random']:.1f} %)"
        )
    return f"{moves['positions']} positions that nothing was learned from: {line}"
