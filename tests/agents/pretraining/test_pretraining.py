"""Pretraining as a user has it: it learns, resumes byte for byte, is probed, and is begun from."""

import json
from dataclasses import replace

import numpy as np
import playout
import pytest
import torch
from gymnasium import Env, spaces
from playout.agents.optim.momentum import Momentum
from playout.agents.pretraining.config import OBJECTIVES
from playout.agents.pretraining.data.dataset import Augmentation, Split
from playout.agents.pretraining.data.pictures import Pictures
from playout.agents.pretraining.data.positions import positions_of_game, positions_of_records
from playout.agents.pretraining.data.sources import are_made, is_path, load
from playout.agents.pretraining.probes import (
    features,
    fit_linear,
    linear_accuracy,
    neighbour_accuracy,
    probe,
)
from playout.agents.pretraining.trunk import new_trunk
from playout.agents.rating.intervals import share_interval
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.envs.records import files, json_lines
from playout.errors import ConfigError, DataError, RunError

from tests.agents.pretraining.bars import finish, split_of, trainer_of
from tests.envs.records.test_mat import random_record


@pytest.mark.slow
def test_bars_are_learned_from_labels():
    assert finish(trainer_of(split_of(), 60))["eval/accuracy"] > 0.95


@pytest.mark.slow
def test_features_learned_without_labels_read_better_than_fresh_ones():
    data = split_of()
    fresh = trainer_of(data, 1)
    fresh.close()
    learned = trainer_of(data, 100, objective="rotation")
    finish(learned)
    shares = [0.05]
    before = probe(fresh.trunk, data, "linear", shares=shares)["rows"][0]["accuracy"]
    after = probe(learned.trunk, data, "linear", shares=shares)["rows"][0]["accuracy"]
    assert after > before + 0.05


def test_the_settings_say_how_pictures_change():
    data = split_of(60)
    plain = data.train.images(np.arange(60))
    for how, same in ((Augmentation(shift=0.0), True), (Augmentation(shift=0.2), False)):
        trainer = trainer_of(data, 1, augment=how)
        rows = trainer._prepare(0)[0]
        found = all(any(np.array_equal(row, one) for one in plain) for row in rows)
        assert found is same
        trainer.close()


def test_momentum_is_torchs():
    generator = torch.Generator().manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(4, 3, generator=generator))
    theirs = torch.nn.Parameter(ours.detach().clone())
    mine = Momentum([ours], lr=0.1)
    peer = torch.optim.SGD([theirs], lr=0.1, momentum=0.9)
    for _ in range(4):
        target = torch.randn(4, 3, generator=generator)
        for parameter, optimizer in ((ours, mine), (theirs, peer)):
            optimizer.zero_grad()
            (parameter - target).square().sum().backward()
        mine.apply()
        peer.step()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adamw", "muon"])
def test_every_optimiser_learns_bars(optimizer):
    trainer = trainer_of(split_of(200), 50, optimizer=optimizer, augment=Augmentation(shift=0.0))
    first = trainer.evaluate()["eval/loss"]
    assert finish(trainer)["eval/loss"] < first


