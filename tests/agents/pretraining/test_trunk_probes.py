"""Probes of whatever has a trunk: of pretraining, of self-play, of PPO; and pixels beside them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import playout
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from PIL import Image
from playout.agents.networks.boards.heads import pooled
from playout.agents.networks.boards.registry import new_network
from playout.agents.networks.encoders.published import Impala
from playout.agents.pretraining import evaluation, probes
from playout.agents.pretraining import trunk as trunks
from playout.agents.pretraining.data.dataset import UNKNOWN
from playout.agents.pretraining.data.neighbours import MAX_PIXELS, raw
from playout.agents.pretraining.data.pictures import Pictures
from playout.agents.pretraining.data.positions import positions_of_game
from playout.agents.pretraining.probes import linear_accuracy, neighbour_accuracy, probe
from playout.agents.pretraining.trunk import begin_from, learned_trunk, new_trunk, trunk_of
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import EvalOptions
from playout.cli import main
from playout.errors import ConfigError, DataError

from tests.agents.pretraining.bars import bars, split_of

GAME = "tic_tac_toe"
OLD_RUNS = Path(__file__).parents[2] / "fixtures" / "runs"
SMALL = {"num_envs": 2, "num_steps": 16, "minibatch_size": 16, "num_epochs": 1, "eval_episodes": 2}
SMALL |= {"total_timesteps": 32, "threads": 1, "quiet": True}


def test_labels_that_no_reader_can_use_are_named_and_one_held_out_class_is_enough():
    data = split_of(20)
    trunk = new_trunk(data.train, network="grid")
    one = replace(data, test=data.test.subset(np.flatnonzero(data.test.labels == 1)))
    (row,) = probe(trunk, one, "neighbours", shares=[1.0])["rows"]
    assert row["pictures"] == 20
    with pytest.raises(DataError, match="held-out pictures are of one class: clusters tell"):
        probe(trunk, one, "clusters")
    blank = replace(data.train, labels=np.full(20, UNKNOWN))
    with pytest.raises(DataError, match="bars has no labels; --data DATA names what has some"):
        probe(trunk, replace(data, train=blank), "linear")


class Bars(gym.Env):
    """Shows pictures of bars, bytes with channels last; right is to tell whether it stands."""

    observation_space = spaces.Box(0, 255, (12, 12, 1), np.uint8)
    action_space = spaces.Discrete(2)

    def __init__(self):
        self.pixels, self.labels = bars(40)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self.pixels[0][:, :, None], {}

    def step(self, action):
        reward = float(action == self.labels[self.at])
        self.at += 1
        return self.pixels[self.at][:, :, None], reward, self.at == 8, False, {}


class Reversed(Impala):
    """Somebody's own encoder, which sees the negative."""

    def forward(self, obs):
        return super().forward(255 - obs)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """A run of PPO from pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(gym.registry, "Bars-v0", EnvSpec("Bars-v0", entry_point=Bars))
        folder = tmp_path_factory.mktemp("seen")
        return playout.ppo("Bars-v0", network="grid", run=folder / "run", **SMALL)


@pytest.fixture
def learned(tmp_path):
    """A run of self-play, of an earlier version."""
    return Path(shutil.copytree(OLD_RUNS / GAME, tmp_path / "learned"))


def test_the_trunk_of_self_play_is_read_on_positions_of_its_game(learned, tmp_path, capsys):
    words = ["eval", str(learned), "--probe", "linear", "--count", "200"]
    assert main([*words, "--json", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["data"] == GAME and found["objective"] == "alphazero"
    assert [row["labels"] for row in found["rows"]] == [0.01, 0.1, 1.0]
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith(f"held-out positions of {GAME}")
    assert "pictures" not in "".join(said)
    assert "note: " not in "".join(said)  # no position of so small a game is on both sides
    assert all("; pixels " in line for line in said[1:4])
    usual = found["most_frequent"]
    share = f"{100 * usual['share']:.1f} % of these positions"
    assert said[4] == f"  most frequent: {usual['class']}, {share}" and usual["share"] > 1 / 3
    assert trunk_of(RunDir.open(learned)).network == "resnet"


@pytest.mark.parametrize("network", ["resnet", "transformer"])
def test_the_trunk_of_a_board_is_what_its_heads_share(network):
    game = playout.game(GAME)
    net = new_network(game, "8x1", network=network, seed=1).eval()
    state = {"network": net.config.to_dict(), "model": net.state_dict()}
    trunk = learned_trunk(state, "a run").eval()
    assert trunk.network == network and trunk.num_features == 16
    data = positions_of_game(GAME, count=60, seed=0)
    images = torch.from_numpy(data.train.images(np.arange(5)))
    with torch.no_grad():
        assert torch.equal(trunk.vector(images), pooled(net.trunk(images)))
        assert torch.equal(trunk.net(images)[0], net(images)[0])
    (row,) = probe(trunk, data, "finetune", shares=[1.0], epochs=0.1)["rows"]
    assert 0 <= row["accuracy"] <= 1


def test_the_trunk_of_ppo_sees_pictures_as_its_policy_sees_bytes(seen):
    trunk, policy = trunk_of(seen).eval(), playout.load(seen.path).policy
    assert (trunk.network, trunk.shape) == ("grid", (1, 12, 12))
    pixels = torch.from_numpy(bars(6)[0])
    with torch.no_grad():
        theirs = policy.policy_trunk.encoder(pixels[..., None])
        own = trunk.vector(pixels[:, None].float() / 255)
    torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_runs_are_read_on_given_data(seen, folder, tmp_path, capsys):
    for probed in ("linear", "neighbours"):
        words = ["--probe", probed, "--data", str(folder), "--json", str(tmp_path / "out.json")]
        assert main(["eval", str(seen.path), *words]) == 0
        found = json.loads((tmp_path / "out.json").read_text())
        assert found["data"] == str(folder) and found["objective"] == "ppo"
        assert len(found["rows"]) == len(found["pixels"]) == 3
    own = playout.pretrain_trunk(
        str(folder), objective="masked", network="grid", epochs=1, batch=40, quiet=True,
        run=tmp_path / "run",
    )  # fmt: skip
    found = playout.evaluate(own.path, probe="linear", data=str(folder))
    assert found["data"] == str(folder) and found["objective"] == "masked"
    capsys.readouterr()


def test_pretraining_begins_with_the_encoder_of_ppo_and_is_of_its_kind(seen, folder, tmp_path):
    run = playout.pretrain_trunk(
        str(folder), objective="masked", init=str(seen.path), trunk_rate=0.0, epochs=1, batch=40,
        quiet=True, run=tmp_path / "run",
    )  # fmt: skip
    assert run.config["network"]["encoder"] == run.config["pretrain"]["network"] == "grid"
    for name, tensor in trunk_of(seen).net.state_dict().items():
        assert torch.equal(run.load(only=("model",))[1]["model"][name], tensor), name
    again = playout.pretrain_trunk(resume=run.path, quiet=True)
    assert again.config["network"] == run.config["network"]


def test_the_run_of_init_is_read_once(seen, folder, tmp_path, monkeypatch):
    asked = []

    def read(run, *given):
        asked.append(run.path)
        return trunk_of(run, *given)

    monkeypatch.setattr(trunks, "trunk_of", read)
    playout.pretrain_trunk(
        str(folder), objective="masked", init=str(seen.path), minutes=0.005, batch=40, quiet=True,
        run=tmp_path / "run",
    )  # fmt: skip
    assert asked == [seen.path]


def test_positions_do_not_begin_with_a_transformer():
    data = positions_of_game(GAME, count=60, seed=0).train
    net = new_network(data.game, "8x1", network="transformer")
    begun = learned_trunk({"network": net.config.to_dict(), "model": net.state_dict()}, "a run")
    with pytest.raises(ConfigError, match=r"by a resnet, and runs/x holds a transformer"):
        begin_from(new_trunk(data, size="8x1"), begun, "runs/x")


def test_a_trunk_of_pictures_begins_no_game_and_one_of_a_game_no_pictures(folder, tmp_path):
    small = {"objective": "masked", "epochs": 1, "batch": 40, "quiet": True}
    game = {"count": 60, "size": "8x1"}
    four = playout.pretrain_trunk(str(folder), network="grid", run=tmp_path / "seen", **small)
    with pytest.raises(ConfigError, match="seen has learned pictures; a game begins with a trunk"):
        playout.pretrain_trunk(GAME, init=str(four.path), run=tmp_path / "no", **small, **game)
    board = playout.pretrain_trunk(GAME, run=tmp_path / "board", **small, **game)
    with pytest.raises(ConfigError, match="board has learned positions of a game; pictures begin"):
        playout.pretrain_trunk(str(folder), init=str(board.path), run=tmp_path / "no", **small)
    assert not (tmp_path / "no").exists()


def test_an_encoder_of_ones_own_is_no_trunk(tmp_path, monkeypatch):
    monkeypatch.setitem(gym.registry, "Bars-v0", EnvSpec("Bars-v0", entry_point=Bars))
    run = playout.ppo("Bars-v0", network=f"{__name__}:Reversed", run=tmp_path / "own", **SMALL)
    with pytest.raises(ConfigError, match="a network of one's own, which may be cut anywhere"):
        trunk_of(run)


def test_pixels_are_read_as_features_are():
    data = split_of(80)
    trunk = new_trunk(data.train, network="grid")
    rows, held = np.arange(80), np.arange(100)
    given = raw(data.train, rows), data.train.labels, raw(data.test, held), data.test.labels
    for kind, wanted in (
        ("linear", linear_accuracy(*given, 2, seed=0)),
        ("neighbours", neighbour_accuracy(*given, 2)),
    ):
        found = probe(trunk, data, kind, shares=[1.0])
        assert found["pixels"][0]["accuracy"] == pytest.approx(wanted)
        assert found["pixels"][0]["pictures"] == found["rows"][0]["pictures"] == 80
        assert "pixels" not in probe(trunk, data, kind, shares=[1.0], pixels=False)


def test_a_row_says_which_share_of_the_labels_was_read(monkeypatch, capsys):
    data = split_of(80)
    data.train.labels[:20] = -1
    trunk = new_trunk(data.train, network="grid")
    monkeypatch.setattr(probes, "MAX_ROWS", 30)
    monkeypatch.setattr(evaluation, "MAX_ROWS", 30)
    found = probe(trunk, data, "linear", shares=[0.1, 0.5, 1.0])
    for rows in (found["rows"], found["pixels"]):
        assert [row["labels"] for row in rows] == [0.1, 0.5, 1.0]  # what was asked for
        assert [row["pictures"] for row in rows] == [6, 30, 30]
        assert [row["used"] for row in rows] == [0.1, 0.5, 0.5]
    evaluation._print_rows(found, "pictures")
    said = capsys.readouterr().out.splitlines()
    assert [" ".join(line.partition(":")[0].split()) for line in said] == [
        "10 % of labels ( 6 pictures)",
        "50 % of labels ( 30 pictures)",
        "50 % of labels ( 30 pictures, the most that are read)",
    ]
    (row,) = probe(trunk, data, "finetune", shares=[0.5], epochs=0.1)["rows"]
    assert (row["labels"], row["used"], row["pictures"]) == (0.5, 0.5, 30)


def test_large_pictures_are_read_by_the_means_of_squares():
    pixels = np.random.default_rng(0).integers(0, 256, (300, 3, 70, 65)).astype(np.uint8)
    large = Pictures(name="large", pixels=pixels, labels=np.zeros(300, np.int64))
    found = raw(large, np.arange(300))
    assert found.shape == (300, 3 * 24 * 22) and found.shape[1] <= MAX_PIXELS
    last = found[299].reshape(3, 24, 22)[2]
    assert last[22, 20] == pytest.approx(pixels[299, 2, 66:69, 60:63].mean() / 255, abs=1e-6)
    corner = pixels[299, 2, 69, [63, 64, 64]].mean() / 255  # what lies at the edge is repeated
    assert last[23, 21] == pytest.approx(corner, abs=1e-6)
    small = Pictures(name="small", pixels=pixels[:5, :, :32, :32], labels=np.zeros(5, np.int64))
    assert np.array_equal(raw(small, np.arange(5)), small.images(np.arange(5)).reshape(5, -1))


def test_pictures_are_not_made_as_large_as_a_board_before_they_are_refused(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(6):
            grey = np.full((24, 24), number, np.uint8)
            Image.fromarray(grey).save(tmp_path / name / f"{number}.png")
    words = ["eval", str(OLD_RUNS / GAME), "--probe", "neighbours", "--data", str(tmp_path)]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "holds pictures of 1 x 24 x 24" in said and "sees positions of 2 x 3 x 3" in said


@pytest.mark.parametrize(
    ("run", "words", "what"),
    [
        ("cartpole", ["--data", "FOLDER"], "no trunk that sees them"),
        ("sft", [], "trunks are those of pretrain-trunk, alphazero and ppo"),
        ("pretrain/model", [], "--probe reads runs"),
        (GAME, ["--data", "FOLDER"], "holds pictures of 1 x 12 x 12"),
        (GAME, ["--data", "nowhere"], "there is no data 'nowhere'"),
        (GAME, ["--count", "5"], "--count must be at least 10"),
        ("SEEN", ["--count", "50", "--data", "FOLDER"], "that are made: these are read"),
        ("SEEN", ["--data", GAME, "--count", "50"], "holds positions of 2 x 3 x 3"),
    ],
)
def test_what_a_probe_cannot_read_is_one_line(run, words, what, seen, folder, tmp_path, capsys):
    path = seen.path if run == "SEEN" else OLD_RUNS / run
    words = [str(folder) if word == "FOLDER" else word for word in words]
    assert main(["eval", str(path), "--probe", "linear", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and what in said


def test_a_probe_of_an_environment_needs_labelled_data(seen, capsys, monkeypatch):
    monkeypatch.setitem(gym.registry, "Bars-v0", EnvSpec("Bars-v0", entry_point=Bars))
    assert main(["eval", str(seen.path), "--probe", "linear"]) == 2
    assert "--data DATA, with labelled pictures of 1 x 12 x 12" in capsys.readouterr().err


@pytest.mark.parametrize("given", [{"data": "digits"}, {"count": 500}])
def test_what_only_a_probe_reads_is_refused_without_one(given, seen):
    with pytest.raises(ConfigError, match=f"--{next(iter(given))} .* add --probe linear"):
        playout.evaluate(seen.path, **given)


@pytest.mark.parametrize("named", ["", "game", "another count"])
def test_a_run_is_read_on_what_it_held_out_itself_however_its_data_are_named(tmp_path, named):
    """A split by another seed would hold out what the run has learned from."""
    run = playout.pretrain_trunk(
        GAME, objective="masked", run=tmp_path / "run", epochs=1, count=400, data_seed=5, threads=1
    )
    own = evaluation.data_of(run)
    more = {"": {}, "game": {"data": GAME, "seed": 1},
            "another count": {"data": GAME, "seed": 1, "count": 300}}[named]  # fmt: skip
    options = EvalOptions(probe="linear", **more)
    name, split = evaluation._data(run, options, trunk_of(run), None)
    assert name == GAME
    same = np.array_equal(split.test.states, own.test.states)
    assert same == (named != "another count")


def test_a_folder_that_is_named_by_another_way_is_still_the_run_s_own(tmp_path, monkeypatch):
    from PIL import Image

    pixels, labels = bars(60)
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        folder = tmp_path / "pictures" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{number}.png")
    run = playout.pretrain_trunk(
        str(tmp_path / "pictures"), run=tmp_path / "run", epochs=1, data_seed=5, threads=1
    )
    monkeypatch.chdir(tmp_path)
    _, split = evaluation._data(
        run, EvalOptions(probe="linear", data="pictures"), trunk_of(run), None
    )
    own = evaluation.data_of(run)
    assert np.array_equal(split.test.pixels, own.test.pixels)
