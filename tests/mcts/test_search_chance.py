"""Search of games with dice: equal to the reference, the same on any number of threads, and right.

What it must come to is worked out by plain recursion over moves and outcomes (expectimax).
"""

from functools import cache

import numpy as np
import pytest
from playout.envs.core.game import CHANCE
from playout.envs.core.python_game import from_python
from playout.mcts.evaluators import UniformEvaluator
from playout.mcts.search import UNKNOWN, Search, SearchConfig
from playout.testing import check_game

DICE = ["gamble1", "gamble2", "gamble3"]
ALGORITHMS = ["puct", "gumbel", "uct"]
by_dice = pytest.mark.parametrize("name", DICE)
by_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def exact(rules):
    """A function from a state to the values of all players and, of a mover, those of its moves."""

    @cache
    def values(s):
        mover = rules.to_play(s)
        if mover == -1:
            return tuple(rules.returns(s)), {}
        if mover == CHANCE:
            parts = [(p, values(rules.apply(s, a))[0]) for a, p in rules.chance(s)]
            return tuple(sum(p * v[i] for p, v in parts) for i in range(rules.num_players)), {}
        moves = {a: values(rules.apply(s, a))[0] for a in rules.legal_actions(s)}
        best = max(moves.values(), key=lambda v: v[mover])
        return best, {a: v[mover] for a, v in moves.items()}

    return values


@by_dice
def test_the_dice_games_of_these_tests_keep_every_promise(name, tools):
    check_game(tools.games[name](), num_games=5)


@by_dice
@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("leaves", [1, 4])
@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
def test_visits_and_values_equal_the_reference(algorithm, leaves, reuse, name, tools):
    config = SearchConfig(
        algorithm=algorithm, num_simulations=24, leaves_per_step=leaves, reuse_subtree=reuse
    )
    assert tools.compare(name, config, count=6, moves=3, seed=5, plies=3) > 6


@by_dice
@pytest.mark.parametrize("rollouts", [1, 2])
def test_rollouts_equal_the_reference(rollouts, name, tools):
    config = SearchConfig(algorithm="uct", num_simulations=50, num_rollouts=rollouts)
    assert tools.compare(name, config, count=6, moves=3, seed=6, plies=3) > 6


@by_dice
@by_algorithm
def test_threads_change_nothing(algorithm, name, tools):
    game = tools.game(name)
    states = tools.random_states(game, 40, seed=2, plies=4)
    found = []
    for threads in (1, 4):
        config = SearchConfig(algorithm=algorithm, num_simulations=30, threads=threads)
        search = Search(game, config, num_trees=40, seed=9)
        search.begin(states)
        found.append(search.run() if algorithm == "uct" else tools.finish(search, game))
    assert np.array_equal(found[0].visits, found[1].visits)
    assert np.array_equal(found[0].q, found[1].q)


@by_dice
@by_algorithm
def test_near_the_end_values_and_moves_come_to_those_of_expectimax(algorithm, name, tools):
    rules = tools.games[name]()
    values = exact(rules)
    players = rules.num_players
    ends = [(3 * players - left, 0, (2, 3, 1)[:players]) for left in (1, 2)]
    ends += [(3 * players - left, 0, (3, 2, 4)[:players]) for left in (1, 2)]
    game = from_python(rules)
    states = game.batch(4)
    for row, state in enumerate(ends):
        states[row] = game.from_text(rules.encode(state).hex())
    config = SearchConfig(algorithm=algorithm, num_simulations=3000, c_init=1.0, uct_c=0.7)
    evaluator = None if algorithm == "uct" else UniformEvaluator()
    result = Search(game, config, num_trees=4, seed=1).run(states, evaluator, noise=False)
    for row, state in enumerate(ends):
        expected, moves = values(state)
        chosen = int(result.action[row])
        if row % 2 == 0:  # the last move: each value is an expectation
            for action, value in moves.items():
                few = result.visits[row, action] < 500
                assert few or abs(result.q[row, action] - value) < 0.08
            assert moves[chosen] > max(moves.values()) - 0.03
        elif algorithm != "gumbel":  # which keeps to what its first throws below the root said
            assert abs(result.value[row] - expected[rules.to_play(state)]) < 0.08
            assert moves[chosen] > max(moves.values()) - 0.03
    assert (result.proven == UNKNOWN).all()


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [("puct", "gamble1"), ("puct", "gamble2"), *(("uct", name) for name in DICE)],
)
def test_from_the_start_values_come_to_those_of_expectimax(algorithm, name, tools):
    rules = tools.games[name]()
    expected, moves = exact(rules)(rules.initial_state())
    config = SearchConfig(algorithm=algorithm, num_simulations=5000, c_init=0.5, uct_c=0.7)
    game = from_python(rules)
    evaluator = None if algorithm == "uct" else UniformEvaluator()
    result = Search(game, config, num_trees=1, seed=1).run(game.batch(1), evaluator, noise=False)
    assert abs(result.value[0] - expected[0]) < 0.06
    assert moves[int(result.visits[0].argmax())] > max(moves.values()) - 0.02


