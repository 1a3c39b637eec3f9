"""How well a network plays while it learns: shares of good moves, games against anchors.

The shares need no opponent and tell more than games do; the anchors (random play, tree search with
random rollouts) never change, so that a rating means the same in every run. Everything is drawn
from seeds of its own: measuring changes nothing in training. Left out: round robins with intervals
(agents/rating).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from playout.agents.alphazero.evaluator import NetworkEvaluator, SymmetricEvaluator
from playout.agents.alphazero.proofs import player_evaluator
from playout.agents.players.analysis import policy_judge
from playout.agents.players.search import playing_search
from playout.agents.rating.positions import load_eval_positions, value_preserving_share
from playout.agents.rating.ratings import elo_of_match
from playout.envs.core.game import NativeGame, StateBatch
from playout.errors import GameError
from playout.mcts.search import Search

ANCHORS = ("random", "uct:500")
"""Opponents that never change; Elo is counted from the last one, which has 0."""

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


class Evaluation:
    """Measures networks of one game.

    Args:
        game: the game.
        simulations: of the network's search.
        positions: how many solved positions are looked at, where the game has some.
        games: against each anchor.
        proofs: whether alpha-beta helps at the search's leaves, see proofs.py.
        seed: of openings and opponents.
    """

    def __init__(
        self,
        game: NativeGame,
        *,
        simulations: int,
        positions: int,
        games: int,
        proofs: bool = True,
        seed: int = 0,
    ) -> None:
        self.game, self.simulations, self.games, self.seed = game, simulations, games, seed
        self.proofs = proofs
        self.states: StateBatch | None = None
        try:
            states, outcomes = load_eval_positions(game)
        except GameError:
            return
        self.states, self.outcomes = states[: min(positions, len(states))], outcomes[:positions]

    def measure(self, evaluator: NetworkEvaluator) -> dict[str, float]:
        """Shares of outcome-keeping moves and scores against the anchors, as metrics."""
        found: dict[str, float] = {}
        if self.states is not None:
            actions = policy_actions(evaluator, self.states)
            found["eval/policy_optimal_share"] = value_preserving_share(actions, self.outcomes)
            actions = search_actions(
                evaluator,
                self.states,
                simulations=self.simulations,
                proofs=self.proofs,
            )
            found["eval/optimal_move_share"] = value_preserving_share(actions, self.outcomes)
            # One number to choose checkpoints by: two shares together are less a matter of luck.
            both = (found["eval/policy_optimal_share"], found["eval/optimal_move_share"])
            found["eval/mean_share"] = sum(both) / len(both)
        return {**found, **self._against_anchors(evaluator)}

    def _against_anchors(self, evaluator: NetworkEvaluator) -> dict[str, float]:
        """Points out of games against random play and rollout search; Elo above the latter."""
        from playout.agents.players.load import make_player
        from playout.agents.players.search import SearchPlayer
        from playout.agents.rating.arena import play_match

        if self.games < 2 or self.game.num_players != 2:
            return {}
        tactical = player_evaluator(evaluator, self.game, proofs=self.proofs)
        player = SearchPlayer(self.game, playing_search(self.simulations), tactical, name="network")
        found: dict[str, float] = {}
        for spec in ANCHORS:
            opponent = make_player(spec, self.game, seed=self.seed)
            match = play_match(player, opponent, self.game, self.games, seed=self.seed)
            wins, draws, losses = match.score("network")
            score = (wins + draws / 2) / max(1, wins + draws + losses)
            found[f"eval/score_{spec.replace(':', '')}"] = score
            if spec == ANCHORS[-1]:
                found["eval/elo"], found["eval/elo_ci"] = elo_of_match(score, self.games)
        return found
