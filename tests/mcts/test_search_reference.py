"""The C search and the plain Python reference: equal visits, values, proofs and action weights."""

import numpy as np
import pytest
from playout.mcts.search import SearchConfig

SETTINGS = {
    "plain": {},
    "no proofs": {"prove": False},
    "no reuse": {"reuse_subtree": False},
    "reused visits are extra": {"count_reused": False},
    "unscaled values": {"rescale_q": False, "c_scale": 1.0, "fpu_mode": "value", "fpu": 0.0},
    "four leaves": {"leaves_per_step": 4},
    "four leaves without virtual loss": {"leaves_per_step": 4, "virtual_loss": 0.0},
    "edges on demand": {"dense_edges": 0},
    "edges on demand, four leaves": {"dense_edges": 0, "leaves_per_step": 4},
    "forced playouts": {"forced_playouts": 2.0},
    "many forced playouts, four leaves": {"forced_playouts": 30.0, "leaves_per_step": 4},
    "few considered": {"max_considered": 3, "gumbel_scale": 0.5, "dirichlet_alpha": 1.5},
}


@pytest.mark.slow
@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
def test_visits_and_weights_equal_the_reference_on_a_thousand_roots(algorithm, reuse, tools):
    """With up to 81 actions, at fresh roots and at those of the move after."""
    config = SearchConfig(algorithm=algorithm, num_simulations=16, reuse_subtree=reuse)
    compared = tools.compare("connect_four", config, count=360, moves=2, seed=1)
    compared += tools.compare("tic_tac_toe", config, count=120, moves=2, seed=2, plies=5)
    compared += tools.compare("lines_3x5", config, count=80, moves=2, seed=9, plies=8)
    compared += tools.compare("lines_9x9", config, count=40, moves=2, seed=10, plies=40)
    assert compared > 1000


@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_visits_equal_the_reference_over_several_moves(algorithm, setting, tools):
    config = SearchConfig(algorithm=algorithm, num_simulations=40, **SETTINGS[setting])
    tools.compare("connect_four", config, count=12, moves=3, seed=3)
    tools.compare("tic_tac_toe", config, count=12, moves=3, seed=4, plies=4)


@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
@pytest.mark.parametrize("name", ["race", "ladder", "share", "row"])
@pytest.mark.parametrize("leaves", [1, 3])
def test_other_numbers_of_players_equal_the_reference(algorithm, name, leaves, tools):
    config = SearchConfig(algorithm=algorithm, num_simulations=24, leaves_per_step=leaves)
    tools.compare(name, config, count=8, moves=2, seed=5, plies=2)


@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
def test_budgets_of_single_trees_equal_the_reference(algorithm, tools):
    config = SearchConfig(algorithm=algorithm)
    tools.compare("connect_four", config, count=14, budgets=[0, 1, 2, 5, 13, 33, 60], seed=6)


@pytest.mark.parametrize("prove", [True, False])
@pytest.mark.parametrize("name", ["race", "ladder", "share", "row"])
def test_rollout_search_equals_the_reference(name, prove, tools):
    config = SearchConfig(algorithm="uct", num_simulations=60, prove=prove, num_rollouts=2)
    tools.compare(name, config, count=5, moves=2, seed=7, plies=2)


@pytest.mark.parametrize("algorithm", ["puct", "gumbel", "uct"])
@pytest.mark.parametrize("dense", [0, 3, 32])
@pytest.mark.parametrize("reuse", [True, False])
def test_nodes_with_edges_on_demand_equal_the_reference(algorithm, dense, reuse, tools):
    """With statistics that grow from eight edges to 81, and below chance nodes."""
    settings = {"algorithm": algorithm, "dense_edges": dense, "reuse_subtree": reuse}
    if algorithm != "uct":
        config = SearchConfig(num_simulations=60, **settings)
        tools.compare("lines_9x9", config, count=2, moves=2, seed=11, plies=30)
    config = SearchConfig(num_simulations=30, leaves_per_step=3, **settings)
    tools.compare("gamble3", config, count=4, moves=3, seed=5, plies=3)
    tools.compare("lines_3x5", config, count=4, moves=2, seed=7, plies=6)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["puct", "gumbel", "uct"])
@pytest.mark.parametrize("dense", [0, 32])
def test_large_states_and_wide_actions_equal_the_reference(algorithm, dense, tools):
    """States of 256 bytes lie apart in the tree, actions above 65,535 take four bytes."""
    for leaves in (1, 3):
        config = SearchConfig(
            algorithm=algorithm, num_simulations=24, dense_edges=dense, leaves_per_step=leaves
        )
        tools.compare("wide_lines", config, count=2, moves=2, seed=7, plies=8)
        for name in ("large_gamble2", "large_gamble3"):
            tools.compare(name, config, count=4, moves=3, seed=5, plies=3)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
@pytest.mark.parametrize("leaves", [1, 5])
def test_large_games_equal_the_reference(algorithm, leaves, tools):
    """Among them one with rewards along the way, of a scale of its own, and dice."""
    config = SearchConfig(algorithm=algorithm, num_simulations=100, leaves_per_step=leaves)
    tools.compare("go(size=9)", config, count=2, moves=2, seed=5, plies=20)
    tools.compare("chess", config, count=2, moves=2, seed=5, plies=30)
    tools.compare("game_2048", config, count=2, moves=3, seed=5, plies=12)


@pytest.mark.parametrize("algorithm", ["puct", "gumbel", "uct"])
@pytest.mark.parametrize("rollouts", [1, 3])
def test_rewards_along_the_way_equal_the_reference(algorithm, rollouts, tools):
    config = SearchConfig(algorithm=algorithm, num_simulations=60, num_rollouts=rollouts)
    tools.compare("points1", config, count=4, moves=3, seed=5, plies=3)
    tools.compare("points2", config, count=4, moves=3, seed=6, plies=3)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["puct", "gumbel", "uct"])
@pytest.mark.parametrize("leaves", [1, 3])
def test_searches_of_some_moves_equal_the_reference(algorithm, leaves, tools):
    """At the root alone: what is kept of a tree knows all moves again."""
    config = SearchConfig(algorithm=algorithm, num_simulations=40, leaves_per_step=leaves)
    for name, plies in (("lines_3x5", 6), ("wide_lines", 8), ("lines_9x9", 30), ("race", 2)):
        legal = tools.random_states(tools.game(name), 4, 5, plies).legal_mask() > 0
        allowed = np.random.default_rng(1).random(legal.shape) < 0.4
        allowed |= ~(allowed & legal).any(axis=1, keepdims=True)
        assert (allowed & legal).sum() < legal.sum()
        tools.compare(name, config, count=4, moves=2, seed=5, plies=plies, allowed=allowed)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
def test_long_searches_equal_the_reference(algorithm, tools):
    config = SearchConfig(algorithm=algorithm, num_simulations=500)
    tools.compare("connect_four", config, count=4, seed=8)