def test_children_of_a_chance_node_are_visited_by_their_probability(tools):
    game = tools.game("gamble2")
    config = SearchConfig(algorithm="puct", num_simulations=2000, reuse_subtree=True)
    search = Search(game, config, num_trees=1, seed=3)
    search.run(game.batch(1), UniformEvaluator())
    visits = int(search.result().visits[0, 1])
    reached = {}
    for outcome in (0, 2):
        again = Search(game, config, num_trees=1, seed=3)
        again.run(game.batch(1), UniformEvaluator())
        again.advance([1])
        assert again.states.to_play()[0] == CHANCE
        assert again.done[0]
        nobody = again.result()
        assert nobody.action[0] == -1
        assert nobody.visits.sum() == 0
        assert nobody.pv(0) == []
        again.advance([outcome], num_simulations=0)
        reached[outcome] = int(again.result().visits.sum()) + 1
    assert sum(reached.values()) == visits
    assert abs(reached[2] / visits - 0.625) < 4 * (0.625 * 0.375 / visits) ** 0.5


def test_a_line_ends_where_dice_are_thrown(tools):
    game = tools.game("gamble2")
    config = SearchConfig(algorithm="puct", num_simulations=300)
    result = Search(game, config, num_trees=1, seed=3).run(game.batch(1), UniformEvaluator())
    line = result.pv(0)
    state = game.from_moves(line)
    assert all(action in (0, 1, 2) for action in line)
    assert state.to_play == CHANCE or len(line) > 1


def test_a_search_is_not_begun_at_a_chance_node(tools):
    game = tools.game("gamble2")
    states = game.batch(2)
    states.apply([1, 0])
    search = Search(game, SearchConfig(), num_trees=2)
    with pytest.raises(
        ValueError, match=r"state 0 is a chance node: resolve_chance\(\) comes first"
    ):
        search.begin(states)
    states.resolve_chance(1)
    search.begin(states)


def test_a_search_begun_again_with_the_same_counters_throws_the_same_dice(tools):
    game = tools.game("gamble3")
    config = SearchConfig(num_simulations=50)
    states = tools.random_states(game, 6, seed=4, plies=4)
    first, second = (Search(game, config, num_trees=6, seed=8) for _ in range(2))
    first.begin(states)
    tools.finish(first, game)
    second.counters = first.counters
    results = []
    for search in (first, second):
        search.begin(states)
        results.append(tools.finish(search, game))
    assert np.array_equal(results[0].visits, results[1].visits)


def test_nothing_is_proven_where_gains_need_not_add_up_to_zero(tools):
    """A loss of the other side's is no gain of one's own; endings that happen to balance aside."""
    config = SearchConfig(algorithm="puct", num_simulations=400)
    for zero_sum, proven in ((True, True), (False, False)):
        rules = type("Declared", (tools.games["row"],), {"zero_sum": zero_sum})
        game = from_python(rules())
        states = game.batch(1)
        for action in (0, 4):
            states.apply([action])
        result = Search(game, config, num_trees=1).run(states, UniformEvaluator())
        assert (result.proven[0] != UNKNOWN) == proven
