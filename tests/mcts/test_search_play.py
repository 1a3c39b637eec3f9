"""What the searches find: wins and proofs, never played wrong; evaluators that break, numbers."""

import numpy as np
import playout
import pytest
from playout.envs.core.python_game import from_python
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError, SearchError
from playout.mcts.evaluators import RolloutEvaluator, SolverEvaluator, UniformEvaluator
from playout.mcts.exact.solver import ILLEGAL_OUTCOME, Solver
from playout.mcts.search import UNKNOWN, Search, SearchConfig


@pytest.fixture(scope="module")
def noughts_positions():
    """All 4,520 positions of tic-tac-toe that are not over."""
    game = playout.game("tic_tac_toe")
    seen, layer = {}, [game.initial_state()]
    while layer:
        seen.update((s.to_bytes(), s) for s in layer)
        children = {}
        for s in layer:
            for action in s.legal_actions:
                child = s.apply(action)
                if not child.is_terminal:
                    children[child.to_bytes()] = child
        layer = list(children.values())
    return StateBatch.from_states(list(seen.values()))


@pytest.fixture(scope="module")
def tactics():
    """Positions of Connect Four where one move wins and at least three lose, with that move."""
    game = playout.game("connect_four")
    states = game.batch(1500)
    plies = np.random.default_rng(0).integers(20, 30, len(states))
    states.random_plies(plies.astype(np.int32), 3)
    states = states[np.flatnonzero(~states.is_terminal())]
    outcomes = Solver(game).outcomes(states)
    sharp = ((outcomes == 1).sum(1) == 1) & ((outcomes == -1).sum(1) >= 3)
    return states[np.flatnonzero(sharp)], outcomes[sharp].argmax(1)


@pytest.mark.parametrize("prove", [True, False])
@pytest.mark.parametrize("algorithm, share", [("gumbel", 0.85), ("puct", 0.97), ("uct", 0.98)])
def test_the_only_winning_move_is_found(algorithm, share, prove, tactics):
    states, winning = tactics
    assert len(states) > 100
    config = SearchConfig(algorithm=algorithm, num_simulations=1500, prove=prove)
    search = Search(states.game, config, num_trees=len(states), seed=4)
    evaluator = None if algorithm == "uct" else RolloutEvaluator(seed=3)
    result = search.run(states, evaluator, noise=False)
    assert (result.action == winning).mean() >= share


@pytest.mark.parametrize("algorithm", ["gumbel", "puct", "uct"])
@pytest.mark.parametrize("leaves", [1, 4])
def test_proofs_are_right_in_all_positions_of_tic_tac_toe(algorithm, leaves, noughts_positions):
    if algorithm == "uct" and leaves > 1:
        pytest.skip("rollouts take no batches")
    states, game = noughts_positions, noughts_positions.game
    assert len(states) == 4520
    outcomes = Solver(game).outcomes(states)
    best = outcomes.max(1)
    config = SearchConfig(algorithm=algorithm, num_simulations=600, leaves_per_step=leaves)
    search = Search(game, config, num_trees=len(states), seed=1)
    result = search.run(states, None if algorithm == "uct" else UniformEvaluator())
    proven = result.proven != UNKNOWN
    assert proven.mean() > 0.9
    np.testing.assert_array_equal(result.proven[proven], best[proven])
    np.testing.assert_array_equal(result.value[proven], best[proven])
    rows = np.flatnonzero(proven)
    np.testing.assert_array_equal(outcomes[rows, result.action[rows]], best[rows])
    assert (outcomes[result.action_weights > 0] != -2).all()
    wrong = (result.action_weights > 0) & (outcomes < best[:, None])
    assert not wrong[rows].any()
    sampled = search.result(temperature=1.0).action
    np.testing.assert_array_equal(outcomes[rows, sampled[rows]], best[rows])


