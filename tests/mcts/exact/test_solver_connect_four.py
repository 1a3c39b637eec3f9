"""The Connect Four solver against brute force, against plain alpha-beta, and against itself."""

import signal
import time

import numpy as np
import playout
import pytest
from playout.envs import StateBatch
from playout.errors import ConfigError, GameError
from playout.mcts.exact.alphabeta import AlphaBeta
from playout.mcts.exact.connect_four._solver import ConnectFourSolver
from playout.mcts.exact.solver import ILLEGAL, ILLEGAL_OUTCOME, Solver

# Outcome for the first player on small boards, as the literature has them: (width, height) -> sign.
KNOWN = {(4, 4): 0, (5, 4): 0, (6, 4): -1, (4, 5): 0, (5, 5): 0}


def late_positions(game, count, plies, seed=0):
    """Up to `count` positions of random games that are still going on after so many plies."""
    states = game.batch(40 * count)
    states.random_plies(np.full(40 * count, plies, np.int32), seed=seed)
    return states[np.flatnonzero(~states.is_terminal())[:count]]


def brute(state, stones, cells, memo):
    """Scores by trying everything: a win with the k-th last own stone counts k."""
    key = state.to_bytes()
    if key not in memo:
        best = -cells
        for action in state.legal_actions:
            child = state.apply(action)
            if child.is_terminal:
                won = child.returns[state.to_play] > 0
                score = (cells + 1 - stones) // 2 if won else 0
            else:
                score = -brute(child, stones + 1, cells, memo)
            best = max(best, score)
        memo[key] = best
    return memo[key]


@pytest.mark.parametrize(
    ("width", "height", "plies", "count"),
    [(7, 6, 32, 12), (7, 6, 33, 12), (4, 4, 7, 6), (5, 4, 10, 8), (4, 5, 10, 8), (3, 6, 7, 3)],
)
def test_scores_equal_brute_force(width, height, plies, count):
    game = playout.game("connect_four", width=width, height=height)
    solver = Solver(game, table_mb=1)
    memo = {}
    roots = late_positions(game, count, plies, seed=width + plies)
    for state in roots:
        brute(state, plies, width * height, memo)
    rng = np.random.default_rng(0)
    keys = rng.permutation(np.array(list(memo), dtype=object))[:300]
    assert len(keys) > 50
    for key in keys:
        state = game.from_bytes(key)
        scores = solver.scores(state)
        assert scores.max() == memo[key], state.text
        legal = np.flatnonzero(scores != ILLEGAL).tolist()
        assert legal == state.legal_actions


@pytest.mark.parametrize(
    ("size", "plies"), [("width=5,height=4", 6), ("width=4,height=5", 6), ("width=6,height=4", 10)]
)
def test_outcomes_equal_plain_alpha_beta(size, plies):
    game = playout.game(f"connect_four({size})")
    fast, plain = Solver(game, table_mb=1), Solver(game)
    plain._engine = AlphaBeta(game)
    states = late_positions(game, 100, plies, seed=4)
    assert (fast.outcomes(states) == plain.outcomes(states)).all()


@pytest.mark.parametrize(("size", "sign"), KNOWN.items())
def test_small_boards_have_their_known_outcomes(size, sign):
    width, height = size
    game = playout.game("connect_four", width=width, height=height)
    assert np.sign(Solver(game).solve(game.initial_state())) == sign


def test_outcomes_are_the_signs_of_scores_and_mirrors_agree():
    game = playout.game("connect_four")
    solver = Solver(game)
    states = late_positions(game, 60, 17, seed=1)
    scores, outcomes = solver.scores_of(states), solver.outcomes(states)
    legal = scores != ILLEGAL
    assert (np.sign(scores)[legal] == outcomes[legal]).all()
    assert (outcomes[~legal] == ILLEGAL_OUTCOME).all()
    assert (legal == (states.legal_mask() > 0)).all()
    assert (Solver(game).scores_of(states.symmetry(1)) == scores[:, ::-1]).all()


