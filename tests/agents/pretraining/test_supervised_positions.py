import numpy as np
import playout
import pytest
import torch
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import Split
from playout.agents.pretraining.data.positions import Positions
from playout.agents.pretraining.objectives.objective import Batch
from playout.agents.pretraining.objectives.registry import make_objective
from playout.agents.pretraining.supervised import examples_of, solve
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import new_trunk
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


def positions_of(name, labels):
    """Positions of a game with outcomes of ours."""
    states = playout.game(name).batch(len(labels))
    states.random_plies(np.arange(len(labels), dtype=np.int32) % 5, 1)
    labels = np.array(labels, np.int64)
    return Positions(name=name, game=playout.game(name), states=states.data.copy(), labels=labels)


@pytest.mark.parametrize(("labels", "wanted"), [([0, 2, 0, 2], 1.0), ([0, 2, 0, 1], 0.25)])
def test_without_draws_a_score_beside_one_half_is_a_win_or_a_loss(labels, wanted):
    data = positions_of("hex(size=3)", labels)
    objective = make_objective(new_trunk(data, size="8x1"), data, PretrainConfig())
    values = torch.tensor([0.3, 0.7, 0.45, 0.6]).logit()[:, None]
    objective.trunk.net.heads = lambda images: (torch.zeros(4, 9), values)
    batch = Batch(torch.zeros(4, *data.shape), torch.from_numpy(data.labels))
    found = objective.losses(batch, torch.Generator())
    # With a draw among the labels all four are called one.
    assert float(found["accuracy"]) == wanted


def test_the_loss_chooses_the_best_network_of_positions_and_accuracy_that_of_earlier_runs():
    data = positions_of("hex(size=3)", [0, 2] * 6)
    trunk = new_trunk(data, size="8x1")
    trainer = PretrainTrainer(trunk, Split(data, data), PretrainConfig(batch=4), steps=4)
    found = {"accuracy": 0.75, "loss": 0.5}
    assert trainer.score(found) == -0.5
    state = trainer.state_dict()
    trainer.load_state_dict(state)
    assert trainer.score(found) == -0.5
    del state["judged_by_loss"]
    trainer.load_state_dict(state)
    assert trainer.score(found) == 0.75
    trainer.close()


def test_weight_decay_beside_adam_is_refused_where_it_is_asked_for():
    PretrainConfig(optimizer="adam").refuse_unused(pictures=True)
    config = PretrainConfig(optimizer="adam", weight_decay=0.1)
    with pytest.raises(ConfigError, match="--weight-decay does nothing with --optimizer adam"):
        config.refuse_unused(pictures=True)
