"""The interface: order of calls, bad input, budgets, noise, single rows, moving on."""

import numpy as np
import pytest
from playout.envs.core.python_game import from_python
from playout.errors import ConfigError, GameError, IllegalActionError, SearchError
from playout.mcts.evaluators import RolloutEvaluator, UniformEvaluator
from playout.mcts.search import UNKNOWN, Search, SearchConfig


@pytest.fixture
def four(tools):
    return tools.game("connect_four")


def make(game, num_trees=4, seed=0, **config):
    return Search(game, SearchConfig(**config), num_trees=num_trees, seed=seed)


def test_leaves_show_the_states_of_the_game(four, tools):
    search = make(four, num_trees=6, num_simulations=8)
    states = tools.random_states(four, 6, plies=10)
    search.begin(states)
    leaves = search.ask()
    np.testing.assert_array_equal(leaves.states, states.data)
    np.testing.assert_array_equal(leaves.obs, states.observe())
    np.testing.assert_array_equal(leaves.mask, states.legal_mask())
    np.testing.assert_array_equal(leaves.to_play, states.to_play())
    search.tell(np.zeros((6, 7), np.float32), np.zeros(6, np.float32))
    leaves = search.ask()
    later = type(states).from_data(four, leaves.states.copy())
    np.testing.assert_array_equal(leaves.obs, later.observe())
    np.testing.assert_array_equal(leaves.mask, later.legal_mask())


@pytest.mark.parametrize("algorithm", ["gumbel", "puct"])
def test_every_simulation_of_the_budget_is_made(algorithm, four):
    search = make(four, algorithm=algorithm, num_simulations=20)
    result = search.run(four.batch(4), UniformEvaluator(), num_simulations=[0, 1, 20, 50])
    np.testing.assert_array_equal(result.visits.sum(1), [0, 1, 20, 50])
    np.testing.assert_allclose(result.action_weights.sum(1), 1, rtol=1e-5)
    assert (result.proven == UNKNOWN).all() and search.done.all()
    np.testing.assert_array_equal(result.nodes, [1, 2, 21, 51])


def test_noise_can_be_left_out_for_single_trees(four):
    for algorithm in ("gumbel", "puct"):
        search = make(four, num_trees=40, algorithm=algorithm, num_simulations=12, seed=5)
        noise = np.arange(40) % 2 == 0
        visits = search.run(four.batch(40), UniformEvaluator(), noise=noise).visits
        assert len(np.unique(visits[~noise], axis=0)) == 1
        assert len(np.unique(visits[noise], axis=0)) > 5


def test_noise_is_fresh_in_every_search_and_repeats_with_the_seed(four):
    first, second = make(four, seed=1), make(four, seed=1)
    other = make(four, seed=2)
    a, b = (first.run(four.batch(4), UniformEvaluator()).visits.copy() for _ in range(2))
    assert (a != b).any()
    np.testing.assert_array_equal(second.run(four.batch(4), UniformEvaluator()).visits, a)
    assert (other.run(four.batch(4), UniformEvaluator()).visits != a).any()
    second.counters = first.counters - 1
    np.testing.assert_array_equal(second.run(four.batch(4), UniformEvaluator()).visits, b)


def test_dirichlet_noise_moves_the_prior_but_not_what_is_reported(four):
    search = make(four, num_trees=200, algorithm="puct", num_simulations=0, dirichlet_alpha=1.0)
    result = search.run(four.batch(200), UniformEvaluator())
    np.testing.assert_allclose(result.prior_logits, np.log(1 / 7), rtol=1e-5)
    shares = result.action_weights  # without visits the noisy prior
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)
    assert (shares >= 0.75 / 7 - 1e-6).all()
    np.testing.assert_allclose(shares.mean(0), 1 / 7, atol=0.02)


def test_rows_can_be_begun_and_read_alone(four, tools):
    search = make(four, num_trees=3, num_simulations=6)
    states = tools.random_states(four, 3, plies=6)
    search.begin(states[[0, 2]], where=[0, 2])
    np.testing.assert_array_equal(search.done, [False, True, False])
    while (leaves := search.ask()) is not None:
        assert leaves.size <= 2
        search.tell(*tools.evaluate(leaves.states, four))
    result = search.result(where=[False, False, True])
    assert result.visits.shape == (1, 7) and result.visits.sum() == 6
    with pytest.raises(SearchError, match="row 1"):
        search.result()
    search.begin(states[[1]], where=[1])
    tools.finish(search, four)
    np.testing.assert_array_equal(search.states.data, states.data)


