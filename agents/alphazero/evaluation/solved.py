"""How often a network keeps what a position is worth, where a solver has judged positions.

`choosing_positions` are others than those by which a run is rated in the end. Left out: games.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.evaluator import NetworkEvaluator, SymmetricEvaluator
from playout.agents.alphazero.proofs import player_evaluator
from playout.agents.players.analysis import policy_judge
from playout.agents.players.search import playing_search
from playout.agents.rating.positions import load_choosing_positions, preserved
from playout.envs.core.game import NativeGame, StateBatch
from playout.mcts.exact.positions import Positions
from playout.mcts.search import Search

Ints = npt.NDArray[np.int32]


def policy_actions(evaluator: NetworkEvaluator, states: StateBatch) -> Ints:
    """The network's own choice in each state, without search, int32 [B]."""
    return policy_judge(SymmetricEvaluator(evaluator, states.game))(states).action


def search_actions(
    network: NetworkEvaluator,
    states: StateBatch,
    *,
    simulations: int,
    proofs: bool = True,
    seed: int = 0,
) -> Ints:
    """What a search of the network chooses in each state, without noise, int32 [B]."""
    evaluator = player_evaluator(network, states.game, proofs=proofs)
    search = Search(states.game, playing_search(simulations), num_trees=len(states), seed=seed)
    result = search.run(states, evaluator)
    return np.asarray(result.action, np.int32)


def choosing_positions(game: NativeGame, count: int) -> Positions | None:
    """At most `count` positions by which checkpoints are chosen; None where there are none."""
    found = load_choosing_positions(game) if count else None
    if found is None:
        return None
    count = min(count, len(found))
    return Positions(found.states[:count], found.moves[:count], found.scores[:count])


def kept_outcomes(
    network: NetworkEvaluator, positions: Positions, *, simulations: int, proofs: bool
) -> npt.NDArray[np.uint8]:
    """uint8 [2, N]: whether the bare policy's, and the search's move keep the outcome."""
    found = [
        policy_actions(network, positions.states),
        search_actions(network, positions.states, simulations=simulations, proofs=proofs),
    ]
    return np.stack([preserved(actions, positions.outcomes) for actions in found]).astype(np.uint8)
