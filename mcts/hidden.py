"""Hidden information in front of a search, which sees whole states: refused, or drawn anew.

Where a configuration asks for `resample`, each tree searches one state that the side to move cannot
tell from the real one. What such a search is not, says `SearchConfig.resample`. Leaves out
averaging over several drawn states, which players do (agents/players/search.py).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from playout.envs.core.game import NativeGame
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError
from playout.mcts.config import SearchConfig

_DRAWS = 0x5EED << 32  # apart from the seeds of rollouts


def draws_hidden(game: NativeGame, config: SearchConfig) -> bool:
    """Must states be drawn before they are searched?

    Raises:
        ConfigError: A search would see what players do not, and is not asked to draw it.
    """
    if not game.hidden:
        return False
    if not config.resample:
        raise ConfigError(
            f"{game} hides a part of its states from the players, which a search would see: learn "
            "it by `playout ppo --self-play`, solve it by playout.mcts.exact.cfr, or set "
            "resample=True to search states drawn at random"
        )
    if not game.has_resample:
        raise ConfigError(f"{game} hides a part of its states and has no resample() to draw it")
    return True


def refuse_self_play(game: NativeGame) -> None:
    """Raises ConfigError where self-play by search would see hidden information."""
    if game.hidden:
        raise ConfigError(
            f"{game} hides a part of its states, which self-play by search would see: learn it by "
            f"`playout ppo {game.name} --self-play`"
        )


def draw_states(
    states: StateBatch, *, seed: int, trees: npt.NDArray[np.int32], searches: npt.NDArray[np.int64]
) -> StateBatch:
    """For each state one that its side to move cannot tell from it.

    Args:
        states: B states in which a player is to move.
        seed: Of the search.
        trees: int32 [B], where each is searched.
        searches: int64 [B], searches begun there before: with the tree they name a row's stream.
    """
    return states.resample(seed ^ _DRAWS, streams=(searches << 24) + trees)