def test_a_result_can_be_read_before_the_end(four, tools):
    search = make(four, num_trees=1, algorithm="puct", num_simulations=30)
    search.begin(four.batch(1))
    for _ in range(10):
        leaves = search.ask()
        search.tell(*tools.evaluate(leaves.states, four))
    assert search.result().visits.sum() == 9


def test_advance_keeps_the_subtree_and_counts_its_visits(four, tools):
    search = make(four, num_trees=1, algorithm="puct", num_simulations=60)
    search.begin(four.batch(1))
    before = tools.finish(search, four)
    action, line = int(before.action[0]), before.pv(0)
    search.advance([action])
    kept = search.result()
    assert kept.visits.sum() == before.visits[0, action] - 1
    evaluated = 0
    while (leaves := search.ask()) is not None:
        evaluated += leaves.size
        search.tell(*tools.evaluate(leaves.states, four))
    assert search.result().visits.sum() == 60
    assert evaluated == 60 - kept.visits.sum()
    assert line[0] == action and len(line) > 1
    with pytest.raises(SearchError, match="pv"):
        before.pv(0)


def test_whole_games_can_be_played_by_advancing(four, tools):
    for reuse in (True, False):
        search = make(four, num_trees=8, num_simulations=12, reuse_subtree=reuse, seed=3)
        states = four.batch(8)
        search.begin(states)
        for _ in range(43):
            action = tools.finish(search, four).action
            going = np.flatnonzero(action >= 0)
            np.testing.assert_array_equal(search.states.data, states.data)
            assert (states.is_terminal() == (action < 0)).all()
            if not going.size:
                break
            states.apply(np.where(action < 0, 0, action), where=action >= 0)
            search.advance(action[going], where=going)
        assert states.is_terminal().all()
        assert (search.result().nodes >= 1).all()


def test_temperature_samples_the_weights(four):
    search = make(four, num_trees=2000, algorithm="puct", num_simulations=30)
    result = search.run(four.batch(2000), UniformEvaluator(), noise=False, temperature=1.0)
    drawn = np.bincount(result.action, minlength=7) / 2000
    np.testing.assert_allclose(drawn, result.action_weights[0], atol=0.04)
    cold = search.result(temperature=1e-3)
    assert (result.action_weights[0][cold.action] == result.action_weights[0].max()).all()
    again = search.result(temperature=1.0)
    np.testing.assert_array_equal(again.action, result.action)


def test_values_may_be_given_for_every_player(four, tools):
    def visits(both):
        search = make(four, num_simulations=40)
        search.begin(tools.random_states(four, 4, plies=8))
        while (leaves := search.ask()) is not None:
            logits, values = tools.evaluate(leaves.states, four)
            pair = np.where(leaves.to_play[:, None] == [0, 1], values[:, None], -values[:, None])
            search.tell(logits, pair if both else values)
        return search.result().visits

    np.testing.assert_array_equal(visits(False), visits(True))


def test_numbers_that_are_not_finite_are_refused_and_nothing_is_lost(four, tools):
    twin, search = (make(four, num_simulations=10) for _ in range(2))
    states = tools.random_states(four, 4, plies=8)
    twin.begin(states)
    expected = tools.finish(twin, four)
    search.begin(states)
    while (leaves := search.ask()) is not None:
        logits, values = tools.evaluate(leaves.states, four)
        for bad in (np.nan, np.inf, -np.inf):
            wrong = values.copy()
            wrong[-1] = bad
            with pytest.raises(ValueError, match=f"row {leaves.size - 1}"):
                search.tell(logits, wrong)
            wrong = logits.copy()
            wrong[0, np.flatnonzero(leaves.mask[0])[-1]] = bad
            with pytest.raises(ValueError, match="row 0"):
                search.tell(wrong, values)
        logits[leaves.mask == 0] = -np.inf  # what masked networks give
        search.tell(logits, values)
    np.testing.assert_array_equal(search.result().visits, expected.visits)
    np.testing.assert_array_equal(search.result().q, expected.q)


def test_wrong_shapes_and_types_are_refused(four):
    search = make(four)
    search.begin(four.batch(4))
    search.ask()
    good, values = np.zeros((4, 7), np.float32), np.zeros(4, np.float32)
    for logits, v, error in (
        (good[:3], values, ValueError),
        (np.zeros((4, 6)), values, ValueError),
        (good, values[:2], ValueError),
        (good, np.zeros((4, 3)), ValueError),
        (good, np.zeros((4, 1)), ValueError),
        (good.astype(int), values, TypeError),
        (good, np.array(["a"] * 4), TypeError),
        (None, values, TypeError),
    ):
        with pytest.raises(error):
            search.tell(logits, v)
    assert search.tell(good.astype(np.float64), values.astype(np.float16))


