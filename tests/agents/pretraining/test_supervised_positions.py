import numpy as np
import playout
import pytest
from playout.agents.pretraining.supervised import examples_of, solve
from playout.envs.core.game import StateBatch
from playout.errors import ConfigError
from playout.mcts.exact.solver import Solver


def test_labels_are_the_solvers_outcomes():
    game = playout.game("tic_tac_toe")
    examples = examples_of(*solve(game, count=200, plies=(1, 7), seed=3))
    states = StateBatch.from_data(game, examples.states, check=True)
    outcomes = Solver(game).outcomes(states)
    assert len(examples) == 200
    assert len(np.unique(states.hash())) == 200
    assert np.array_equal(examples.values[:, 0], outcomes.max(axis=1))
    policy = examples.policy.dense(game.num_actions)
    assert ((policy > 0) == (outcomes == outcomes.max(axis=1, keepdims=True))).all()


def test_plies_at_which_every_game_is_over_give_no_label():
    with pytest.raises(ConfigError, match="no position"):
        solve(playout.game("tic_tac_toe"), count=5, plies=(9, 9))
