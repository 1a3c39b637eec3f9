"""What a run of pretraining needs later: nothing that it began from, and no folder to be in."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import playout
import pytest
import torch
from PIL import Image
from playout.agents.commands.pretrain_trunk import Command
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import Split
from playout.agents.pretraining.data.sources import read_otherwise
from playout.agents.pretraining.probes import probe
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import new_trunk
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.errors import ConfigError, DataError, RunError
from safetensors import safe_open

from tests.agents.pretraining.bars import split_of, trainer_of

SETTINGS = {"network": "grid", "batch": 40, "quiet": True}


def test_a_run_goes_on_without_the_run_it_began_from(folder, tmp_path):
    first = playout.pretrain_trunk(str(folder), epochs=1, run=tmp_path / "a", **SETTINGS)
    second = playout.pretrain_trunk(
        str(folder), epochs=2, init=str(first.path), run=tmp_path / "b", **SETTINGS
    )
    shutil.rmtree(first.path)
    again = playout.pretrain_trunk(resume=second.path, quiet=True)
    assert again.config["total_steps"] == 6


def png_folder(folder, classes=("bright", "dark")):
    """Forty grey pictures of two classes."""
    for number in range(40):
        path = folder / classes[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = number if number % 2 else 255 - number
        Image.fromarray(np.full((12, 12), grey, np.uint8)).save(path)
    return folder


@pytest.mark.parametrize("data", ["pictures", "tic_tac_toe"])
def test_what_is_held_out_is_the_same_whatever_seed_a_run_has(data, tmp_path, capsys):
    settings = {"objective": "masked", "epochs": 1, "batch": 20, "quiet": True}
    if data == "pictures":
        data, more = str(png_folder(tmp_path / "pictures")), {"network": "grid"}
    else:
        more = {"count": 60, "size": "8x1"}
    first = playout.pretrain_trunk(data, seed=0, run=tmp_path / "a", **settings, **more)
    second = playout.pretrain_trunk(
        data, seed=1, init=str(first.path), run=tmp_path / "b", **settings, **more
    )
    assert first.config["digest"] == second.config["digest"]
    assert "another split" not in capsys.readouterr().err
    third = playout.pretrain_trunk(
        data, data_seed=1, init=str(first.path), run=tmp_path / "c", **settings, **more
    )
    said = capsys.readouterr().err
    if data == "tic_tac_toe":  # a game that is held out is so whatever others are played
        assert "another split" not in said
    else:
        note = f"note: --init {first.path} has learned from another split of {data}"
        assert said.startswith(note) and "--data-seed 0" in said and said.count("\n") == 1
    assert main(["eval", str(third.path)]) == 0


def test_the_data_of_earlier_versions_are_those_of_the_runs_seed():
    config = Command.stored_today({"seed": 7, "pretrain": {"objective": "masked"}})
    assert config["data_seed"] == 7
    assert Command.stored_today({"seed": 7, "data_seed": 2, "pretrain": {}})["data_seed"] == 2


def test_data_that_are_others_are_said_to_be_so_or_read_otherwise(tmp_path, capsys):
    settings = {"count": 60, "size": "8x1", "epochs": 1, "batch": 40, "quiet": True}
    run = playout.pretrain_trunk("tic_tac_toe", run=tmp_path / "run", **settings)
    with run.lock():
        run.change_config(digest="another")
    for words in (["eval", str(run.path)], ["pretrain-trunk", "--resume", str(run.path)]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert "does not hold what" in said and "earlier versions" not in said
    assert "earlier versions read or split" in read_otherwise({"seed": 0})


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """A run that tells bright pictures from dark ones."""
    folder = tmp_path_factory.mktemp("light")
    data = png_folder(folder / "pictures")
    return playout.pretrain_trunk(str(data), epochs=30, run=folder / "run", **SETTINGS)


def test_the_classes_of_given_pictures_are_told(light, tmp_path, capsys):
    assert light.config["classes"] == ["bright", "dark"]
    for name, grey, size in (("a", 250, 12), ("below/b", 5, 12), ("wide", 5, 14)):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((12, size), grey, np.uint8)).save(path)
    out, files = tmp_path / "told.json", [str(tmp_path / "a.png"), str(tmp_path / "below")]
    assert main(["eval", str(light.path), "--pictures", *files, "--json", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith(f"{files[0]}  bright  ")
    told = json.loads(out.read_text())["pictures"]
    assert [row["class"] for row in told] == ["bright", "dark"]
    assert all(sum(row["probabilities"].values()) == pytest.approx(1) for row in told)
    player = playout.load(light.path)
    assert player.probabilities(np.zeros((1, 1, 12, 12), np.float32))[0, 1] > 0.5
    assert str(player) == "<TrunkPlayer: grid of 1 x 12 x 12, 128 features, 2 classes>"
    assert main(["eval", str(light.path), "--pictures", str(tmp_path / "wide.png")]) == 2
    assert "wide.png is 14x12; what was learned from is 12x12" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("images", "what"),
    [
        (np.full((2, 1, 12, 12), 200, np.uint8), r"from 0 to 1, not from 200 to 200: divide bytes"),
        (np.full((2, 1, 12, 12), np.nan), "pictures hold NaN or infinity"),
        (np.zeros((2, 12, 12)), r"shape \[N, 1, 12, 12\] .*, not \[2, 12, 12\]"),
        (np.zeros((2, 12, 12, 1)), r"not \[2, 12, 12, 1\]"),
        ([["a"]], "cannot be read as an array of numbers"),
    ],
)
def test_what_are_no_pictures_as_it_has_learned_them_is_refused(light, images, what):
    player = playout.load(light.path)
    for ask in (player.act, player.probabilities):
        with pytest.raises(ConfigError, match=what):
            ask(images)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"episodes": 5}, "--episodes does nothing for a trunk"),
        ({"opponents": ["random"], "probe": "linear"}, "--opponents does nothing for a trunk"),
        ({"stochastic": True}, "--stochastic does nothing for a trunk"),
        ({"game": "hex"}, "--game does nothing for a trunk"),
        ({"game": "hex", "probe": "linear"}, "--game does nothing for a trunk"),
    ],
)
def test_options_of_play_are_refused_where_a_trunk_is_measured(light, given, what):
    with pytest.raises(ConfigError, match=what):
        playout.evaluate(light.path, **given)


@pytest.mark.slow
def test_a_classifier_is_exported_with_its_logits_and_the_names_of_its_classes(light, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    names = {form: str(tmp_path / f"light.{form}") for form in ("onnx", "safetensors")}
    for form, name in names.items():
        assert main(["export", str(light.path), "--format", form, "--out", name]) == 0
    session = onnxruntime.InferenceSession(names["onnx"])
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == ["bright", "dark"]
    images = np.stack([np.full((1, 12, 12), grey, np.float32) for grey in (0.1, 0.9, 0.5)])
    features, logits = session.run(["features", "logits"], {"images": images})
    player = playout.load(light.path)
    np.testing.assert_allclose(features, player.act(images), atol=1e-4)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(shares, player.probabilities(images), atol=1e-4)
    with safe_open(names["safetensors"], "pt") as file:
        assert file.metadata()["classes"] == about["classes"]
        assert file.get_tensor("head.1.weight").shape[0] == 2
        assert set(player.trunk.net.state_dict()) < set(file.keys())


@pytest.mark.slow
def test_what_imitates_moves_is_exported_with_what_it_plays(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run = playout.pretrain_trunk(
        "tic_tac_toe", count=60, size="8x1", epochs=1, batch=20, quiet=True, run=tmp_path / "run"
    )
    assert main(["export", str(run.path), "--format", "onnx"]) == 0
    session = onnxruntime.InferenceSession(str(run.path / "network.onnx"))
    assert session.get_modelmeta().custom_metadata_map["game"] == "tic_tac_toe"
    boards = playout.game("tic_tac_toe").batch(4).observe()
    found = session.run(["logits", "values"], {"obs": boards})
    assert [part.shape for part in found] == [(4, 9), (4,)]
    net = playout.load(run.path).trunk.net.eval()
    with torch.no_grad():
        np.testing.assert_allclose(found[0], net(torch.from_numpy(boards))[0], atol=1e-4)


def test_runs_that_tell_no_classes_say_so(tmp_path, capsys):
    run = playout.pretrain_trunk(
        "tic_tac_toe", count=60, size="8x1", epochs=1, batch=20, quiet=True, run=tmp_path / "run"
    )
    assert main(["eval", str(run.path), "--pictures", "a.png"]) == 2
    assert "has learned no classes of pictures" in capsys.readouterr().err
    with pytest.raises(RunError, match="by labels"):
        playout.load(run.path).probabilities(np.zeros((1, *playout.game("tic_tac_toe").obs_shape)))
    other = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"
    assert main(["eval", str(other), "--pictures", "a.png"]) == 2
    assert "error: --pictures reads runs of pretrain-trunk" in capsys.readouterr().err


def test_a_teacher_of_other_classes_is_refused(light, tmp_path):
    data = png_folder(tmp_path / "pictures", classes=("cat", "dog"))
    with pytest.raises(ConfigError, match="apart bright, dark, and this data holds cat, dog"):
        playout.pretrain_trunk(
            str(data), teacher=str(light.path), epochs=1, run=tmp_path / "run", **SETTINGS
        )


@pytest.mark.parametrize("data", ["pictures", "positions"])
def test_a_student_is_measured_without_its_teacher(data, folder, tmp_path, capsys):
    settings = {"batch": 40, "quiet": True, "epochs": 1}
    if data == "pictures":
        source, settings = str(folder), {**settings, "network": "grid"}
    else:
        source, settings = "tic_tac_toe", {**settings, "count": 200, "size": "8x1"}
    teacher = playout.pretrain_trunk(source, run=tmp_path / "t", **settings)
    student = playout.pretrain_trunk(
        source, teacher=str(teacher.path), run=tmp_path / "s", **settings
    )
    assert main(["eval", str(student.path)]) == 0
    with_teacher = capsys.readouterr().out
    assert ("held-out pictures" in with_teacher) == (data == "pictures")
    shutil.rmtree(teacher.path)
    assert main(["eval", str(student.path)]) == 0
    accuracy = [line for line in capsys.readouterr().out.splitlines() if "accuracy" in line]
    assert accuracy[0] in with_teacher


def test_a_run_is_used_from_any_folder(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    first = playout.pretrain_trunk(folder.name, epochs=1, run=tmp_path / "a", **SETTINGS)
    monkeypatch.chdir(tmp_path)
    teacher = os.path.relpath(first.path)
    playout.pretrain_trunk(
        os.path.relpath(folder), init="a", teacher=teacher, epochs=1, run="b", **SETTINGS
    )
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert main(["eval", "../a"]) == 0 and main(["eval", "../b"]) == 0
    assert main(["pretrain-trunk", os.path.relpath(folder), "--resume", "../b", "--quiet"]) == 0


def test_a_game_is_kept_by_its_name_and_a_run_is_called_after_what_was_typed(
    folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(folder.parent)
    settings = {"objective": "masked", "epochs": 1, "batch": 40, "quiet": True}
    run = playout.pretrain_trunk(
        "tic_tac_toe", count=100, size="8x1", run=tmp_path / "a", **settings
    )
    assert run.config["data"] == "tic_tac_toe"
    named = playout.pretrain_trunk(folder.name, network="grid", **settings)
    assert named.path.name == f"{folder.name}-1"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--objective", "masked", "--teacher", "t"], "--teacher does nothing with --objective"),
        (["--objective", "masked", "--labels", "0.1"], "--labels does nothing with --objective"),
        (["--beta", "2"], "--beta does nothing with --objective supervised"),
        (["--pattern", "2:4"], "--pattern does nothing without --sparsity"),
        (["--label-weight", "0"], "--label-weight does nothing without --teacher"),
        (["--size", "small"], "--size does nothing with pictures"),
        (["--objective", "vae", "--augment.shift", "0"], "--augment.shift does nothing with --obj"),
        (
            ["--objective", "contrastive", "--pairs", "vicreg", "--temperature", "1"],
            "--temperature does nothing with --pairs vicreg",
        ),
        (["--count", "500"], "--count does nothing but with a game or frames"),
        (["--data-seed", "1"], "--data-seed does nothing with data that bring their own split"),
        (["--minutes", "1", "--epochs", "2"], "--epochs does nothing beside --minutes"),
        (["--image-size", "16"], "--image-size does nothing but with a folder of pictures"),
        (["--mixup", "0.2", "tic_tac_toe"], "--mixup does nothing with positions"),
        (["--augment.shift", "0", "tic_tac_toe"], "--augment.shift does nothing with positions"),
        (["--teacher", "t", "--labels", "0.1", "tic_tac_toe"], "--labels does nothing beside"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(words, what, folder, tmp_path, capsys):
    data = [] if words[-1] == "tic_tac_toe" else [str(folder)]
    assert main(["pretrain-trunk", *words, *data, "--run", str(tmp_path / "run")]) == 2
    assert what in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_a_stack_drops_follows_from_the_seed():
    data, found = split_of(100), []
    config = PretrainConfig(batch=50)
    for state in (1, 2):
        torch.manual_seed(state)
        trunk = new_trunk(data.train, network="stack(depth=2, width=4, dropout=0.3)", seed=1)
        trainer = PretrainTrainer(trunk, data, config, steps=2, seed=3)
        trainer.update()
        trainer.close()
        found.append(trainer.state_dict()["model"])
        assert torch.initial_seed() == state
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_pairs_need_two_pictures_on_each_side():
    data = split_of(60)
    with pytest.raises(DataError, match="two held out, not 50 and 1"):
        trainer_of(Split(data.train, data.test.subset(np.arange(1))), 1, objective="contrastive")


def test_clusters_of_few_pictures_are_refused():
    data = split_of(60)
    few = Split(data.train, data.test.subset(np.arange(10)))
    with pytest.raises(DataError, match=r"10 held-out pictures .* takes more than 10"):
        probe(new_trunk(data.train, network="grid"), few, "clusters")


def test_python_says_what_to_learn_from(folder, monkeypatch):
    monkeypatch.chdir(folder)  # no name is none of the folder where one is
    with pytest.raises(ConfigError, match="say what to learn from"):
        playout.pretrain_trunk(epochs=1, **SETTINGS)


@pytest.mark.parametrize("seed", [2**32, 2**63 - 1])
def test_every_seed_learns(seed, folder, tmp_path):
    run = playout.pretrain_trunk(
        str(folder), objective="masked", seed=seed, epochs=1, run=tmp_path / "a", **SETTINGS
    )
    assert RunDir.open(run.path).seed == seed


@pytest.mark.parametrize(("minutes", "error"), [(-1, ConfigError), (1, KeyboardInterrupt)])
def test_a_run_that_does_not_begin_leaves_no_folder(minutes, error, folder, tmp_path, monkeypatch):
    def interrupted(*given, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("playout.agents.pretraining.budget.plan", interrupted)
    with pytest.raises(error):
        playout.pretrain_trunk(str(folder), minutes=minutes, run=tmp_path / "a", **SETTINGS)
    assert not (tmp_path / "a").exists()


def test_measuring_slow_steps_takes_two_of_them_and_is_announced(
    folder, tmp_path, monkeypatch, capsys
):
    now, steps, step = [0.0], [], PretrainTrainer.step

    def slow(self):
        now[0] += 60.0
        steps.append(self.total)
        return step(self)

    monkeypatch.setattr("playout.agents.pretraining.budget.time.monotonic", lambda: now[0])
    monkeypatch.setattr(PretrainTrainer, "step", slow)
    settings = {**SETTINGS, "quiet": False}
    playout.pretrain_trunk(str(folder), minutes=3, run=tmp_path / "a", **settings)
    assert steps == [10**6, 10**6, 3, 3, 3]  # two that are thrown away, and those of the run
    assert "Measuring how much fits into the time" in capsys.readouterr().err
    playout.pretrain_trunk(resume=tmp_path / "a", quiet=False)
    assert len(steps) == 5 and "Measuring" not in capsys.readouterr().err


def test_a_run_goes_back_to_no_checkpoint_on_other_data(tmp_path, monkeypatch):
    folder = png_folder(tmp_path / "pictures")
    run = playout.pretrain_trunk(str(folder), epochs=1, run=tmp_path / "a", **SETTINGS)
    next(folder.rglob("*.png")).unlink()
    gone_back = []
    monkeypatch.setattr(RunDir, "abandon_after", lambda self, step: gone_back.append(step))
    with pytest.raises(ConfigError, match="does not hold what"):
        playout.pretrain_trunk(resume=run.path, from_step=1)
    assert not gone_back


def test_a_setting_given_to_a_resumed_run_is_compared_with_its_own(folder, tmp_path):
    run = playout.pretrain_trunk(str(folder), epochs=1, run=tmp_path / "a", **SETTINGS)
    again = playout.pretrain_trunk(resume=run.path, epochs=1, quiet=True)
    assert again.find().step == run.find().step and "changes" not in again.record
    with pytest.raises(ConfigError, match=r"keeps .*network \(was 'grid', now 'impala'"):
        playout.pretrain_trunk(resume=run.path, network="impala", quiet=True)
    with pytest.raises(ConfigError, match=r"no setting 'netwrk'; did you mean network\?"):
        playout.pretrain_trunk(resume=run.path, netwrk="grid", quiet=True)


def test_a_run_makes_one_trainer_and_tells_of_no_change(folder, tmp_path, monkeypatch):
    made, make = [], PretrainTrainer.__init__

    def noted(self, *given, **more):
        made.append(more["steps"])
        make(self, *given, **more)

    monkeypatch.setattr(PretrainTrainer, "__init__", noted)
    run = playout.pretrain_trunk(str(folder), epochs=1, run=tmp_path / "a", **SETTINGS)
    again = playout.pretrain_trunk(resume=run.path, quiet=True)
    assert len(made) == 2 and again.config["total_steps"] > 0
    assert "changes" not in again.record


def test_a_seed_that_is_none_is_said_first(folder, tmp_path):
    with pytest.raises(ConfigError, match="--seed must be from 0"):
        playout.pretrain_trunk(str(folder), seed=-1, run=tmp_path / "a", **SETTINGS)
