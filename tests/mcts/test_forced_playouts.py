"""Forced playouts and pruned targets do what the paper says; that they equal the reference to the
bit is part of test_search_reference.py."""

import math

import numpy as np
import pytest
from playout.errors import ConfigError
from playout.mcts.search import Search, SearchConfig

K, COUNT, BUDGET = 2.0, 60, 120


@pytest.fixture
def searched(tools):
    """Results at the same roots with and without forced playouts; no Dirichlet noise blurs them."""
    game = tools.game("connect_four")
    states = tools.random_states(game, COUNT, seed=5, plies=10)
    found = {}
    for forced in (0.0, K):
        config = SearchConfig(
            algorithm="puct",
            num_simulations=BUDGET,
            prove=False,
            dirichlet_fraction=0.0,
            forced_playouts=forced,
        )
        search = Search(game, config, num_trees=COUNT, seed=3)
        search.begin(states)
        found[forced] = tools.finish(search, game)
    return config, states, found


def test_every_move_that_was_tried_gets_its_visits(searched):
    _, states, found = searched
    fewer = 0
    for i in np.flatnonzero(~states.is_terminal()):
        for forced, result in found.items():
            prior, visits = np.exp(result.prior_logits[i]), result.visits[i]
            tried = visits > 0
            least = np.sqrt(K * prior[tried] * visits.sum()) - 1
            if forced:
                assert (visits[tried] >= np.floor(least)).all()
            else:
                fewer += int((visits[tried] < np.floor(least)).sum())
    assert fewer > 10, "without it, moves have fewer"


def paper_weights(config, prior, visits, q):
    """What is learned, from the definition: visits without which PUCT would be content."""
    explore = config.c_init + math.log((2 + visits.sum() + config.c_base) / config.c_base)
    explore *= math.sqrt(visits.sum() + 1)
    best = max(range(len(visits)), key=lambda a: (visits[a], q[a]))
    kept = visits.astype(float)
    for a in np.flatnonzero(visits):
        if a == best:
            continue
        for taken in range(int(math.sqrt(config.forced_playouts * prior[a] * visits.sum())) + 1):
            left = visits[a] - taken
            worth = q[a] + explore * prior[a] / (1 + left)
            if taken and worth >= q[best] + explore * prior[best] / (1 + visits[best]):
                break
            kept[a] = left
            if left <= 1:
                kept[a] = 0
                break
    return kept / kept.sum()


def test_what_is_learned_leaves_out_visits_that_were_only_forced(searched):
    config, states, found = searched
    result, changed = found[K], 0
    for i in np.flatnonzero(~states.is_terminal()):
        visits = result.visits[i]
        expected = paper_weights(config, np.exp(result.prior_logits[i]), visits, result.q[i])
        np.testing.assert_allclose(result.action_weights[i], expected, atol=1e-6)
        changed += int(not np.allclose(expected, visits / visits.sum()))
    assert changed > 30


def test_a_search_without_noise_forces_nothing(tools, searched):
    config, states, _ = searched
    game = tools.game("connect_four")
    plain = SearchConfig(algorithm="puct", num_simulations=BUDGET, prove=False)
    results = []
    for one in (config, plain):
        search = Search(game, one, num_trees=COUNT, seed=3)
        search.begin(states, noise=np.zeros(COUNT, bool))
        results.append(tools.finish(search, game))
    assert np.array_equal(results[0].action_weights, results[1].action_weights)


def test_a_number_that_forces_nothing_sensible_is_refused():
    with pytest.raises(ConfigError, match="forced_playouts must lie in"):
        SearchConfig(algorithm="puct", forced_playouts=-1.0)
