"""Normalisation of observations and rewards: what it leaves alone, and the numbers it gives."""

import gymnasium as gym
import numpy as np
from playout.agents.vector.normalize import ObsNormalizer, RewardScaler


def test_normalised_observations_have_mean_0_and_deviation_1_and_are_clipped():
    space = gym.spaces.Dict(
        {
            "x": gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
            "image": gym.spaces.Box(0, 255, (4, 4, 3), np.uint8),
            "n": gym.spaces.Discrete(3),
        }
    )
    normalizer = ObsNormalizer(space, clip=2.0)
    assert set(normalizer.moments) == {"x"}
    rng = np.random.default_rng(0)
    obs = {
        "x": rng.normal(7.0, 3.0, (1000, 2)).astype(np.float32),
        "image": np.zeros((1000, 4, 4, 3), np.uint8),
        "n": np.zeros(1000, np.int64),
    }
    normalizer.update(obs)
    found = normalizer(obs)
    assert abs(found["x"].mean()) < 0.02 and abs(found["x"].std() - 1) < 0.1
    assert np.abs(found["x"]).max() == 2.0
    assert found["image"] is obs["image"] and found["n"] is obs["n"]


def test_scaled_rewards_are_divided_by_the_deviation_of_their_discounted_sum():
    rng = np.random.default_rng(1)
    rewards = rng.normal(size=(3, 50)).astype(np.float32)
    over = rng.random((3, 50)) < 0.1
    valid = np.ones((3, 50), np.bool_)
    sums, carry = [], np.zeros(3)
    for t in range(50):
        carry = 0.9 * carry + rewards[:, t]
        sums.append(carry.copy())
        carry[over[:, t]] = 0.0
    scaled = rewards.copy()
    RewardScaler(3, 0.9, 100.0)(scaled, over, valid)
    np.testing.assert_allclose(scaled, rewards / np.std(sums), rtol=1e-4)