def test_a_frozen_trunk_stays_as_it_was():
    trainer = trainer_of(split_of(200), 25, trunk_rate=0.0)
    before = {n: t.clone() for n, t in trainer.trunk.net.state_dict().items()}
    heads = [p.detach().clone() for p in trainer.objective.parameters()]
    trainer.update()
    assert all(torch.equal(before[n], t) for n, t in trainer.trunk.net.state_dict().items())
    pairs = zip(heads, trainer.objective.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
    trainer.close()


def test_the_linear_probe_ends_where_its_gradient_is_zero():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(80, 5, generator=generator)
    y = (x[:, 0] + 0.3 * x[:, 1] > 0).long()
    weight, bias = map(torch.from_numpy, fit_linear(x.numpy(), y.numpy(), 2, 0.01))
    weight.requires_grad_()
    x = x.double()
    loss = torch.nn.functional.cross_entropy(x @ weight.T + bias, y)
    loss = loss + 0.01 * weight.square().sum()
    assert float(torch.autograd.grad(loss, weight)[0].abs().max()) < 1e-3


def test_probes_tell_what_can_be_told_and_no_more():
    rng = np.random.default_rng(0)
    labels, wanted = rng.integers(0, 3, 300), rng.integers(0, 3, 600)
    noise, more = rng.normal(size=(300, 8)), rng.normal(size=(600, 8))
    told, asked = noise.copy(), more.copy()
    told[:, 0] += 8 * labels
    asked[:, 0] += 8 * wanted
    as32 = [part.astype(np.float32) for part in (told, asked, noise, more)]
    assert linear_accuracy(as32[0], labels, as32[1], wanted, 3, seed=0) > 0.95
    assert abs(linear_accuracy(as32[2], labels, as32[3], wanted, 3, seed=0) - 1 / 3) < 0.1
    assert abs(neighbour_accuracy(as32[2], labels, as32[3], wanted, 3) - 1 / 3) < 0.1
    # By hand: the nearest of two points.
    train = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    test = np.array([[0.9, 0.2], [0.1, 0.8]], np.float32)
    assert neighbour_accuracy(train, np.array([0, 1]), test, np.array([0, 1]), 2) == 1.0


def test_an_interval_is_wilsons():
    low, high = share_interval(50, 100)
    assert (low, high) == pytest.approx((0.4038, 0.5962), abs=1e-4)


@pytest.mark.slow
def test_positions_are_labelled_as_the_solver_says_and_split_by_mirror_images():
    split = positions_of_game("connect_four(width=5,height=4)", count=150, seed=1)
    game, hashes = split.train.game, []
    from playout.envs.core.state_batch import StateBatch
    from playout.mcts.exact.solver import Solver

    for part in (split.train, split.test):
        states = StateBatch.from_data(game, part.states)
        outcomes = Solver(game).outcomes(states)
        assert np.array_equal(outcomes.max(axis=1) + 1, part.labels)
        policy = part.policy(np.arange(len(part)))
        assert np.array_equal(policy > 0, outcomes == outcomes.max(axis=1, keepdims=True))
        hashes.append(set(np.minimum(states.hash(), states.symmetry(1).hash()).tolist()))
    assert len(split.test) >= 10
    assert not hashes[0] & hashes[1]


def test_records_teach_the_moves_and_results_they_hold(tmp_path):
    game = playout.game("tic_tac_toe")
    record = json_lines.GameRecord.from_actions(game, [4, 0, 2, 1, 6], players=("a", "b"))
    other = json_lines.GameRecord.from_actions(game, [0, 4, 1, 2, 8, 6], players=("a", "b"))
    json_lines.append(tmp_path / "games.jsonl", [record, other])
    split = positions_of_records(tmp_path / "games.jsonl")
    parts = sorted((split.train, split.test), key=len)
    assert [len(part) for part in parts] == [5, 6]
    assert parts[0].labels.tolist() == [2, 0, 2, 0, 2]  # the first player has won
    assert parts[0].policy(np.arange(5)).argmax(1).tolist() == [4, 0, 2, 1, 6]


def test_records_of_games_that_were_given_up_teach_too_whatever_the_komi(tmp_path):
    games = "(;SZ[5]KM[6]RE[B+R];B[cc];W[bb])(;SZ[5]KM[0]RE[W+R];B[cc])(;SZ[5];B[cc])"
    (tmp_path / "games.sgf").write_text(games)
    split = positions_of_records(tmp_path / "games.sgf")
    parts = sorted((split.train, split.test), key=len)
    assert [part.labels.tolist() for part in parts] == [[0], [2, 0]]
    (tmp_path / "games.sgf").write_text(games + "(;SZ[7]RE[B+R];B[cc])")
    with pytest.raises(DataError, match=r"game 4 is one of go\(size=7"):
        positions_of_records(tmp_path / "games.sgf")


def test_games_of_any_suffix_of_records_are_data_to_read(tmp_path):
    backgammon, upper = tmp_path / "games.mat", tmp_path / "GAMES.SGF"
    files.append(backgammon, [random_record(seed) for seed in range(2)])
    upper.write_text("(;SZ[5]KM[6]RE[B+R];B[cc];W[bb])(;SZ[5]KM[0]RE[W+R];B[cc])")
    for path, name in ((backgammon, "backgammon"), (upper, "go")):
        assert is_path(str(path)) and not are_made(str(path))
        assert load(str(path)).train.game.name == name


@pytest.mark.parametrize("objective", [one for one in OBJECTIVES if one not in ("colour", "next")])
def test_every_objective_is_a_command(objective, folder, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["--objective", objective, "--epochs", "2", "--batch", "40", "--network", "grid"]
    assert main(["pretrain-trunk", str(folder), *words, "--run", str(run), "--quiet"]) == 0
    assert RunDir.open(run).config["total_steps"] == 6
    found = playout.load(run).act(np.zeros((3, 1, 12, 12), np.float32))
    assert found.shape == (3, 128)


@pytest.mark.slow
def test_minutes_become_steps_and_a_probe_is_written_as_json(folder, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "probe.json"
    line = ["pretrain-trunk", str(folder), "--objective", "masked", "--minutes", "0.02"]
    assert main([*line, "--network", "grid", "--batch", "40", "--run", str(run), "--quiet"]) == 0
    assert RunDir.open(run).record["budget"]["unit"] == "steps"
    assert main(["eval", str(run), "--probe", "linear", "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [row["labels"] for row in rows] == [0.01, 0.1, 1.0]
    assert all(row["interval"][0] <= row["accuracy"] <= row["interval"][1] for row in rows)
    assert main(["play", str(run), "--out", str(tmp_path / "drawn.png")]) == 0
    assert (tmp_path / "drawn.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(("share", "steps"), [(1.0, 9), (0.1, 3)])
def test_an_epoch_is_one_pass_over_the_pictures_whose_labels_are_learned(
    share, steps, folder, tmp_path
):
    run = playout.pretrain_trunk(
        str(folder), epochs=3, batch=40, labels=share, network="grid", quiet=True,
        run=tmp_path / "run",
    )  # fmt: skip
    assert run.config["total_steps"] == steps


def test_changed_data_is_noticed(folder, tmp_path, capsys):
    import shutil

    copied = shutil.copytree(folder, tmp_path / "data")
    line = ["pretrain-trunk", str(copied), "--objective", "rotation", "--epochs", "1", "--quiet"]
    assert main([*line, "--network", "grid", "--run", str(tmp_path / "run")]) == 0
    path = copied / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    assert main(["eval", str(tmp_path / "run")]) == 2
    assert "does not hold what" in capsys.readouterr().err


@pytest.mark.slow
def test_self_play_begins_with_a_pretrained_trunk(tmp_path):
    run = playout.pretrain_trunk(
        "tic_tac_toe", objective="masked", size="tiny", count=200, epochs=2, quiet=True,
        run=tmp_path / "trunk",
    )  # fmt: skip
    after = playout.alphazero(
        "tic_tac_toe", init=run.path, updates=1, rating=False, quiet=True, run=tmp_path / "az"
    )
    assert after.config["alphazero"]["size"] == "tiny"
    with pytest.raises(ConfigError, match="width, depth and kind"):
        playout.alphazero(
            "tic_tac_toe", init=run.path, size="small", updates=1, quiet=True, run=tmp_path / "no"
        )


@pytest.mark.slow
def test_a_network_that_imitates_search_plays(tmp_path, capsys):
    run = playout.pretrain_trunk(
        "tic_tac_toe", size="tiny", count=1500, epochs=25, batch=128, quiet=True,
        run=tmp_path / "search",
    )  # fmt: skip
    report = playout.match([run, "random"], games=40, simulations=0).report
    (row,) = [one for one in report["players"] if one["player"] == "random"]
    assert row["score"] < 0.4
    assert main(["play", str(run.path), "--opponent", "random", "--simulations", "0"]) == 0
    other = playout.pretrain_trunk(
        "tic_tac_toe", objective="masked", size="tiny", count=100, epochs=1, quiet=True,
        run=tmp_path / "trunk",
    )  # fmt: skip
    with pytest.raises(RunError, match="has not learned to play"):
        playout.match([other, "random"], games=2, game="tic_tac_toe")


class Screens(Env):
    """Shows noise; pays nothing."""

    observation_space = spaces.Box(0, 255, (12, 12, 1), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 8
        return self._screen(), {}

    def _screen(self):
        return self.np_random.integers(0, 256, (12, 12, 1)).astype(np.uint8)

    def step(self, action):
        self.left -= 1
        return self._screen(), 0.0, self.left == 0, False, {}


class Wide(Screens):
    """Shows more columns than rows."""

    observation_space = spaces.Box(0, 255, (12, 16, 1), np.uint8)

    def _screen(self):
        return np.zeros((12, 16, 1), np.uint8)


@pytest.mark.slow
def test_ppo_begins_with_a_pretrained_encoder(folder, tmp_path, capsys):
    run = tmp_path / "trunk"
    line = ["pretrain-trunk", str(folder), "--objective", "rotation", "--epochs", "1"]
    assert main([*line, "--network", "grid", "--run", str(run), "--quiet"]) == 0
    learned = RunDir.open(run).load(only=("model",))[1]["model"]
    started = []

    def remember(trainer, metrics):
        started.append({n: t.clone() for n, t in trainer.policy.state_dict().items()})

    settings = {"num_envs": 2, "num_steps": 4, "minibatch_size": 8}
    after = playout.ppo(
        Screens, init=str(run), total_timesteps=8, learning_rate=1e-9, quiet=True,
        callbacks=[remember], run=tmp_path / "ppo", **settings,
    )  # fmt: skip
    assert after.config["network"]["network"] == "grid"  # as the run has it
    for name, tensor in learned.items():
        torch.testing.assert_close(
            started[0][f"policy_trunk.encoder.{name}"], tensor, atol=1e-6, rtol=0
        )
    for source, network, what in (
        (Screens, "impala", "the trunk of .* does not fit"),
        (Wide, "auto", r"pictures of 1 x 12 x 12 .* these observations are 1 x 12 x 16: the trunk"),
        ("CartPole-v1", "auto", "has learned pictures, and these observations are none"),
        ("tic_tac_toe", "resnet", "has learned pictures; a resnet begins with a trunk of pos"),
    ):
        with pytest.raises(ConfigError, match=what):
            playout.ppo(
                source, init=str(run), total_timesteps=8, quiet=True, run=tmp_path / "no",
                **{**settings, "network": network},
            )  # fmt: skip
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--objective", "rotations"], "unknown objective"),
        (["--batch", "0"], "--batch must be positive"),
        (["--labels", "0"], "--labels must be above 0"),
        (["--network", "resnet"], "unknown network 'resnet' for pictures"),
        (["--objective", "colour"], "three channels"),
        (["--teacher", "runs/t", "--mixup", "0.2"], "--mixup does nothing beside --teacher"),
        (["--init", "."], "."),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(words, what, folder, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["pretrain-trunk", str(folder), *words, "--run", str(run)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert what in said
    assert not run.exists()


@pytest.mark.parametrize(
    ("labels", "what"),
    [([-1, -1], "held out has no labels"), ([0, 2], "the label 2; .* are 0 to 1")],
)
def test_held_out_pictures_whose_labels_measure_nothing_are_refused(labels, what):
    data = split_of(60)
    held = replace(data.test.subset(np.arange(2)), labels=np.array(labels))
    with pytest.raises(DataError, match=what):
        trainer_of(Split(data.train, held), 10)
    trainer_of(Split(data.train, held), 10, objective="masked").close()


def test_pictures_that_lie_sorted_by_class_are_measured_on_every_class():
    labels = np.repeat(np.arange(3), 1000)
    pixels = np.zeros((3000, 1, 12, 12), np.uint8)
    held = Pictures(name="sorted", pixels=pixels, labels=labels, classes=("a", "b", "c"))
    trainer = trainer_of(Split(held, held), 1)
    assert trainer.evaluate()["eval/accuracy"] == pytest.approx(1 / 3, abs=0.03)
    trainer.close()
    assert np.bincount(Split(held, held).some(30, 300).test.labels).min() > 50


def test_a_probe_needs_labels():
    data = split_of(60)
    bare = Pictures(name="bare", pixels=data.train.pixels, labels=np.full(60, -1))
    with pytest.raises(DataError, match="no labels"):
        probe(new_trunk(data.train, network="grid"), Split(bare, bare), "linear")


def test_features_do_not_depend_on_the_batch_around_them():
    data = split_of(60).train
    trunk = new_trunk(data, network="grid")
    whole = features(trunk, data, np.arange(60))
    assert np.allclose(whole[[7]], features(trunk, data, np.array([7])), atol=1e-5)
