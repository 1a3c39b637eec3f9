"""What is held out measures, all of it and as it is; it never chooses what is measured."""

import json
from dataclasses import replace

import numpy as np
import playout
import pytest
import torch
from PIL import Image
from playout.agents.pretraining import trainer as trainer_module
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import (
    Augmentation,
    Split,
    independent,
    validation_rows,
)
from playout.agents.pretraining.data.positions import positions_of_game
from playout.agents.pretraining.objectives.registry import make_objective
from playout.agents.pretraining.pictures import _to_show, draw_reconstructions
from playout.agents.pretraining.probes import probe
from playout.agents.pretraining.run import data_of
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import new_trunk
from playout.agents.rating.intervals import share_interval
from playout.cli import main
from playout.errors import ConfigError

from tests.agents.pretraining.bars import finish, split_of


def choosing(data, *, steps=60, **settings):
    config = PretrainConfig(network="grid", batch=50, **settings)
    trunk = new_trunk(data.train, network="grid", seed=1)
    return PretrainTrainer(trunk, data, config, steps=steps, seed=2, validation=0.2)


@pytest.mark.slow
def test_the_best_checkpoint_is_chosen_on_the_training_side():
    data = split_of(400)
    lying = Split(data.train, replace(data.test, labels=1 - data.test.labels))
    trainer = choosing(lying)
    assert len(trainer.chosen_by) == 80 and len(trainer.rows) == 320
    assert not set(trainer.chosen_by) & set(trainer.rows)
    found = finish(trainer)
    assert found["eval/accuracy"] < 0.1
    assert found["eval/score"] > 0.9


def test_a_share_of_the_labels_is_all_that_is_used_to_choose():
    trainer = choosing(split_of(400), labels=0.7)
    assert len(trainer.chosen_by) + len(trainer.rows) == 280
    trainer.close()


@pytest.mark.slow
def test_where_too_few_could_choose_the_last_checkpoint_is_the_best():
    trainer = choosing(split_of(60))
    scores = []
    for _ in range(2):
        trainer.update()
        scores.append(trainer.evaluate()["eval/score"])
    trainer.close()
    assert scores == [25, 50] and len(trainer.rows) == 60
    with pytest.raises(ConfigError, match="--patience needs 50 pictures"):
        choosing(split_of(60), patience=1)


def test_positions_are_called_so_where_too_few_choose():
    data = positions_of_game("tic_tac_toe", count=60)
    config = PretrainConfig(patience=1)
    with pytest.raises(ConfigError, match="--patience needs 50 positions"):
        PretrainTrainer(new_trunk(data.train, size="8x1"), data, config, steps=1, validation=0.1)


