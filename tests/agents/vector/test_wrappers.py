"""Wrappers by name around environments: stacked frames, and names that are none."""

import gymnasium as gym
import numpy as np
import pytest
from playout.agents.networks.encoders.choice import build_encoder
from playout.agents.vector.factory import make_environments, wrap
from playout.errors import ConfigError


def test_unknown_wrappers_and_options_are_refused():
    with pytest.raises(ConfigError, match="unknown wrapper"):
        make_environments("CartPole-v1", 2, wrappers=("shiny",))
    with pytest.raises(ConfigError, match="cannot be made"):
        make_environments("CartPole-v1", 2, options={"gravity_on_mars": True})


def test_frames_can_be_stacked():
    envs = make_environments("CartPole-v1", 2, wrappers=("frame_stack:3",), processes=0)
    assert envs.observation_space.shape == (3, 4)


@pytest.mark.parametrize("last", [True, False])
def test_stacked_frames_in_colour_are_one_picture_of_all_their_channels(last):
    class Film(gym.Env):
        action_space = gym.spaces.Discrete(2)
        observation_space = gym.spaces.Box(0, 255, (6, 5, 3) if last else (3, 6, 5), np.uint8)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.rng, self.seen = np.random.default_rng(3), []
            return self.frame(), {}

        def step(self, action):
            return self.frame(), 0.0, False, False, {}

        def frame(self):
            space = self.observation_space
            self.seen.append(self.rng.integers(0, 256, space.shape, np.uint8))
            return self.seen[-1]

    film = Film()
    env = wrap(film, ("frame_stack:2",))
    env.reset()
    obs, *_ = env.step(0)
    first, second = (np.moveaxis(one, -1, 0) if last else one for one in film.seen)
    assert env.observation_space.shape == (6, 6, 5) and env.observation_space.contains(obs)
    assert np.array_equal(obs, np.concatenate([first, second]))
    encoder = build_encoder(env.observation_space, "auto")
    assert encoder.images.shape == (6, 6, 5)  # a picture of six channels


@pytest.mark.parametrize(("low", "high"), [(2.0, 9.0), (-0.3, 0.7), (-2.0, 2.0)])
def test_rescaled_actions_stay_within_bounds(low, high):
    class Pump(gym.Env):
        observation_space = gym.spaces.Box(0, 1, (1,))
        action_space = gym.spaces.Box(low, high, (3,), np.float32)

        def reset(self, *, seed=None, options=None):
            return np.zeros(1, np.float32), {}

        def step(self, action):
            taken.append(action)
            return np.zeros(1, np.float32), 0.0, False, False, {}

    env, taken = wrap(Pump(), ("rescale_action",)), []
    env.reset()
    for action in (-1.0, 1.0, 0.0):
        env.step(np.full(3, action, np.float32))
    assert all(Pump.action_space.contains(action) for action in taken)
    assert np.allclose(taken, [[low] * 3, [high] * 3, [(low + high) / 2] * 3], atol=1e-6)