def test_calls_out_of_order_are_refused(four):
    search = make(four)
    zeros = np.zeros((4, 7), np.float32), np.zeros(4, np.float32)
    with pytest.raises(SearchError, match="ask"):
        search.tell(*zeros)
    assert search.ask() is None
    with pytest.raises(SearchError, match="begin"):
        search.result()
    with pytest.raises(SearchError, match="begun"):
        search.advance([0, 0, 0, 0])
    search.begin(four.batch(4))
    with pytest.raises(SearchError, match="row 0"):
        search.result()
    search.ask()
    for call in (search.ask, search.result, lambda: search.begin(four.batch(4))):
        with pytest.raises(SearchError, match="tell"):
            call()
    search.tell(*zeros)
    with pytest.raises(SearchError):
        search.tell(*zeros)
    search.ask()
    search.cancel()
    search.begin(four.batch(4))
    search.run(None, UniformEvaluator())


def test_wrong_rows_states_and_moves_are_refused(four, tools):
    search = make(four)
    over = four.from_moves("1212121")
    batch = four.batch(4)
    batch[2] = over
    with pytest.raises(ValueError, match="state 2: the game is over"):
        search.begin(batch)
    with pytest.raises(ValueError, match="connect_four"):
        search.begin(tools.game("tic_tac_toe").batch(4))
    with pytest.raises(TypeError, match="StateBatch"):
        search.begin(four.batch(4).data)
    for where in ([1, 1], [3, -1], [True, False], 3, [0.5], [], np.ones(2, np.uint8)):
        with pytest.raises(ValueError):
            search.begin(four.batch(2), where=where)
    for where in ([0, 9], [0, -5]):
        with pytest.raises(IndexError, match=f"names row {where[1]}, there are 4"):
            search.begin(four.batch(2), where=where)
    for budget in (-1, 1.5, [1, 2], 1 << 30):
        with pytest.raises(ValueError):
            search.begin(four.batch(4), num_simulations=budget)
    full = four.from_moves("111111")
    search.begin(type(batch).from_states([full] * 4))
    tools.finish(search, four)
    before = search.states.data.copy()
    with pytest.raises(IllegalActionError, match="row 3: action 0"):
        search.advance([1, 2, 3, 0])
    with pytest.raises(IllegalActionError, match="row 3"):
        search.advance([1, 2, 3, 2**32 + 3])
    np.testing.assert_array_equal(search.states.data, before)
    for actions in ([1, 2], [0.5] * 4, [99] * 4):
        with pytest.raises(ValueError):
            search.advance(actions)
    with pytest.raises(ValueError, match="temperature"):
        search.result(temperature=-1)


def test_wrong_settings_are_refused(four):
    for bad in (
        {"algorithm": "alphazero"},
        {"num_simulations": -1},
        {"num_simulations": 2.5},
        {"leaves_per_step": 0},
        {"prove": 1},
        {"c_scale": float("nan")},
        {"dirichlet_fraction": 1.5},
        {"fpu_mode": "zero"},
    ):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            SearchConfig(**bad)
    for trees in (0, 1.5, True):
        with pytest.raises(ConfigError, match="num_trees"):
            make(four, num_trees=trees)
    with pytest.raises(ConfigError, match="seed"):
        make(four, seed=-1)
    with pytest.raises(ConfigError, match="evaluator"):
        make(four).run(four.batch(4))
    uct = make(four, algorithm="uct")
    with pytest.raises(SearchError, match="run"):
        uct.ask()
    with pytest.raises(ConfigError, match="rollout"):
        uct.run(four.batch(4), UniformEvaluator())


@pytest.mark.parametrize("algorithm", ["gumbel", "puct", "uct"])
def test_a_search_can_be_stopped_early_and_its_other_lines_read(algorithm, four):
    evaluator = None if algorithm == "uct" else RolloutEvaluator(seed=3)
    search = Search(four, SearchConfig(algorithm=algorithm, num_simulations=1 << 20))
    asked = []
    found = search.run(
        four.batch(1), evaluator, noise=False, stop=lambda: asked.append(1) or len(asked) == 2
    )
    assert len(asked) == 2 and 0 < search.stats["simulations"] < 1 << 20
    assert found.pv(0)[0] == found.action[0]
    visited = [int(action) for action in found.visits[0].nonzero()[0]]
    assert [found.pv(0, action=action)[0] for action in visited] == visited