def test_groups_choose_whole_and_the_same_ones_always():
    data = replace(split_of(400).train, groups=np.arange(400) // 4)
    rows = np.arange(400)
    chosen = validation_rows(data, rows, 0.2)
    assert len(chosen) == 80
    assert not set(chosen // 4) & set(np.setdiff1d(rows, chosen) // 4)
    assert np.array_equal(chosen, validation_rows(data, rows, 0.2))


def test_all_that_is_held_out_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trainer_module, "EVALUATED", 8)
    run = playout.pretrain_trunk(
        "tic_tac_toe", count=400, size="8x1", epochs=1, batch=64, run=tmp_path / "run"
    )
    assert " positions of 2 x 3 x 3, " in capsys.readouterr().out
    data = data_of(run)
    found = playout.evaluate(run.path)
    count = len(data.test)
    assert found["pictures"] == count > 8
    accuracy = found["eval/accuracy"]
    assert accuracy * count == pytest.approx(round(accuracy * count), abs=1e-4)
    apart = len(np.unique(data.test.groups))  # a position and its images say the same
    assert found["interval"] == [*share_interval(accuracy * apart, apart)]
    most = np.bincount(data.test.labels).max() / count  # what one answer for all would reach
    name = data.test.classes[np.bincount(data.test.labels).argmax()]
    assert found["most_frequent"] == {"class": name, "share": pytest.approx(most)}
    assert main(["eval", str(run.path)]) == 0
    assert f"most frequent    {most:.4f} of labels: {name}\n" in capsys.readouterr().out
    trunk = playout.load(run.path).trunk
    (row,) = probe(trunk, data, "finetune", shares=[1.0], epochs=0.1)["rows"]
    assert row["interval"] == [*share_interval(row["accuracy"] * apart, apart)]
    games = replace(data.test, groups=np.arange(count) // 4)
    assert independent(games, np.arange(8, 24)) == 4
    assert independent(replace(games, groups=None), np.arange(8, 24)) == 16


def test_views_of_what_is_held_out_are_made_as_those_that_are_learned_from():
    data = split_of(60)
    plain = data.test.images(np.arange(100))
    for how, same in ((Augmentation(shift=0.0), True), (Augmentation(shift=0.2), False)):
        trainer = choosing(data, objective="contrastive", augment=how)
        seen, arrays = [], trainer._arrays
        trainer._arrays = lambda *given: seen.append(arrays(*given)) or seen[-1]  # noqa: B023
        trainer.measure(trainer.data.test, np.arange(100))
        trainer.close()
        for view in (seen[0][0], seen[0][2]):
            assert np.array_equal(view, plain) is same


def test_eval_measures_views_as_the_run_did(tmp_path):
    rng, folder = np.random.default_rng(0), tmp_path / "pictures"
    for number in range(120):
        (folder / "abc"[number % 3]).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "abc"[number % 3] / f"{number}.png")
    run = playout.pretrain_trunk(
        str(folder), objective="contrastive", augment=Augmentation(shift=0.4), epochs=1,
        network="grid", batch=40, quiet=True, run=tmp_path / "run",
    )  # fmt: skip
    rows = (run.path / "metrics.jsonl").read_text().splitlines()
    last = [row["eval/loss"] for row in map(json.loads, rows) if "eval/loss" in row][-1]
    found = playout.evaluate(run.path, which="latest")
    assert found["eval/loss"] == pytest.approx(last, rel=1e-5)


def test_threads_that_are_asked_for_measure_and_read(folder, tmp_path, monkeypatch):
    run = playout.pretrain_trunk(
        str(folder), network="grid", epochs=1, run=tmp_path / "run", quiet=True
    )
    asked = []
    monkeypatch.setattr("torch.set_num_threads", asked.append)
    playout.evaluate(run.path)
    playout.load(run.path)
    assert asked == []
    playout.evaluate(run.path, threads=2)
    playout.evaluate(run.path, probe="neighbours", threads=3)
    playout.load(run.path, threads=4)
    assert asked == [2, 3, 4]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--out", "drawn.txt"], "names no kind of picture that can be written: use drawn.png"),
        (["--out", "none/drawn.png"], "does not exist"),
        (["--episodes", "3"], "--episodes does nothing where pictures are drawn"),
        (["--opponent", "random"], "--opponent does nothing where pictures are drawn"),
    ],
)
def test_what_is_not_drawn_is_said_before_the_work(words, what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    playout.pretrain_trunk(
        "tic_tac_toe", objective="masked", run="run", count=60, size="8x1", epochs=1, quiet=True
    )
    monkeypatch.setattr("playout.agents.pretraining.run.data_of", None)
    assert main(["play", "run", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and what in said


def test_boards_of_any_planes_are_shown_by_stones_and_stacks_by_their_latest_frame():
    planes = torch.rand(2, 4, 5, 6).round()
    stones = planes[:, 0] + 0.5 * planes[:, 1]
    for count in (2, 3, 4):
        shown = _to_show(planes[:, :count], of_board=True)
        assert np.array_equal(np.stack(shown), stones.clamp(max=1))
        frames = np.stack(_to_show(planes[:, :count], of_board=False))
        assert np.array_equal(
            frames, planes[:, :3].permute(0, 2, 3, 1) if count == 3 else planes[:, count - 1]
        )
    for of_board in (True, False):
        assert np.array_equal(np.stack(_to_show(planes[:, :1], of_board=of_board)), planes[:, 0])


def test_pictures_are_drawn_as_they_are_measured(tmp_path):
    pytest.importorskip("matplotlib")
    data, config = split_of(20), PretrainConfig(objective="autoencoder", latent=4)
    trunk = new_trunk(data.train, network="resnet-8")
    objective = make_objective(trunk, data.train, config)
    before = {name: value.clone() for name, value in trunk.net.state_dict().items()}
    draw_reconstructions(objective, data.test, tmp_path / "drawn.png")
    # Statistics of normalisation would follow the pictures that are shown.
    assert not trunk.training
    assert all(torch.equal(value, before[k]) for k, value in trunk.net.state_dict().items())


def test_pictures_of_all_that_is_held_out_are_drawn(tmp_path, monkeypatch):
    data, config = split_of(60), PretrainConfig(objective="autoencoder", latent=4)
    trunk = new_trunk(data.train, network="grid")
    objective, shown = make_objective(trunk, data.train, config), []
    monkeypatch.setattr(type(data.test), "images", lambda self, rows: shown.extend(rows) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        draw_reconstructions(objective, data.test, tmp_path / "drawn.png")
    # Rows lie class by class, and episode by episode.
    assert len(set(shown)) == 10 and (shown[0], shown[-1]) == (0, len(data.test) - 1)
