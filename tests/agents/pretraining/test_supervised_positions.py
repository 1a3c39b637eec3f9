import numpy as np
import playout
import pytest
from playout.agents.alphazero.config import LearnerConfig
from playout.agents.alphazero.evaluation.solved import policy_actions
from playout.agents.alphazero.evaluator import NetworkEvaluator
from playout.agents.pretraining.supervised import SupervisedConfig, label, train_supervised
from playout.agents.rating.positions import load_eval_positions, value_preserving_share
from playout.envs.core.game import StateBatch
from playout.errors import ConfigError
from playout.mcts.exact.solver import Solver


def test_labels_are_the_solvers_outcomes():
    game = playout.game("tic_tac_toe")
    examples = label(game, count=200, plies=(1, 7), seed=3)
    states = StateBatch.from_data(game, examples.states, check=True)
    outcomes = Solver(game).outcomes(states)
    assert len(examples) == 200
    assert len(np.unique(states.hash())) == 200
    assert np.array_equal(examples.values[:, 0], outcomes.max(axis=1))
    policy = examples.policy.dense(game.num_actions)
    assert ((policy > 0) == (outcomes == outcomes.max(axis=1, keepdims=True))).all()


def test_it_learns_what_the_solver_knows():
    game = playout.game("tic_tac_toe")
    examples = label(game, count=2000, plies=(0, 8), seed=0)
    assert 500 < len(examples) <= 2000
    states, outcomes = load_eval_positions(game)
    calls = []
    config = SupervisedConfig(
        size="tiny", steps=200, learner=LearnerConfig(batch_size=128, learning_rate=5e-3)
    )
    net = train_supervised(game, examples, config, on_step=lambda step, _: calls.append(step))
    actions = policy_actions(NetworkEvaluator(net, device="cpu"), states)
    assert calls == [100, 200]
    assert value_preserving_share(actions, outcomes) > 0.9


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ConfigError):
        SupervisedConfig(plies=(5, 4))
    with pytest.raises(ConfigError, match="no position"):
        label(playout.game("tic_tac_toe"), count=5, plies=(9, 9))
