"""Settings of a PPO run: what is refused, and what presets and given values make."""

import dataclasses

import pytest
from playout import cli
from playout.agents.commands.ppo import Command
from playout.agents.ppo.config import PPOConfig, resolve
from playout.agents.runs.config import read_presets
from playout.errors import ConfigError


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
    ],
)
def test_options_of_collection_that_do_nothing_are_refused(tmp_path, capsys, env, words, why):
    small = ["--num-envs", "2", "--num-steps", "16", "--run", str(tmp_path / "r")]
    assert cli.main(["ppo", env, *words.split(), *small]) == 2
    assert capsys.readouterr().err.endswith(
        f"{words.split()[0]} does nothing {why}: leave it out\n"
    )
    assert not (tmp_path / "r").exists()
