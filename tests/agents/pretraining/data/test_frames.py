"""Pictures of environments: what PPO sees there, with its wrappers, is what a trunk learns from."""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import playout
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from playout.agents.commands.pretrain_trunk import Command, _settled
from playout.agents.pretraining.data.frames import frames, observations
from playout.agents.pretraining.data.sources import load, trust_typed
from playout.agents.runs.directory import RunDir
from playout.agents.vector.factory import make_environments, wrap_check
from playout.cli import main
from playout.envs.core.registry import game as find_game
from playout.errors import ConfigError, PlayoutError

SMALL = {"num_envs": 2, "num_steps": 8, "minibatch_size": 8, "num_epochs": 1, "eval_episodes": 2}
SMALL |= {"total_timesteps": 16, "threads": 1, "quiet": True}


class Screen(gym.Env):
    """Shows how many steps were made, in colour; renders the same with twice the pixels."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    observation_space = spaces.Box(0, 255, (12, 10, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def __init__(self, render_mode=None, brightness=1):
        self.render_mode, self.brightness = render_mode, brightness

    def shown(self, scale=1):
        picture = np.zeros((12 * scale, 10 * scale, 3), np.uint8)
        picture[...] = self.brightness * (10 + self.steps), 2, 3
        return picture

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.shown(), {}

    def step(self, action):
        self.steps += 1
        return self.shown(), 1.0, self.steps == 5, False, {}

    def render(self):
        return self.shown(scale=2)


@pytest.fixture(autouse=True)
def screen(monkeypatch):
    monkeypatch.setitem(gym.registry, "Screen-v0", EnvSpec("Screen-v0", entry_point=Screen))


def test_observations_are_those_of_ppos_environments_and_episodes_stay_whole():
    split = observations("Screen-v0", count=200, options={"brightness": 2}, seed=3)
    assert split.train.shape == (3, 12, 10) and len(split.train) + len(split.test) == 200
    assert not set(split.train.groups) & set(split.test.groups)
    for side in (split.train, split.test):
        assert (side.pixels[:, 1] == 2).all() and (side.pixels[:, 2] == 3).all()
        for group in np.unique(side.groups):
            steps = side.pixels[side.groups == group, 0, 0, 0] // 2 - 10
            assert steps.tolist() == list(range(len(steps))) and len(steps) <= 6


def test_what_is_rendered_can_be_seen_grey_and_on_top_of_one_another():
    split = observations("Screen-v0", count=60, wrappers=("grey:8", "frame_stack:3"))
    assert split.train.shape == (3, 8, 8)
    last, before = split.train.pixels[:, 2, 0, 0], split.train.pixels[:, 1, 0, 0]
    assert ((last == before) | (last.astype(int) - before <= 1)).all() and (last != before).any()
    envs = make_environments("Screen-v0", 2, wrappers=("pixels:9",), processes=0)
    try:
        assert envs.observation_space.shape == (9, 9, 3)
        assert envs.reset(0)[1, 4, 4].tolist() == [10, 2, 3]
    finally:
        envs.close()


@pytest.mark.parametrize("name", ["pixels:4", "grey", "grey:x", "frame_stack:0", "atari:4"])
def test_wrappers_of_pictures_need_a_size_that_networks_take(name):
    with pytest.raises(ConfigError, match="unknown wrapper"):
        wrap_check(name)


@pytest.mark.parametrize("wrappers", [(), ("grey:16", "frame_stack:2")])
def test_ppo_begins_with_what_observations_of_its_environment_have_taught(wrappers, tmp_path):
    taught = playout.pretrain_trunk(
        "observations:Screen-v0", wrappers=wrappers, objective="autoencoder", network="grid",
        count=60, batch=20, epochs=1, quiet=True, run=tmp_path / "trunk",
    )  # fmt: skip
    assert taught.config["wrappers"] == list(wrappers)
    assert main(["eval", str(taught.path)]) == 0  # on the same data again
    run = playout.ppo(
        "Screen-v0", wrappers=wrappers, init=str(taught.path), trunk_rate=0.0,
        run=tmp_path / "ppo", **SMALL,
    )  # fmt: skip
    assert run.config["network"]["network"] == "grid"
    old = taught.load(only=("model",))[1]["model"]
    new = RunDir.open(run.path).load(only=("model",))[1]["model"]
    for name, tensor in old.items():
        assert torch.equal(new[f"policy_trunk.encoder.{name}"], tensor), name


class Parts(Screen):
    """Shows its picture beside a number."""

    observation_space = spaces.Dict({"picture": Screen.observation_space, "n": spaces.Discrete(9)})

    def shown(self, scale=1):
        return {"picture": super().shown(), "n": self.steps}


def test_what_a_trunk_of_observations_does_not_fit_and_needs_is_said(tmp_path, capsys):
    trunk, here = str(tmp_path / "trunk"), f"{__name__}:Screen"
    words = ["--objective", "masked", "--network", "grid", "--count", "40", "--epochs", "1"]
    assert main(["pretrain-trunk", f"observations:{here}", *words, "--run", trunk]) == 0
    said = capsys.readouterr().out
    for verb in ("eval", "export"):  # the module of the environment is imported again
        assert f"playout {verb} {trunk} --trust {__name__}\n" in said
    for env, network, what in (
        (here, "impala", f"{trunk} does not fit --network impala, since it is of grid: leave out"),
        (here, "mlp", f"{trunk} does not fit --network mlp, since it is of grid: leave out"),
        (f"{__name__}:Parts", "auto", "these observations have parts (n, picture): the trunk does"),
    ):
        words = ["ppo", env, "--init", trunk, "--network", network, "--run", str(tmp_path / "no")]
        assert main(words) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1 and what in said
    words = [f"frames:{here}", "--image-size", "9", "--init", trunk, "--count", "40"]
    assert main(["pretrain-trunk", *words, "--objective", "masked", "--run", f"{trunk}-no"]) == 2
    what = "pictures of 3 x 12 x 10 (channels, rows, columns) and these are 3 x 9 x 9: the trunk"
    assert what in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_the_wrappers_of_an_environments_preset_are_taken():
    settled = _settled(Command(data="observations:ALE/Pong-v5"), None)
    assert settled.wrappers == ("atari", "clip_reward")
    given = Command(data="observations:ALE/Pong-v5", wrappers=("atari",))
    assert _settled(given, None).wrappers == ("atari",)
    assert _settled(Command(data="digits"), None).wrappers == ()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["observations:CartPole-v1"], "which are no pictures"),
        (["observations:tic_tac_toe"], "played in turns"),
        (["observations:Nothing-v0"], "Nothing-v0"),
        (["frames:Nothing-v0"], "Nothing-v0"),
        (["frames:Screen-v0", "--wrappers", "grey:8"], "--wrappers does nothing but with observ"),
        (["frames:Screen-v0", "--env-options", "brightness", "2"], "--env-options does nothing"),
        (["observations:Screen-v0", "--env-options", "size"], "'size' has no value"),
        (["observations:Screen-v0", "--env-options", "size", "2"], "Screen-v0 cannot be made"),
        (["observations:Screen-v0", "--image-size", "8"], "--image-size does nothing but with"),
        (["observations:Screen-v0", "--wrappers", "shiny"], "unknown wrapper 'shiny'"),
    ],
)
def test_what_shows_no_pictures_or_takes_no_wrappers_is_one_line(words, what, tmp_path, capsys):
    words = [*words, "--objective", "masked", "--run", str(tmp_path / "run")]
    assert main(["pretrain-trunk", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and what in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["Screen", "renamed"])
def test_frames_are_also_of_a_class_or_function_of_a_module(name, monkeypatch):
    monkeypatch.setitem(globals(), "renamed", lambda render_mode=None: Screen(render_mode))
    split = load(f"frames:{__name__}:{name}", count=20, image_size=8)
    assert split.train.shape == (3, 8, 8) and len(split.train) + len(split.test) == 20
    assert set(split.train.pixels[:, 0, 0, 0]) == set(range(10, 15))


@pytest.mark.parametrize(
    ("shown", "what"),
    [
        (np.zeros((4, 4, 3)), "failed at frame 0: TypeError"),
        (None, "does not render pictures"),
    ],
)
def test_frames_that_are_no_pictures_are_the_environments_fault(shown, what, monkeypatch):
    monkeypatch.setattr(Screen, "render", lambda self: shown)
    with pytest.raises(PlayoutError, match=what):
        frames("Screen-v0", count=10)


def test_frames_are_of_one_environment():
    with pytest.raises(ConfigError, match=r"frames:ENV is of one Gymnasium environment, and tic"):
        frames("tic_tac_toe", count=10)


@pytest.mark.parametrize("make", [frames, observations])
def test_environments_of_a_module_that_nobody_trusts_are_not_imported(make, tmp_path, monkeypatch):
    (tmp_path / "own_screens.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="--trust own_screens"):
        make("own_screens:Screen-v0", count=10)
    with pytest.raises(ConfigError, match="--trust own_screens"):
        load(f"{make.__name__}:own_screens:Screen-v0")


def test_a_game_of_a_module_is_trusted_where_a_person_types_it(tmp_path, monkeypatch):
    example = Path(__file__).parents[4] / "examples" / "python_game.py"
    (tmp_path / "typed_game.py").write_text(example.read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("playout.own_code._trusted", set())
    with pytest.raises(ConfigError, match="--trust typed_game"):
        find_game("typed_game:Nim")
    trust_typed("typed_game:Nim(piles=2)")
    assert find_game("typed_game:Nim").name == "nim"
    monkeypatch.delitem(sys.modules, "typed_game")
