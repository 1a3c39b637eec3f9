"""Value iteration against sums by hand, published values, play, GNU Backgammon and the search."""

import itertools

import numpy as np
import playout
import pytest
from playout.envs import StateBatch
from playout.errors import ConfigError, GameError
from playout.mcts.evaluators import RolloutEvaluator
from playout.mcts.exact.solver import Solver
from playout.mcts.exact.value_iteration import value_iteration
from playout.mcts.search import Search, SearchConfig


def reaches(power):
    return lambda batch: (batch.data[:, :25] >= power).any(axis=1)


@pytest.fixture(scope="module")
def small():
    return value_iteration("game_2048(size=2)")


def test_the_32_tile_of_2x2_is_reached_by_best_play_as_often_as_published():
    """About 8 % (J. Lees-Miller, "The Mathematics of 2048: Optimal Play with Markov Decision
    Processes", 2018).
    """
    found = value_iteration("game_2048(size=2)", goal=reaches(5))
    assert found.value(found.game.initial_state())[0] == pytest.approx(0.08, abs=0.005)
    over = found.game.from_text("16,16/2,. 96 0")
    assert found.action_values(over)[3][0] == 1


def expectimax(state):
    """The same by plain recursion, of a position near its end."""
    if state.is_terminal:
        return 0.0
    values = [
        after.returns[0] - state.returns[0] + expectimax(after)
        for after in map(state.apply, state.legal_actions)
    ]
    if state.to_play >= 0:
        return max(values)
    return sum(p * v for (_, p), v in zip(state.chance_outcomes, values, strict=True))


@pytest.mark.parametrize("text", ["16,8/4,. 68 1", "16,8/2,2 64 0", "16,8/4,4 68 0"])
def test_values_are_those_of_a_plain_recursion(small, text):
    state = small.game.from_text(text)
    assert small.value(state)[0] == pytest.approx(expectimax(state))


def test_best_play_scores_what_the_values_say(small):
    game = small.game
    batch, best = game.batch(1000), {}
    for ply in range(game.max_plies):
        actions = batch.random_actions(7, counter=ply)
        going = np.flatnonzero(actions >= 0)
        if not len(going):
            break
        for row in np.flatnonzero(batch.to_play() == 0).tolist():
            key = batch[row].eval_key
            if key not in best:
                values = small.action_values(batch[row])
                best[key] = max(values, key=lambda action: values[action][0])
            actions[row] = best[key]
        batch.apply(actions, where=going)
    scores = batch.returns()[:, 0]
    expected = small.value(game.initial_state())[0]
    assert abs(scores.mean() - expected) < 4 * scores.std() / np.sqrt(len(scores))


@pytest.mark.parametrize("algorithm", ["uct", "puct", "gumbel"])
def test_the_search_finds_the_best_move_and_what_it_brings(small, algorithm):
    """Of few simulations the values of uct and puct still hold much of what they have tried."""
    game = small.game
    texts = ["2,./4,8 20 0", "2,2/8,4 20 0", "2,4/8,4 20 0", "8,4/2,. 16 0"]
    states = StateBatch.from_states([game.from_text(text) for text in texts])
    config = SearchConfig(algorithm=algorithm, num_simulations=2000)
    search = Search(game, config, num_trees=len(states), seed=5)
    result = search.run(states, None if algorithm == "uct" else RolloutEvaluator(seed=3))
    for row, state in enumerate(states):
        values = {a: v[0] for a, v in small.action_values(state).items()}
        assert result.action[row] == max(values, key=values.get)
        total = result.q[row, result.action[row]] * game.value_scale
        exact = state.returns[0] + max(values.values())
        assert total < exact + 5
        assert algorithm != "gumbel" or total > 0.8 * exact


@pytest.mark.parametrize("name", ["tic_tac_toe", "breakthrough(size=4,columns=3)"])
def test_games_of_two_have_the_solvers_values(name):
    found = value_iteration(name)
    states = found.game.batch(200)
    states.random_plies(np.arange(200) % 8, 3)
    states = states[~states.is_terminal()]
    solver = Solver(name)
    values = found.values(states)
    mine = values[np.arange(len(states)), states.to_play()]
    assert np.array_equal(mine, np.sign(solver.scores_of(states).max(axis=1)))
    assert np.allclose(values.sum(axis=1), 0)


def bear_off(own, other):
    """X with men on `own` points to roll, O with men on `other`, as each counts them."""
    cells = [0] * 26
    for point in own:
        cells[point] += 1
    for point in other:
        cells[25 - point] -= 1
    letters = "".join(
        "-" if not n else chr((ord("A") if n > 0 else ord("a")) + abs(n) - 1) for n in cells
    )
    return f"XGID={letters}:0:0:1:00"


def test_one_man_on_the_one_point_each_is_won_by_who_rolls():
    found = value_iteration(
        "backgammon(gammons=False)",
        StateBatch.from_states(
            [playout.game("backgammon(gammons=False)").from_text(bear_off([6], [1]))]
        ),
    )
    # 27 of 36 rolls take a man off the six point: 6s and sums of 6 or more, and doubles 2, 3.
    state = found.game.from_text(bear_off([6], [1]))
    assert (found.value(state)[0] + 1) / 2 == pytest.approx(27 / 36)


@pytest.mark.peer
def test_bear_offs_have_the_values_of_gnu_backgammons_database(men=2):
    gnubg = pytest.importorskip("gnubg_nn")
    game = playout.game("backgammon(gammons=False)")
    sides = [
        side
        for count in range(1, men + 1)
        for side in itertools.combinations_with_replacement(range(1, 7), count)
    ]
    pairs = list(itertools.product(sides, sides))
    states = StateBatch.from_states([game.from_text(bear_off(*pair)) for pair in pairs])
    chances = (value_iteration(game, states).values(states)[:, 0] + 1) / 2
    for pair, chance in zip(pairs, chances, strict=True):
        board = [[side.count(point) for point in range(1, 26)] for side in pair[::-1]]
        assert chance == pytest.approx(gnubg.probabilities(board, 0)[0], abs=1e-4), pair


def test_what_is_too_large_or_hidden_or_unknown_is_refused(small):
    with pytest.raises(ConfigError, match="more than 1,000 positions"):
        value_iteration("game_2048(size=2,columns=3)", max_states=1000)
    with pytest.raises(ConfigError, match="everything is seen"):
        value_iteration("kuhn_poker")
    with pytest.raises(GameError, match="no value is known"):
        small.value(small.game.from_text("16,16/.,. 96 0"))


def test_nothing_follows_a_game_that_is_over(small):
    state = small.game.initial_state()
    assert set(small.action_values(state)) == {action for action, _ in state.chance_outcomes}
    while not state.is_terminal:
        state = state.apply(max(small.action_values(state)))
    assert small.action_values(state) == {}