def test_proofs_agree_with_the_solver_in_connect_four(tools):
    game = tools.game("connect_four")
    states = tools.random_states(game, 1000, seed=9, plies=36, least=18)
    solver = Solver(game)
    config = SearchConfig(algorithm="uct", num_simulations=400)
    result = Search(game, config, num_trees=len(states), seed=2).run(states)
    proven = np.flatnonzero(result.proven != UNKNOWN)
    assert proven.size > 500
    outcomes = solver.outcomes(states[proven])
    best = outcomes.max(1)
    np.testing.assert_array_equal(result.proven[proven], best)
    np.testing.assert_array_equal(outcomes[np.arange(proven.size), result.action[proven]], best)


@pytest.mark.parametrize("algorithm", ["gumbel", "puct", "uct"])
@pytest.mark.parametrize("simulations", [12, 60])
def test_a_move_proven_lost_gets_no_weight(algorithm, simulations, tools):
    """Unless all lose: whatever is known at the root, and however early the search is read."""
    game = tools.game("connect_four")
    states = tools.random_states(game, 600, seed=11, plies=34, least=20)
    config = SearchConfig(algorithm=algorithm, num_simulations=simulations)
    search = Search(game, config, num_trees=len(states), seed=2)
    result = search.run(states, None if algorithm == "uct" else UniformEvaluator())
    outcomes = Solver(game).outcomes(states)
    legal = outcomes != ILLEGAL_OUTCOME
    # A mean of exactly -1 over some visits is a proven loss: an evaluation of 0, or a random game
    # that did not lose, would have raised it. With few rollouts all may be lost by chance.
    lost = (result.q == -1) & (result.visits > 0) & (outcomes == -1)
    if algorithm == "uct":
        lost &= (result.proven != UNKNOWN)[:, None]
    spared = (legal & ~lost).any(axis=1)
    assert (lost.any(axis=1) & spared).sum() > 50
    assert (result.action_weights[lost & spared[:, None]] == 0).all()
    assert (result.action_weights[~legal] == 0).all()
    assert np.isfinite(result.action_weights).all()
    np.testing.assert_allclose(result.action_weights.sum(1), 1, rtol=1e-5)
    known = (result.proven != UNKNOWN) & (outcomes.max(1) > -1)
    assert (outcomes[np.arange(len(states)), result.action][known] > -1).all()


def test_the_solver_as_evaluator_plays_perfectly(tools):
    game = tools.game("connect_four")
    states = tools.random_states(game, 40, seed=5, plies=30, least=24)
    solver = Solver(game)
    search = Search(game, SearchConfig(num_simulations=8), num_trees=40)
    result = search.run(states, SolverEvaluator(solver), noise=False)
    outcomes = solver.outcomes(states)
    np.testing.assert_array_equal(outcomes[np.arange(40), result.action], outcomes.max(1))


def test_three_players_each_look_after_themselves(tools):
    """Who takes the last wins; with 1 to 3 left the mover just takes them."""
    game = tools.game("race")
    state = game.from_moves([2, 2, 1])  # 11 - 3 - 3 - 2 = 3 left
    for algorithm in ("gumbel", "puct", "uct"):
        config = SearchConfig(algorithm=algorithm, num_simulations=200)
        search = Search(game, config, num_trees=1)
        evaluator = None if algorithm == "uct" else RolloutEvaluator()
        result = search.run(StateBatch.from_states([state]), evaluator)
        assert result.action[0] == 2
        assert result.q[0, 2] == 1


def test_one_player_finds_a_good_sum(tools):
    game = tools.game("ladder")
    for algorithm in ("gumbel", "puct", "uct"):
        config = SearchConfig(algorithm=algorithm, num_simulations=3000, uct_c=0.3)
        search = Search(game, config, num_trees=1, seed=2)
        states = game.batch(1)
        evaluator = None if algorithm == "uct" else RolloutEvaluator()
        search.begin(states)
        while not states.is_terminal()[0]:
            action = search.run(None, evaluator).action
            states.apply(action)
            search.advance(action)
        assert states.returns()[0, 0] >= 0.96


