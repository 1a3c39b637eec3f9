"""One-move tactics by definition, and random positions that keep what they promise."""

import numpy as np
import playout
import pytest
from playout.errors import GameError
from playout.mcts.exact.positions import random_positions
from playout.mcts.exact.solver import ILLEGAL, Solver
from playout.mcts.exact.tactics import tactics, winning_actions


@pytest.mark.parametrize("name", ["connect_four", "tic_tac_toe"])
def test_tactics_are_what_trying_shows(name):
    game = playout.game(name)
    states = game.batch(60)
    rng = np.random.default_rng(0)
    states.random_plies(rng.integers(0, game.max_plies - 3, 60).astype(np.int32), seed=1)
    wins, losing, legal = tactics(states)
    assert np.array_equal(legal, states.legal_mask() > 0)
    assert np.array_equal(wins, winning_actions(states))

    def win(state, action):
        child = state.apply(action)
        return child.is_terminal and child.returns[state.to_play] > 0

    for row, state in enumerate(states):
        for action in range(game.num_actions):
            possible = action in state.legal_actions
            assert wins[row, action] == (possible and win(state, action))
            if wins[row].any():  # then nobody asks which actions lose
                continue
            child = state.apply(action) if possible else None
            replies = child.legal_actions if child is not None and not child.is_terminal else []
            assert losing[row, action] == any(win(child, reply) for reply in replies)


def test_random_positions_matter_are_distinct_and_repeat_with_their_seed():
    game = playout.game("connect_four")
    solver = Solver(game)
    found = random_positions(game, 60, plies=(18, 24), seed=3, solver=solver)
    again = random_positions(game, 60, plies=(18, 24), seed=3, solver=solver)
    assert len(found) == 60 and found.moves == again.moves
    assert (found.scores == again.scores).all()
    assert (found.states.data == again.states.data).all()
    assert found.moves != random_positions(game, 60, plies=(18, 24), seed=4, solver=solver).moves
    hashes = np.minimum(found.states.hash(), found.states.symmetry(1).hash())
    assert len(set(hashes.tolist())) == 60
    assert not winning_actions(found.states).any()
    for row, moves in enumerate(found.moves):
        assert 18 <= len(moves) <= 24
        assert game.from_moves(moves) == found.states[row]
        signs = np.sign(found.scores[row][found.scores[row] != ILLEGAL])
        assert signs.min() < signs.max()
    assert (found.scores == solver.scores_of(found.states)).all()
    assert (found.outcomes == solver.outcomes(found.states)).all()


def test_open_positions_and_outcomes_alone_can_be_asked_for():
    found = random_positions("tic_tac_toe", 40, plies=(0, 6), filter="open", exact=False)
    assert len(found) == 40
    legal = found.scores != ILLEGAL
    assert (legal == (found.states.legal_mask() > 0)).all()
    assert set(np.unique(found.scores[legal])) <= {-1, 0, 1}


def test_a_game_that_has_no_more_positions_says_so():
    with pytest.raises(GameError, match="finds only"):
        random_positions("tic_tac_toe", 100_000, plies=(1, 3))
    with pytest.raises(ValueError, match="cannot find"):
        random_positions("connect_four", 0)
    with pytest.raises(ValueError, match="filter"):
        random_positions("connect_four", 1, filter="all")
