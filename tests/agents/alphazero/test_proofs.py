import numpy as np
import playout
import pytest
from playout.agents.alphazero.proofs import TacticalEvaluator
from playout.envs.core.game import StateBatch
from playout.errors import ConfigError
from playout.mcts.evaluators import LeafBatch
from playout.mcts.exact.connect_four.engine import END_PLIES
from playout.mcts.exact.prover import GIVEN_UP, ILLEGAL, Proofs
from playout.mcts.exact.solver import ILLEGAL_OUTCOME, Solver


class Counting:
    """A network of equal logits that counts what it is asked."""

    def __init__(self):
        self.asked = 0

    def evaluate(self, leaves):
        self.asked += leaves.size
        return np.zeros((leaves.size, 7), np.float32), np.full(leaves.size, 0.5, np.float32)


def test_resolved_leaves_are_exact_and_not_asked_for():
    game = playout.game("connect_four")
    win = game.from_moves("112233")  # three in the bottom row, to be completed in column 4
    block = game.from_moves("11223")  # the other side has to stop it
    lost = game.from_moves("44553")  # three in the bottom row, open at both ends
    network = Counting()
    states = StateBatch.from_states([win, block, lost, game.initial_state()])
    logits, values = TacticalEvaluator(network, game).evaluate(LeafBatch.of(states))
    assert network.asked == 2
    assert values.tolist() == [1.0, 0.5, -1.0, 0.5]
    assert logits[0].argmax() == logits[1].argmax() == 3
    assert (np.sort(logits[1])[:-1] < 0).all()
    assert (logits[3] == 0).all()


def late_positions():
    """Connect Four positions of many plies that are not over."""
    states = playout.game("connect_four").batch(400)
    states.random_plies(np.arange(400, dtype=np.int32) % 20 + 14, 7)
    return states[np.flatnonzero(~states.is_terminal())]


@pytest.mark.parametrize("nodes", [20, 300, 100_000])
def test_proofs_are_what_the_solver_says_whatever_stands_beside_them(nodes):
    states = late_positions()
    prover = Proofs(states.game, max_nodes=nodes)
    found = prover.outcomes(states.data)
    proven = found[:, 0] != GIVEN_UP
    assert (found[~proven] == GIVEN_UP).all()
    assert 0.2 < proven.mean() < 1 if nodes < 1000 else proven.mean() > 0.9
    exact = Solver(states.game).outcomes(states[np.flatnonzero(proven)])
    exact[exact == ILLEGAL_OUTCOME] = ILLEGAL
    assert np.array_equal(found[proven], exact)
    for rows in ([5], [100, 5, 17]):
        assert np.array_equal(prover.outcomes(states.data[rows]), found[rows])


def test_proven_leaves_are_answered_exactly_and_not_asked_for():
    states = late_positions()
    network = Counting()
    evaluator = TacticalEvaluator(network, states.game, proof_nodes=300)
    logits, values = evaluator.evaluate(LeafBatch.of(states))
    exact = Solver(states.game).outcomes(states)
    answered = np.flatnonzero(values != 0.5)
    assert len(answered) == evaluator.num_resolved == len(states) - network.asked
    best = exact.max(axis=1)
    assert np.array_equal(values[answered], best[answered])
    hopeful = answered[best[answered] > -1]
    assert np.array_equal(exact[hopeful, logits[hopeful].argmax(axis=1)], best[hopeful])
    plain = Counting()
    TacticalEvaluator(plain, states.game, proof_nodes=0).evaluate(LeafBatch.of(states))
    assert plain.asked > network.asked


def test_near_the_end_proofs_may_take_longer():
    states = late_positions()
    left = 42 - states.observe().sum(axis=(1, 2, 3))
    few, many, both = (
        Proofs(states.game, **nodes).outcomes(states.data)
        for nodes in (
            {"max_nodes": 20},
            {"max_nodes": 20_000},
            {"max_nodes": 20, "end_nodes": 20_000},
        )
    )
    near = left <= END_PLIES
    assert 30 < near.sum() < len(near) - 30
    assert np.array_equal(both[near], many[near])
    assert np.array_equal(both[~near], few[~near])
    assert not np.array_equal(few, many)


def test_threads_prove_the_same():
    states = late_positions()
    alone, together = (
        Proofs(states.game, max_nodes=300, end_nodes=2_000, threads=threads).outcomes(states.data)
        for threads in (1, 3)
    )
    assert np.array_equal(alone, together)


def test_games_without_a_quick_solver_get_no_proofs():
    with pytest.raises(ConfigError, match="no quick solver"):
        Proofs(playout.game("tic_tac_toe"), max_nodes=100)


def test_games_of_one_player_are_passed_on():
    class Solitaire:
        num_players, zero_sum, max_legal, prover = 1, True, 7, None

    network = Counting()
    states = playout.game("connect_four").batch(3)
    TacticalEvaluator(network, Solitaire()).evaluate(LeafBatch.of(states))
    assert network.asked == 3
