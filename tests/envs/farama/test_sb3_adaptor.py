"""as_sb3: what stable-baselines3 expects of a VecEnv."""

import gymnasium as gym
import numpy as np
import playout  # noqa: F401 (registers)
import pytest
from playout.envs.farama.game_vector import as_sb3

pytestmark = pytest.mark.peer
pytest.importorskip("stable_baselines3")


def test_episodes_end_with_their_last_observation_and_the_kind_of_end():
    envs = gym.make_vec(
        "playout/CartPole-v1", num_envs=3, autoreset_mode="SameStep", max_episode_steps=15
    )
    twin = gym.make_vec(
        "playout/CartPole-v1", num_envs=3, autoreset_mode="SameStep", max_episode_steps=15
    )
    adapted = as_sb3(envs)
    adapted.seed(5)
    assert np.array_equal(adapted.reset(), twin.reset(seed=5)[0])
    rng = np.random.default_rng(0)
    kinds = set()
    for _ in range(100):
        actions = rng.integers(0, 2, 3)
        obs, rewards, dones, infos = adapted.step(actions)
        expected = twin.step(actions)
        assert np.array_equal(obs, expected[0]) and np.array_equal(rewards, expected[1])
        assert rewards.dtype == np.float32 and dones.dtype == np.bool_
        assert np.array_equal(dones, expected[2] | expected[3])
        for row in range(3):
            if dones[row]:
                last = expected[4]["final_obs"][row]
                assert np.array_equal(infos[row]["terminal_observation"], last)
                kinds.add(infos[row]["TimeLimit.truncated"])
            else:
                assert infos[row] == {}
    assert kinds == {True, False}


def test_masks_are_given_row_by_row():
    adapted = as_sb3(gym.make_vec("playout/ConnectFour-v0", num_envs=2, autoreset_mode="SameStep"))
    adapted.reset()
    masks = adapted.env_method("action_masks")
    assert len(masks) == 2 and masks[0].dtype == np.bool_ and masks[0].all()


def test_ppo_learns_through_it():
    from stable_baselines3 import PPO

    adapted = as_sb3(gym.make_vec("playout/CartPole-v1", num_envs=4, autoreset_mode="SameStep"))
    model = PPO("MlpPolicy", adapted, n_steps=32, batch_size=64, n_epochs=2, seed=0, device="cpu")
    model.learn(256)
    assert model.num_timesteps == 256


def test_other_reset_modes_are_refused():
    with pytest.raises(ValueError, match="SameStep"):
        as_sb3(gym.make_vec("playout/CartPole-v1", num_envs=2))
    with pytest.raises(TypeError, match="vector environment of playout"):
        as_sb3(gym.make_vec("CartPole-v1", num_envs=2))