def test_the_principal_variation_is_legal_and_ends_a_won_game(tools):
    game = tools.game("connect_four")
    state = game.from_moves("44455")
    search = Search(game, SearchConfig(algorithm="uct", num_simulations=20000), num_trees=1)
    result = search.run(StateBatch.from_states([state]))
    for action in result.pv(0):
        state = state.apply(action)
    assert result.pv(0)[0] == result.action[0]
    assert len(result.pv(0)) > 3


def test_uct_looks_where_rewards_are_whatever_their_scale(tools):
    """The bonus for moves seldom tried is measured by the results, not by the game's scale."""
    found = []
    for scale in (1.0, 256.0, 65536.0):
        rules = tools.games["points1"]()
        rules.value_scale = scale
        search = Search(from_python(rules), SearchConfig(algorithm="uct", num_simulations=200))
        found.append(search.run(from_python(rules).batch(1)).visits)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert found[0].max() > 1.3 * found[0].sum() / 3  # it prefers one of the three moves


def test_values_hold_what_was_collected_on_the_way_in_units_of_the_scale(tools):
    """A move's value is its reward, those before it, and what the evaluator expects after it."""
    game = playout.game("game_2048(size=3)")
    states = tools.random_states(game, 6, seed=1, plies=30, least=20)
    collected = states.returns()[:, 0] / game.value_scale
    assert (collected > 0).all()
    config = SearchConfig(algorithm="puct", num_simulations=60)
    search = Search(game, config, num_trees=6)
    nothing = search.run(states, UniformEvaluator(0.25), num_simulations=0)
    np.testing.assert_allclose(nothing.value, collected + 0.25, rtol=1e-6)
    result = search.run(states, UniformEvaluator(0.0), noise=False)
    for row, state in enumerate(states):
        for action in np.flatnonzero(result.visits[row] == 1):
            reward = state.apply(int(action)).returns[0] / game.value_scale
            assert result.q[row, action] == pytest.approx(reward, rel=1e-6)
    assert (result.value > collected).all()
    rollouts = Search(game, SearchConfig(algorithm="uct", num_simulations=50), num_trees=6)
    assert (rollouts.run(states).value > collected).all()


def test_a_failed_evaluator_leaves_a_search_that_can_begin_again():
    four = playout.game("connect_four")

    class Fails(UniformEvaluator):
        def evaluate(self, leaves):
            raise RuntimeError("no power")

    search = Search(four, SearchConfig(), num_trees=4)
    with pytest.raises(RuntimeError, match="no power"):
        search.run(four.batch(4), Fails())
    assert search.run(four.batch(4), UniformEvaluator()).visits.sum() == 4 * 32
    search.begin(four.batch(4))
    with pytest.raises(RuntimeError, match="no power"):
        search.run(None, Fails())
    with pytest.raises(SearchError, match="leaves wait"):  # who began it decides
        search.run(four.batch(4), UniformEvaluator())


def test_numbers_of_numpy_are_numbers():
    four = playout.game("connect_four")
    config = SearchConfig(num_simulations=np.int64(3), c_scale=np.float32(0.5))
    assert config == SearchConfig(num_simulations=3, c_scale=0.5)
    assert type(config.num_simulations) is int and type(config.c_scale) is float
    plain = Search(four, config, num_trees=2, seed=2).run(four.batch(2), UniformEvaluator())
    search = Search(four, config, num_trees=np.int64(2), seed=np.uint64(2))
    found = search.run(four.batch(2), UniformEvaluator())
    np.testing.assert_array_equal(found.visits, plain.visits)
    for bad in (np.bool_(True), np.float64(2), True, "2", np.int8(-1)):
        with pytest.raises(ConfigError, match="num_trees"):
            Search(four, config, num_trees=bad)
        with pytest.raises(ConfigError, match="num_simulations"):
            SearchConfig(num_simulations=bad)
    # Bounds are named to the last digit.
    with pytest.raises(ConfigError, match=r"num_simulations must lie in \[0, 8388608\], not -3"):
        SearchConfig(num_simulations=-3)
