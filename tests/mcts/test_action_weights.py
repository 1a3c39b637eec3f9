"""Action weights from the formulas of the papers, in float64 and by another road than the search's.

Gumbel: the improved policy of Danihelka et al. (2022), section 4 and appendix D: completed
Q-values, the mixed value v_mix in place of unvisited ones, sigma(q) = (c_visit + max N) c_scale q,
softmax(logits + sigma). PUCT: visit counts over their sum (Silver et al. 2018). The statistics come
from the search's result, the value of the root from the evaluator. Proofs are off: the papers have
none. That a proven loss has no weight stands in test_search_play.py.
"""

import numpy as np
import pytest
from playout.mcts.search import Search, SearchConfig

ROOTS = {"connect_four": 360, "tic_tac_toe": 120, "lines_3x5": 80, "lines_9x9": 40}
PLIES = {"connect_four": 30, "tic_tac_toe": 5, "lines_3x5": 8, "lines_9x9": 40}


def improved_policy(logits, visits, q, value, *, c_visit, c_scale, rescale):
    """The distribution pi' over the legal actions of one root."""
    prior = np.exp(logits - np.logaddexp.reduce(logits))
    seen = visits > 0
    if seen.any():
        mean = np.average(q[seen], weights=prior[seen])
        mixed = (value + visits.sum() * mean) / (1 + visits.sum())
    else:
        mixed = value
    completed = np.where(seen, q, mixed)
    if rescale:  # as mctx does: the least completed value is 0, the greatest 1
        spread = np.ptp(completed)
        completed = (completed - completed.min()) / max(spread, 1e-8)
    sigma = (c_visit + visits.max()) * c_scale * completed
    improved = logits + sigma
    return np.exp(improved - np.logaddexp.reduce(improved))


def shares(visits, logits):
    """Visit shares; the prior where nothing was visited."""
    if visits.sum() == 0:
        return np.exp(logits - np.logaddexp.reduce(logits))
    return visits / visits.sum()


def compare_roots(tools, config, result, states):
    """Asserts that every row of `result` follows from its statistics; returns their number."""
    _, values = tools.evaluate(states.data, states.game)
    legal = states.legal_mask().astype(bool)
    over = states.is_terminal()
    assert (result.action_weights[~legal] == 0).all()
    for i in np.flatnonzero(~over):
        mask = legal[i]
        logits = result.prior_logits[i, mask].astype(np.float64)
        visits = result.visits[i, mask].astype(np.float64)
        if config.algorithm == "gumbel":
            expected = improved_policy(
                logits,
                visits,
                result.q[i, mask].astype(np.float64),
                float(values[i]),
                c_visit=config.c_visit,
                c_scale=config.c_scale,
                rescale=config.rescale_q,
            )
        else:
            expected = shares(visits, logits)
        np.testing.assert_allclose(
            result.action_weights[i, mask], expected, rtol=2e-4, atol=1e-6, err_msg=f"row {i}"
        )
    return int((~over).sum())


@pytest.mark.parametrize(
    "settings",
    [
        {"algorithm": "gumbel"},
        {"algorithm": "gumbel", "reuse_subtree": False},
        {"algorithm": "gumbel", "rescale_q": False, "c_scale": 1.0},
        {"algorithm": "puct"},
        {"algorithm": "puct", "reuse_subtree": False},
    ],
    ids=lambda settings: " ".join(f"{key}={value}" for key, value in settings.items()),
)
def test_weights_are_those_of_the_paper_on_a_thousand_roots(settings, tools):
    config = SearchConfig(num_simulations=24, prove=False, **settings)
    compared = 0
    for name, count in ROOTS.items():
        game = tools.game(name)
        states = tools.random_states(game, count, seed=5, plies=PLIES[name])
        budgets = np.where(np.arange(count) % 10 == 0, 0, 24)  # some roots have a prior alone
        search = Search(game, config, num_trees=count, seed=3)
        search.begin(states, num_simulations=budgets, noise=budgets > 0)
        result = tools.finish(search, game)
        compared += compare_roots(tools, config, result, states)
        search.advance(result.action)
        compared += compare_roots(tools, config, tools.finish(search, game), search.states)
    assert compared > 1000
