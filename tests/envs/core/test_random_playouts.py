"""Random play is uniform over legal moves, in the games' own playout functions too."""

import numpy as np
import playout
import pytest
from playout.envs import StateBatch
from scipy.stats import chi2


def improbable(observed, expected):
    """The chance of a chi-square at least this large if `expected` is true."""
    observed, expected = np.asarray(observed, float), np.asarray(expected, float)
    used = expected > 0
    assert not observed[~used].any()
    statistic = ((observed - expected)[used] ** 2 / expected[used]).sum()
    return chi2.sf(statistic, used.sum() - 1)


@pytest.mark.parametrize(
    ("name", "moves"),
    [
        ("connect_four", ""),
        ("connect_four", "111111"),
        ("connect_four", "1111112222223"),
        ("connect_four(width=12, height=4)", "1 1 1 1 12"),
        ("tic_tac_toe", ""),
        ("tic_tac_toe", "152"),
    ],
)
def test_random_moves_are_uniform_over_legal_ones(name, moves):
    game = playout.game(name)
    start = game.from_moves(moves)
    states = StateBatch.from_states([start]).tile(40_000)
    drawn = np.bincount(states.random_actions(11), minlength=game.num_actions)
    expected = start.action_mask.astype(float) * len(states) / len(start.legal_actions)
    assert improbable(drawn, expected) > 1e-4


def exact_results(state, known):
    """The distribution (win, draw, loss of player 0) of uniformly random play, by enumeration."""
    key = state.to_bytes()
    if key not in known:
        actions = state.legal_actions
        if not actions:
            value = state.returns[0]
            known[key] = np.array([value > 0, value == 0, value < 0], float)
        else:
            parts = [exact_results(state.apply(action), known) for action in actions]
            known[key] = np.mean(parts, axis=0)
    return known[key]


@pytest.mark.parametrize(
    ("name", "moves"),
    [
        ("tic_tac_toe", ""),
        ("tic_tac_toe", "152"),
        ("tic_tac_toe", "12354"),
        ("connect_four(width=3, height=4, run=3)", ""),
        ("connect_four(width=4, height=3, run=3)", "11"),
        ("connect_four", "551431674154272117241246432377"),
        ("connect_four", "5514316741542721172412464323772733"),
    ],
)
def test_playouts_end_as_often_in_each_result_as_enumeration_says(name, moves):
    game = playout.game(name)
    start = game.from_moves(moves)
    exact = exact_results(start, {})
    values = StateBatch.from_states([start]).tile(40_000).playouts(5)[:, 0]
    counts = [(values > 0).sum(), (values == 0).sum(), (values < 0).sum()]
    assert improbable(counts, exact * len(values)) > 1e-4


def test_playouts_and_single_moves_agree_on_the_standard_board():
    states = playout.game("connect_four").batch(60_000)
    fast = states.playouts(1)
    played = states.random_plies(42, 2)
    slow = states.returns()
    assert states.is_terminal().all()
    for values in (fast, slow):
        assert np.array_equal(values[:, 0], -values[:, 1])
        # The first player wins 55.6 %, loses 44.2 % and draws 0.25 % of random games.
        assert abs((values[:, 0] > 0).mean() - 0.556) < 0.01
        assert abs((values[:, 0] == 0).mean() - 0.0025) < 0.001
    assert 21 < played.mean() < 22


def test_playouts_from_a_finished_game_return_its_result():
    game = playout.game("connect_four")
    won = game.from_moves("1212121")
    assert StateBatch.from_states([won]).playouts(0, count=3).tolist() == [[1, -1]]
    assert StateBatch.from_states([won]).random_plies(5, 0).tolist() == [0]
    assert StateBatch.from_states([won]).random_actions(0).tolist() == [-1]


def test_streams_do_not_repeat_each_other():
    values = playout.game("connect_four").batch(4096).playouts(0)[:, 0]
    shifted = playout.game("connect_four").batch(4096).playouts(1)[:, 0]
    assert abs(np.corrcoef(values, shifted)[0, 1]) < 0.06
    assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.06
