"""Players without learning, by what they do: spread, tactics, horizon, perfect play."""

import numpy as np
import playout
import pytest
from playout.agents.players.load import make_player
from playout.agents.players.simple import (
    AlphaBetaPlayer,
    GreedyPlayer,
    PerfectPlayer,
    RandomPlayer,
    pick,
)
from playout.agents.rating.arena import play_match
from playout.envs.core.game import StateBatch
from playout.errors import DataError, GameError
from playout.mcts.exact.solver import Solver


@pytest.fixture(scope="module")
def game():
    return playout.game("connect_four")


def positions(game, *moves):
    return StateBatch.from_states([game.from_moves(text) for text in moves])


def test_random_plays_all_legal_moves_equally_and_nothing_else(game):
    states = positions(game, "444444").tile(3000)
    actions = RandomPlayer(seed=1).act(states)
    counts = np.bincount(actions, minlength=7)
    assert counts[3] == 0
    assert (np.abs(np.delete(counts, 3) - 500) < 110).all()
    assert (RandomPlayer(seed=1).act(states) == actions).all()
    assert (RandomPlayer(seed=2).act(states) != actions).any()


def test_greedy_wins_at_once_and_blocks(game):
    # In the last one X has 3 4 5 with both ends open: nothing helps, and anything is played.
    win, block, lost = "121212", "12121", "33445"
    states = positions(game, win, block, lost).tile(60)
    actions = GreedyPlayer(seed=0).act(states).reshape(3, 60)
    assert (actions[0] == 0).all()
    assert (actions[1] == 0).all()
    assert set(actions[2].tolist()) == set(range(7))


@pytest.mark.parametrize(("depth", "sees"), [(2, False), (4, True)])
def test_alpha_beta_sees_as_far_as_its_depth(game, depth, sees):
    # After 1 4 7 5 only 2, 3 and 6 stop O from making an open three, which loses four plies on.
    states = positions(game, "1475").tile(100)
    actions = AlphaBetaPlayer(game, depth, seed=3).act(states)
    assert (set(actions.tolist()) <= {1, 2, 5}) == sees


def test_deep_alpha_beta_takes_the_quickest_win_and_the_slowest_loss():
    game = playout.game("connect_four", width=5, height=4)
    states = game.batch(60)
    states.random_plies(np.full(60, 10, np.int32), seed=1)
    states = states[~states.is_terminal()]
    scores = Solver(game).scores_of(states)
    actions = AlphaBetaPlayer(game, 20, seed=5).act(states)
    assert (scores[np.arange(len(states)), actions] == scores.max(axis=1)).all()
    assert (AlphaBetaPlayer(game, 20, seed=5).act(states) == actions).all()


def test_alpha_beta_can_judge_its_horizon_by_random_games(game):
    # An open three lies beyond a horizon of two plies; random games see that it is good.
    states = positions(game, "4455").tile(60)
    actions = AlphaBetaPlayer(game, 2, rollouts=50, seed=5).act(states)
    assert (AlphaBetaPlayer(game, 2, rollouts=50, seed=5).act(states) == actions).all()
    assert set(actions.tolist()) <= {2, 5}
    assert not set(AlphaBetaPlayer(game, 2, seed=5).act(states).tolist()) <= {2, 5}


def test_perfect_keeps_every_score_and_varies_among_equals():
    game = playout.game("connect_four", width=5, height=4)
    solver = Solver(game)
    states = game.batch(50)
    states.random_plies(np.full(50, 5, np.int32), seed=0)
    states = states[~states.is_terminal()]
    scores = solver.scores_of(states)
    player = PerfectPlayer(game, seed=0, solver=solver)
    rounds = np.stack([player.act(states) for _ in range(8)])
    rows = np.arange(len(states))
    for actions in rounds:
        assert (scores[rows, actions] == scores.max(axis=1)).all()
    assert (rounds != rounds[0]).any()
    player.reset(0)
    assert (player.act(states) == rounds[0]).all()


def test_perfect_never_loses_tic_tac_toe_and_wins_at_once():
    game = playout.game("tic_tac_toe")
    player = PerfectPlayer(game, seed=1)
    state = positions(game, "1425")  # 3 wins at once, other moves win later
    assert player.act(state.tile(10)).tolist() == [2] * 10
    for opponent in (RandomPlayer(), GreedyPlayer()):
        wins, _, losses = play_match(player, opponent, game, 60, openings=0).score("perfect")
        assert losses == 0 and wins > 20


def test_pick_refuses_rows_without_a_choice():
    with pytest.raises(GameError, match="row 1"):
        pick(np.array([[True, False], [False, False]]), np.random.default_rng(0))


@pytest.mark.parametrize("spec", ["random", "greedy", "alphabeta:2", "perfect", "uct:4"])
def test_what_is_no_batch_of_open_positions_is_refused_in_one_line(spec):
    game = playout.game("tic_tac_toe")
    player, start = make_player(spec, game), game.initial_state()
    over = StateBatch.from_states([start, game.from_moves("14253")])
    wrong = [
        (np.zeros((2, 3, 3), np.float32), DataError, r"an array float32 \[2, 3, 3\]"),
        (start, DataError, "not for State"),
        ([start], DataError, "not for list"),
        (over, GameError, "row 1: .* the game is over"),
    ]
    if spec not in ("random", "greedy"):  # those two play any game
        wrong.append((playout.game("connect_four").batch(1), DataError, "plays tic_tac_toe"))
    for given, kind, message in wrong:
        with pytest.raises(kind, match=message) as caught:
            player.act(given)
        assert "\n" not in str(caught.value)
    assert player.act(game.batch(0)).shape == (0,)