def test_rollouts_as_an_evaluator_repeat_with_their_seed(four):
    first, second = (
        make(four).run(four.batch(4), RolloutEvaluator(seed=7, num_rollouts=3)).visits
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_an_exception_in_a_python_game_comes_out_and_the_search_goes_on(tools):
    class Faulty(tools.games["race"]):
        broken = True

        def apply(self, s, a):
            if self.broken and s[0] < 8:
                raise RuntimeError("no such move")
            return super().apply(s, a)

    rules = Faulty()
    game = from_python(rules)
    search = make(game, num_trees=1, num_simulations=40)
    with pytest.raises(GameError, match="raised RuntimeError: no such move"):
        search.run(game.batch(1), UniformEvaluator())
    rollouts = make(game, num_trees=1, algorithm="uct", num_simulations=40)
    with pytest.raises(GameError, match="raised RuntimeError: no such move"):
        rollouts.run(game.batch(1))
    rules.broken = False
    assert search.run(game.batch(1), UniformEvaluator()).visits.sum() == 40


@pytest.mark.parametrize("algorithm", ["gumbel", "puct", "uct"])
def test_only_the_moves_allowed_at_the_root_are_searched(four, algorithm):
    search = make(four, num_trees=2, num_simulations=50, algorithm=algorithm)
    allowed = np.array([[0, 0, 1, 0, 0, 1, 0], [1] * 7])
    evaluator = None if algorithm == "uct" else UniformEvaluator()
    search.begin(four.batch(2), allowed=allowed)
    if evaluator is not None:
        np.testing.assert_array_equal(search.ask().mask, allowed)
        search.tell(np.zeros((2, 7), np.float32), np.zeros(2, np.float32))
    result = search.run(None, evaluator)
    np.testing.assert_array_equal(result.visits.sum(axis=1), [50, 50])
    np.testing.assert_array_equal(result.visits[0] > 0, allowed[0] > 0)
    np.testing.assert_array_equal(result.action_weights[0] > 0, allowed[0] > 0)
    np.testing.assert_array_equal(np.isfinite(result.prior_logits), allowed > 0)
    assert result.action[0] in (2, 5) and result.pv(0)[0] == result.action[0]
    with pytest.raises(IllegalActionError):
        search.advance([0, 0])
    search.advance(result.action)
    after = search.run(None, evaluator).prior_logits
    assert np.isfinite(after).all()  # below the root nothing is left out


def test_moves_allowed_must_be_truth_values_and_leave_a_legal_one(four):
    search, states = make(four, num_trees=2), four.batch(2)
    for bad in (np.ones((2, 6)), np.ones(7), np.ones((3, 7), bool), [["a"] * 7] * 2):
        with pytest.raises(ValueError, match=r"truth values of shape \(7,\) or \(2, 7\)"):
            search.begin(states, allowed=bad)
    with pytest.raises(ValueError, match="state 1: none of its legal moves is allowed"):
        search.begin(states, allowed=np.array([[1] * 7, [0] * 7]))


@pytest.mark.parametrize("algorithm", ["gumbel", "uct"])
def test_there_are_no_positions_before_a_search_has_begun(algorithm, tools):
    search = Search("chess", SearchConfig(algorithm=algorithm), num_trees=2)
    for begun in (False, True):
        with pytest.raises(SearchError, match=f"row {int(begun)}: no search was begun"):
            search.states  # noqa: B018
        if not begun:
            search.begin(tools.game("chess").batch(1), where=[0])
    search.begin(tools.game("chess").batch(1), where=[-1])
    assert len(search.states[0].legal_actions) == 20
    search.cancel()
    with pytest.raises(SearchError, match="row 0"):
        search.states  # noqa: B018


def test_rows_are_named_as_state_batches_take_them(four):
    states = four.batch(4)
    states.apply([0, 1, 2, 3])
    for where in (
        [3, 1],
        [-1, -3],
        np.array([3, 1], np.int8),
        np.array([0, 1, 0, 1], np.uint8),
        [],
    ):
        search, twin = make(four), four.batch(4)
        rows = [] if not len(where) else [1, 3] if len(where) == 4 else [3, 1]
        search.begin(four.batch(4))
        search.begin(states[rows], where=where)
        twin.apply([0, 1, 2, 3], where=where)
        np.testing.assert_array_equal(search.states.data, twin.data)