def test_a_score_is_what_the_best_move_leaves():
    game = playout.game("connect_four")
    solver = Solver(game)
    for state in late_positions(game, 20, 19, seed=2):
        scores = solver.scores(state)
        for action in state.legal_actions:
            child = state.apply(action)
            if child.is_terminal:
                won = child.returns[state.to_play] > 0
                assert scores[action] == ((42 + 1 - 19) // 2 if won else 0)
            else:
                assert scores[action] == -solver.solve(child)
        assert scores[solver.best(state)] == scores.max()


@pytest.mark.slow
def test_answers_do_not_depend_on_table_size_threads_or_what_was_asked_before():
    game = playout.game("connect_four")
    states = late_positions(game, 80, 16, seed=3)
    expected = Solver(game, table_mb=64).scores_of(states)
    small = Solver(game, table_mb=1)
    assert (small.scores_of(states[::-1])[::-1] == expected).all()
    assert (small.scores_of(states) == expected).all()
    assert (Solver(game, threads=3).scores_of(states) == expected).all()
    small.clear()
    assert small.nodes == 0
    assert (small.scores_of(states[:5]) == expected[:5]).all()


def test_a_win_on_the_last_stone_and_a_full_board_are_told_apart():
    game = playout.game("connect_four", width=4, height=4)
    solver = Solver(game)
    states = late_positions(game, 300, 15, seed=5)
    scores = solver.scores_of(states)
    finals = states.copy()
    finals.apply(np.where(scores == ILLEGAL, -1000, scores).argmax(axis=1).astype(np.int32))
    won = finals.returns()[:, 1] > 0
    assert (scores.max(axis=1) == np.where(won, 1, 0)).all()
    assert won.any() and not won.all()


def test_the_window_clips_the_score():
    solver = ConnectFourSolver(7, 6)
    state = playout.game("connect_four").from_moves("4444422557")
    own, both = (int(x) for x in np.frombuffer(state.to_bytes(), np.uint64))
    score = solver.score(own, both)
    assert solver.score(own, both, -1, 1) == np.sign(score)
    assert solver.score(own, both, score - 1, score + 1) == score
    assert solver.score(own, both, -64, score - 3) == score - 3
    assert solver.score(own, both, score + 3, 64) == score + 3
    small = ConnectFourSolver(4, 4)
    assert small.score(0, 0, -64, -40) == -40
    assert small.score(0, 0, 40, 64) == 40


def test_the_window_clips_a_win_at_once():
    solver = ConnectFourSolver(7, 6)
    state = playout.game("connect_four").from_moves("112233")
    own, both = (int(x) for x in np.frombuffer(state.to_bytes(), np.uint64))
    assert [solver.score(own, both, *ends) for ends in ((-64, 64), (-1, 1), (30, 40))] == [
        18,
        1,
        30,
    ]


def test_boards_up_to_64_bits_work():
    game = playout.game("connect_four", width=8, height=7)
    solver = Solver(game, table_mb=1)
    assert solver.counts_plies
    states = late_positions(game, 12, 46, seed=6)
    memo = {}
    for state in states[:4]:
        assert solver.solve(state) == brute(state, 46, 56, memo)


def test_three_tall_columns_have_no_slanted_four():
    game = playout.game("connect_four", width=3, height=20)
    state = game.from_moves("123321")  # X has a1 b2 c1, and c3 would go on to a fourth column
    assert not state.apply(2).is_terminal
    own, both = (int(x) for x in np.frombuffer(state.to_bytes(), np.uint64))
    assert ConnectFourSolver(3, 20, table_mb=1).score(own, both, 26, 27) == 26  # a win would be 27


@pytest.mark.parametrize(("width", "height"), [(3, 20), (2, 31), (1, 63)])
def test_tall_boards_are_solved_as_alpha_beta_solves_them(width, height):
    game = playout.game("connect_four", width=width, height=height)
    filled = "".join(str(column + 1) * (height - 4) for column in range(width))
    states = StateBatch.from_states([game.from_moves(filled)] * 40)
    states.random_plies(np.arange(40) % (4 * width), seed=1)
    states = states[~states.is_terminal()]
    fast, plain = Solver(game, table_mb=1), Solver(game)
    plain._engine = AlphaBeta(game)
    assert (fast.outcomes(states) == plain.outcomes(states)).all()


def test_finished_positions_and_wrong_arguments_are_refused():
    game = playout.game("connect_four")
    solver = Solver(game)
    over = game.from_moves("1212121")
    with pytest.raises(GameError, match="over"):
        solver.solve(over)
    with pytest.raises(GameError, match="over"):
        solver.best(over)
    assert (solver.scores(over) == ILLEGAL).all()
    with pytest.raises(GameError, match="plays"):
        solver.outcomes(playout.game("connect_four", width=6).batch(1))
    for wrong in ({"threads": 0}, {"table_mb": 0}, {"table_mb": 1 << 30}):
        with pytest.raises(ConfigError):
            Solver(game, **wrong)
    bits = ConnectFourSolver(7, 6)
    for own, both in ((1, 0), (2, 2), (0, 1 << 6), (0, 1 << 60)):
        with pytest.raises(ValueError, match="not a position"):
            bits.score(own, both)
    with pytest.raises(ValueError, match="fit"):
        ConnectFourSolver(9, 7)
    with pytest.raises(ValueError, match="alpha"):
        bits.score(0, 0, 2, 2)
    with pytest.raises(ValueError, match="columns"):
        row = np.zeros(1, np.uint64)
        bits.score_moves(row, row, np.zeros((1, 6), np.int8))


def test_values_tell_who_won_finished_games():
    game = playout.game("connect_four")
    states = game.batch(1)
    states[0] = game.from_moves("1212121")
    assert Solver(game).values(states).tolist() == [1]


def test_a_limit_of_nodes_ends_a_long_search():
    game = playout.game("connect_four")
    solver = Solver(game, max_nodes=5000)
    with pytest.raises(GameError, match="gave up"):
        solver.solve(game.initial_state())
    states = late_positions(game, 5, 34, seed=7)
    assert (solver.scores_of(states) == Solver(game).scores_of(states)).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_ends_a_long_search(threads):
    game = playout.game("connect_four")
    solver = Solver(game, threads=threads)

    def interrupt(*_):
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    start = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            solver.outcomes(game.batch(4))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert time.monotonic() - start < 30
    states = late_positions(game, 5, 30, seed=8)
    assert (solver.scores_of(states) == Solver(game).scores_of(states)).all()
