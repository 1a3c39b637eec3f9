"""Evaluation: whole episodes, faults named with environment and step, any device, any scale."""

import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image
from playout.agents.networks.actor_critic import build_policy
from playout.agents.ppo.evaluation import evaluate_policy, figures
from playout.agents.ppo.player import PPOPlayer
from playout.agents.ppo.watching import save_frames
from playout.agents.vector.factory import make_environments
from playout.agents.vector.interface import Environments
from playout.errors import ConfigError, EnvironmentFault, StoppedError
from ppo_worlds import Counter, Hand, Masked
from small_ppo import make


def measured(source, *, device=None, episodes=6, deterministic=True):
    envs = make_environments(source, 3, processes=0)
    policy = build_policy(envs.observation_space, envs.action_space, seed=1)
    if device is not None:
        policy.to(device)
    try:
        return evaluate_policy(policy, envs, episodes=episodes, seed=0, deterministic=deterministic)
    finally:
        envs.close()


@pytest.mark.parametrize("deterministic", [True, False])
def test_environments_that_raise_on_illegal_actions_are_evaluated(deterministic):
    for source in (Masked, Hand):
        found = measured(source, deterministic=deterministic)
        assert len(found.returns) == 6


@pytest.mark.parametrize(("source", "same"), [(Masked, True), (Hand, True)])
def test_a_policy_on_another_device_is_evaluated_there(second, source, same):
    here, there = measured(source), measured(source, device=second)
    assert np.allclose(here.returns, there.returns, atol=1e-5) == same


@pytest.mark.parametrize("wrong", [[0, 256], [-1, 0]])
def test_numbers_that_are_no_bytes_are_refused_where_bytes_were_learned(wrong):
    space = spaces.Box(0, 255, (2,), np.uint8)
    policy = build_policy(space, spaces.Discrete(2), seed=1)
    with pytest.raises(ConfigError, match="an observation is not in Box"):
        PPOPlayer(policy, space, spaces.Discrete(2)).act(np.array(wrong))


class Endless(Counter):
    """An environment without an end."""

    def step(self, action):
        obs, reward, _, _, info = super().step(action)
        return obs, reward, False, False, info


def test_an_evaluation_of_episodes_without_an_end_is_given_up():
    trainer = make(source=Endless, eval_every=1)
    trainer.update()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("playout.agents.ppo.trainer._ENDLESS", 200)
        with pytest.raises(EnvironmentFault, match=r"still running after \d+ steps; give"):
            trainer.evaluate()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("playout.agents.ppo.trainer._STOP_SECONDS", 0.0)
        trainer.stop_soon()
        with pytest.raises(StoppedError):
            trainer.evaluate()


class Broken(Environments):
    """Two environments, whose second says something that is no number at its third step."""

    num_envs, observation_space = 2, spaces.Box(-1, 1, (1,), np.float32)
    action_space, description = spaces.Discrete(2), "broken"

    def __init__(self, what):
        self.what, self.time, self.idle = what, 0, np.zeros(2, np.bool_)

    def reset(self, seed):
        return np.zeros((2, 1), np.float32)

    def step(self, actions):
        self.time += 1
        obs, rewards, no = np.zeros((2, 1), np.float32), np.zeros(2), np.zeros(2, np.bool_)
        if self.time == 3:
            (obs if self.what == "an observation" else rewards)[1] = np.nan
        return obs, rewards, no, no

    def get_state(self):
        return {}

    def set_state(self, state):
        return self.reset(0)


@pytest.mark.parametrize("what", ["an observation", "a reward"])
def test_nan_in_an_evaluation_is_named_with_environment_and_step(what):
    policy = build_policy(Broken.observation_space, Broken.action_space, seed=0)
    message = rf"environment 1 gave {what} that is NaN .* \(episode 0, step 3\)"
    with pytest.raises(EnvironmentFault, match=message):
        evaluate_policy(policy, Broken(what), episodes=2, seed=0)


def test_an_all_zero_mask_is_an_error_that_names_environment_and_step():
    class Stuck(Counter):
        def action_masks(self):
            return np.full(3, self.time < 2)

    with pytest.raises(EnvironmentFault, match=r"environment 0 \(episode 0, step 2\): the action"):
        measured(Stuck)


def test_returns_of_every_scale_keep_three_figures():
    shown = [figures(x) for x in (1234.56, -45.678, 9.8765, 0.12345, 0.012345, 0.00012345, 0.0)]
    assert shown == ["1234.6", "-45.7", "9.88", "0.123", "0.0123", "0.000123", "0.0"]


def test_pictures_of_an_episode_lie_apart_in_a_strip(tmp_path):
    dark = [np.full((8, 10, 3), number, np.uint8) for number in range(9)]
    strip = np.asarray(Image.open(save_frames(dark, tmp_path / "strip.png", 30)))
    assert strip.shape == (8, 6 * 10 + 5 * 2, 3)
    assert [int(strip[0, 12 * place, 0]) for place in range(6)] == [0, 1, 3, 4, 6, 8]
    assert all((strip[:, 12 * place - 2 : 12 * place] == 255).all() for place in range(1, 6))
