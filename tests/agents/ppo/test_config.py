"""Settings of a PPO run: what is refused, and what presets and given values make."""

import dataclasses

import gymnasium as gym
import numpy as np
import playout
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from playout import cli
from playout.agents.commands.ppo import Command
from playout.agents.ppo.config import PPOConfig, resolve
from playout.agents.runs.config import read_presets
from playout.errors import ConfigError


class Pixels(gym.Env):
    """Shows a black picture, once."""

    observation_space = spaces.Box(0, 255, (8, 8, 1), np.uint8)
    action_space = spaces.Dict({"turn": spaces.Discrete(2), "push": spaces.Box(-1, 1, (1,))})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros((8, 8, 1), np.uint8), {}

    def step(self, action):
        return np.zeros((8, 8, 1), np.uint8), 0.0, True, False, {}


def test_settings_that_make_no_sense_are_refused():
    for options in (
        {"clip_coef": 0.0},
        {"gamma": 1.2},
        {"num_epochs": 0},
        {"target_kl": -1.0},
        {"batch_by": "tokens"},
        {"learning_rate": float("nan")},
    ):
        with pytest.raises(ConfigError, match=next(iter(options))):
            PPOConfig(**options)
    assert dataclasses.asdict(PPOConfig())["vf_coef"] == 0.5


def test_every_preset_holds_only_known_options():
    for name in read_presets("ppo"):
        assert Command.defaults([name]) == resolve(Command, name)


def test_flags_before_the_environment_change_nothing_in_its_preset(monkeypatch):
    wanted = cli.parse(
        Command, ["Pendulum-v1", "--seed", "5", "--run", "CartPole-v1"], "playout ppo"
    )
    found = cli.parse(
        Command, ["--seed", "5", "--run", "CartPole-v1", "Pendulum-v1"], "playout ppo"
    )
    assert found == wanted and found.env == "Pendulum-v1"
    assert found.ppo == resolve(Command, "Pendulum-v1").ppo


def test_keywords_of_the_environment_are_typed_in_pairs(capsys):
    words = ["CartPole-v1", "--env-options", "size", "3", "dark", "true", "mode", "slow"]
    found = cli.parse(Command, words, "playout ppo").collect.env_options
    assert found == {"size": 3, "dark": True, "mode": "slow"}
    assert cli.parse(Command, ["CartPole-v1"], "playout ppo").collect.env_options == {}
    for wrong, what in ((["size"], "'size' has no value"), (["size", "(1"], "brackets")):
        assert cli.main(["ppo", "CartPole-v1", "--env-options", *wrong]) == 2
        assert what in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--total-timesteps", "0"], ["--gamma", "2"]])
def test_what_is_refused_before_the_environment_is_one_line(words, capsys):
    assert cli.main(["ppo", *words, "CartPole-v1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("env", "words", "why"),
    [
        ("CartPole-v1", "--noise-correlation 0.5", "but with continuous actions"),
        ("CartPole-v1", "--sequence-length 8", "without --recurrent"),
        ("CartPole-v1", "--weight-decay 0.1", "with --optimizer adam"),
        ("CartPole-v1", "--network impala", "where no observation is a picture"),
        ("Pendulum-v1", "--latest-share 0.9", "without --self-play"),
        ("tic_tac_toe", "--noise-correlation 0.5", "but with continuous actions"),
        ("CartPole-v1", "--squash", "but with continuous actions"),
        ("CartPole-v1", "--log-std-init -1", "but with continuous actions"),
        ("CartPole-v1", "--state-dependent-std", "but with continuous actions"),
        ("CartPole-v1", "--recurrent-size 16", "without --recurrent"),
        ("CartPole-v1", "--vf-clip-coef 0.1", "without --clip-vloss"),
        ("CartPole-v1", "--final-ent-coef 0.1", "without --anneal-ent"),
        ("CartPole-v1", "--norm-adv-by batch --no-norm-adv", "with --no-norm-adv"),
        ("CartPole-v1", "--clip-obs 5", "without --normalize-obs"),
        ("CartPole-v1", "--clip-reward 5", "without --normalize-rewards"),
        ("CartPole-v1", "--activation relu --hidden", "without layers (--hidden)"),
        ("tic_tac_toe", "--hidden 8 --network resnet --size 8x1", "with --network resnet"),
        ("tic_tac_toe", "--shared-trunk True --network resnet --size 8x1", "with --network resnet"),
        ("Pixels-v0", "--normalize-obs", "where no observation is a vector of numbers"),
        ("Pixels-v0", "--activation relu", "without layers (--hidden)"),
    ],
)
def test_options_that_do_nothing_are_refused(tmp_path, capsys, monkeypatch, env, words, why):
    monkeypatch.setitem(gym.registry, "Pixels-v0", EnvSpec("Pixels-v0", entry_point=Pixels))
    small = ["--num-envs", "2", "--num-steps", "16", "--run", str(tmp_path / "r")]
    small += ["--total-timesteps", "32", "--eval-episodes", "2"]  # ends soon where none is refused
    assert cli.main(["ppo", env, *words.split(), *small]) == 2
    assert capsys.readouterr().err.endswith(
        f"{words.split()[0]} does nothing {why}: leave it out\n"
    )
    assert not (tmp_path / "r").exists()


def test_options_that_do_something_are_taken(tmp_path):
    small = {"num_envs": 2, "num_steps": 4, "total_timesteps": 8, "eval_episodes": 2}
    run = playout.ppo(
        Pixels, squash=True, log_std_init=-1.0, hidden=(4,), activation="relu", recurrent="gru",
        recurrent_size=4, clip_vloss=True, vf_clip_coef=0.1, normalize_rewards=True,
        clip_reward=5.0, threads=1, quiet=True, run=tmp_path / "run", **small,
    )  # fmt: skip
    assert run.config["network"]["squash"] and run.config["collect"]["clip_reward"] == 5.0
