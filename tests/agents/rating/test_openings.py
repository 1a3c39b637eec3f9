"""Openings: distinct, undecided, repeatable, as long as the game allows."""

import time

import numpy as np
import playout
import pytest
from playout.agents.rating.openings import opening_plies, random_openings
from playout.envs.core.state_batch import StateBatch
from playout.errors import ConfigError
from playout.mcts.exact.alphabeta import AlphaBeta
from rating_games import Nim

HALVES = ("choosing", "rating")


def test_openings_are_distinct_undecided_and_repeatable():
    game = playout.game("connect_four")
    found = random_openings(game, 60, plies=5, seed=3)
    assert found == random_openings(game, 60, plies=5, seed=3)
    assert found != random_openings(game, 60, plies=5, seed=4)
    states = [game.from_moves(moves) for moves in found]
    keys = {min(state.hash, state.symmetry(1).hash) for state in states}
    assert len(keys) == 60
    solver = AlphaBeta(game)
    for state in states[:20]:
        assert np.nanmax(solver.values(StateBatch.from_states([state]), depth=6)) == 0


def test_few_openings_are_repeated_in_turn():
    found = random_openings("connect_four", 10, plies=1, seed=0)
    assert len({tuple(moves) for moves in found}) == 4  # of 7 columns, mirror images are one
    assert found[:4] == found[4:8]
    assert random_openings("connect_four", 3, plies=0, seed=0) == [[], [], []]


@pytest.mark.parametrize("plies", [-1, 43, 42])
def test_openings_that_cannot_be_are_refused(plies):
    with pytest.raises(ConfigError):
        random_openings("connect_four", 2, plies=plies, seed=0)


def test_openings_of_short_games_are_short():
    plies = {name: opening_plies(playout.game(name)) for name in ("connect_four", "tic_tac_toe")}
    assert plies == {"connect_four": 4, "tic_tac_toe": 1}


def test_openings_cost_little_on_a_large_board_and_in_slow_rules():
    class Wide(Nim):
        """Many moves, so that six plies at full width are 10^10 lines."""

        name, num_actions, max_plies, stones = "wide", 50, 21, 200
        calls = 0
        obs_shape = (1, 1, 201)

        def legal_actions(self, state):
            return range(min(self.num_actions, state[0]))

        def apply(self, state, action):
            type(self).calls += 1
            return super().apply(state, action)

    found = random_openings(playout.game(Wide()), 8, plies=2, seed=0)
    assert len({tuple(moves) for moves in found}) == 8 and Wide.calls < 2000
    large = playout.game("connect_four(width=9,height=6,run=6)")
    begun = time.process_time()
    random_openings(large, 50, plies=4, seed=0)
    assert time.process_time() - begun < 5.0


def test_a_half_without_openings_takes_all_of_them():
    found = [random_openings("tic_tac_toe", 6, plies=1, seed=0, part=part) for part in HALVES]
    assert all(found)
