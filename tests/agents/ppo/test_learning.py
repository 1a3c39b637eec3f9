"""Learning where the best answer is known: bandit, chain, memory, masks, a target, both paths."""

import numpy as np
import pytest
from playout.agents.networks.config import NetworkConfig
from playout.agents.ppo.config import CollectConfig, PPOConfig
from playout.agents.ppo.trainer import PPOTrainer
from playout.agents.vector.factory import make_environments
from ppo_worlds import Bandit, Chain, Masked, Recall, Target


def train(source, steps, *, seed=0, num_envs=8, num_steps=16, network=None, ppo=None, **collect):
    settings = {"learning_rate": 1e-2, "minibatch_size": 64, "num_epochs": 4, **(ppo or {})}
    config = CollectConfig(num_envs=num_envs, num_steps=num_steps, eval_episodes=40, **collect)
    trainer = PPOTrainer(
        make_environments(source, num_envs, processes=0),
        lambda: make_environments(source, 8, processes=0),
        total_timesteps=steps,
        seed=seed,
        ppo=PPOConfig(**settings),
        network=NetworkConfig(**{"hidden": (16,), **(network or {})}),
        collect=config,
        stop=False,
    )
    while not trainer.finished:
        trainer.update()
    found = trainer._evaluate("eval")
    return trainer, found.mean


def test_a_bandit_settles_on_the_best_arm():
    _, mean = train(Bandit, 1500)
    assert mean == 1.0


@pytest.mark.slow
def test_a_chain_is_walked_to_its_end_past_the_small_reward_at_hand():
    _, mean = train(Chain, 4000, num_envs=16, ppo={"ent_coef": 0.05, "minibatch_size": 128})
    assert mean == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_cue_is_remembered_by_a_recurrent_policy(kind):
    network = {"recurrent": kind, "recurrent_size": 16, "shared_trunk": True}
    ppo = {"gamma": 1.0, "minibatch_size": 128, "learning_rate": 2e-2}
    _, mean = train(Recall, 6000, network=network, num_envs=32, ppo=ppo)
    assert mean > 0.95


def test_a_cue_cannot_be_remembered_without_memory():
    _, mean = train(Recall, 2000, ppo={"gamma": 1.0})
    assert abs(mean) < 0.75


@pytest.mark.slow
def test_masks_lead_to_the_one_good_action_of_the_legal_ones():
    ppo = {"learning_rate": 2e-2}
    _, mean = train(Masked, 8000, num_envs=16, network={"hidden": (32,)}, ppo=ppo)
    assert mean > 7.5  # of 8


@pytest.mark.slow
@pytest.mark.parametrize("squash", [False, True])
def test_continuous_actions_find_the_target(squash):
    ppo = {"learning_rate": 3e-2, "minibatch_size": 128}
    network = {"squash": squash, "log_std_init": -0.5}
    _, mean = train(Target, 6000, network=network, ppo=ppo, num_envs=16)
    assert mean > -0.02


def test_normalised_observations_and_rewards_still_solve_the_chain():
    _, mean = train(
        Bandit, 3000, normalize_obs=True, normalize_rewards=True, ppo={"ent_coef": 0.001}
    )
    assert mean == 1.0


@pytest.mark.slow
def test_compiled_and_torch_paths_learn_cartpole_alike():
    returns = []
    for activation in ("tanh", "elu"):  # elu has no compiled path
        trainer = PPOTrainer(
            make_environments("CartPole-v1", 32),
            lambda: make_environments("CartPole-v1", 40),
            total_timesteps=32_000,
            seed=1,
            ppo=PPOConfig(learning_rate=3e-3, minibatch_size=512, num_epochs=6),
            network=NetworkConfig(activation=activation),
            collect=CollectConfig(num_envs=32, num_steps=64, eval_episodes=40),
        )
        while not trainer.finished:
            trainer.update()
            trainer.evaluate()
        assert (trainer.policy.compiled is not None) == (activation == "tanh")
        returns.append(trainer._evaluate("again").mean)
    assert min(returns) > 100


def test_the_entropy_bonus_is_annealed():
    trainer, _ = train(Bandit, 600, ppo={"ent_coef": 5.0, "anneal_ent": True})
    metrics = trainer.update()
    mean_loss = metrics["train/policy_gradient_loss"] + 0.5 * metrics["train/value_loss"]
    # A bonus of 5 times the entropy would be most of the loss; at the end of a run it is 0.
    assert metrics["train/loss"] == pytest.approx(mean_loss, abs=0.1)


def test_the_entropy_bonus_is_annealed_to_where_it_is_told_to_end():
    options = {"anneal_ent": True, "final_ent_coef": 2.0}
    bonus = {}
    for first in (5.0, 2.0):
        trainer, _ = train(Bandit, 600, ppo={"ent_coef": first, **options})
        metrics = trainer.update()  # behind the end of the budget
        parts = metrics["train/policy_gradient_loss"] + 0.5 * metrics["train/value_loss"]
        bonus[first] = (metrics["train/loss"] - parts) / metrics["train/entropy_loss"]
    assert bonus == {5.0: pytest.approx(2.0, abs=0.05), 2.0: pytest.approx(2.0, abs=0.05)}


def test_the_clip_range_and_learning_rate_are_annealed():
    trainer, _ = train(Bandit, 600, ppo={"anneal_clip": True})
    metrics = trainer.update()
    assert metrics["train/learning_rate"] <= 1e-10
    assert metrics["train/clip_range"] <= 1e-5
    assert np.isfinite(list(metrics.values())).all()
