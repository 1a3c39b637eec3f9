"""Normalisation of observations and rewards: what it leaves alone, and the numbers it gives."""

import gymnasium as gym
import numpy as np
from playout.agents.vector.normalize import ObsNormalizer, RewardScaler
from playout.agents.vector.spaces import non_finite


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


def nested(value, rows=4):
    """Observations of two levels, and of a tuple, which the learner sees as a dictionary."""
    part = np.full((rows, 2), value, np.float32)
    return {"robot": {"arm": {"pos": part}, "n": np.zeros(rows, np.int64)}, "pair": {"1": part}}


NESTED = gym.spaces.Dict(
    {
        "robot": gym.spaces.Dict(
            {
                "arm": gym.spaces.Dict({"pos": gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)}),
                "n": gym.spaces.Discrete(3),
            }
        ),
        "pair": gym.spaces.Dict({"1": gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)}),
    }
)


def test_vectors_in_nested_dictionaries_are_normalised_as_well():
    normalizer = ObsNormalizer(NESTED, clip=10.0)
    assert set(normalizer.moments) == {"robot.arm.pos", "pair.1"}
    for value in (4.0, 6.0):
        normalizer.update(nested(value))
    again = ObsNormalizer(NESTED, clip=10.0)
    again.load_state_dict(normalizer.state_dict())
    for one in (normalizer, again):
        found = one(nested(7.0))
        np.testing.assert_allclose(found["robot"]["arm"]["pos"], 2.0, rtol=1e-3)
        np.testing.assert_allclose(found["pair"]["1"], 2.0, rtol=1e-3)
        assert found["robot"]["n"].dtype == np.int64


def test_runs_of_earlier_versions_leave_nested_vectors_as_they_are():
    normalizer = ObsNormalizer(NESTED, clip=10.0)
    normalizer.load_state_dict({})  # what they kept of it
    normalizer.update(nested(4.0))
    assert normalizer.state_dict() == {}
    assert np.array_equal(normalizer(nested(7.0))["pair"]["1"], nested(7.0)["pair"]["1"])


def test_a_nested_observation_that_is_no_number_is_named():
    obs = {"robot": {"pos": np.zeros((2, 3, 4), np.float32)}}
    assert non_finite(obs, 3) is None
    obs["robot"]["pos"][1, 2, 0] = np.inf
    found = str(non_finite(obs, 3))
    assert "environment 1 gave an observation (robot.pos)" in found and "step 2" in found
