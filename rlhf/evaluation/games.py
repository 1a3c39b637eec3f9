"""How a language policy plays: share of legal moves, share that keeps the outcome, games.

Positions are those of the side that nothing was learned from, where the moves differ in outcome; an
answer that is no legal move keeps nothing. Games are the arena's, as for every other player. What
came of it stands in tables of the recipe (games/) and of `playout eval`.
"""

from typing import Any

import numpy as np
from playout.agents.rating.evaluation import evaluate_player
from playout.agents.rating.intervals import share_interval
from playout.agents.runs.kinds import EvalOptions
from playout.envs.core.game import NativeGame
from playout.errors import ConfigError
from playout.rlhf.environments.game_player import LanguageGamePlayer
from playout.rlhf.environments.game_tasks import Referee, SolvedPositions, judging_positions

__all__ = ["evaluate_game_policy", "measure_moves", "positions_for", "told"]

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
    """Shares with 95 % intervals: `legal`, and `kept` where the positions are solved.

    `random` is what a random legal move would keep.
    """
    player.reset(1)
    actions = player.read(positions.states)
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


def evaluate_game_policy(player: LanguageGamePlayer, options: EvalOptions) -> dict[str, Any]:
    """What `playout eval RUN` says of a policy that learned a game."""
    if options.stochastic:
        player.temperature = 1.0
    found: dict[str, Any] = {"moves": measure_moves(player, positions_for(player.game))}
    print(told(found["moves"]))
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
