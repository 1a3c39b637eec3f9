"""OpenSpiel's C++ MCTSBot spreads its visits like the rollout search: equal means over seeds."""

import numpy as np
import playout
import pytest
from playout.mcts.search import Search, SearchConfig

pyspiel = pytest.importorskip("pyspiel")

pytestmark = pytest.mark.peer


@pytest.mark.parametrize(
    "name, moves", [("connect_four", ""), ("connect_four", "44455"), ("tic_tac_toe", "")]
)
def test_visits_are_spread_like_openspiels(name, moves):
    seeds, simulations = 100, 400
    game = playout.game(name)
    state = game.from_moves(moves) if moves else game.initial_state()
    config = SearchConfig(algorithm="uct", num_simulations=simulations, uct_c=2.0, prove=False)
    search = Search(game, config, num_trees=seeds)
    ours = search.run(type(game.batch(1)).from_states([state] * seeds))

    rules = pyspiel.load_game(name)
    position = rules.new_initial_state()
    for column in moves:
        position.apply_action(int(column) - 1)
    theirs = np.zeros((seeds, game.num_actions))
    for seed in range(seeds):
        bot = pyspiel.MCTSBot(
            rules,
            pyspiel.RandomRolloutEvaluator(1, seed),
            2.0,
            simulations,
            100,
            False,
            seed,
            False,
            pyspiel.ChildSelectionPolicy.UCT,
        )
        for child in bot.mcts_search(position).children:
            theirs[seed, child.action] = child.explore_count
    error = np.sqrt((ours.visits.var(0) + theirs.var(0)) / len(theirs))
    # Its first simulation stays at the root: one visit fewer.
    assert (np.abs(ours.visits.mean(0) - theirs.mean(0)) < 4 * error + 0.5).all()
    assert ours.visits.mean(0).argmax() == theirs.mean(0).argmax()
