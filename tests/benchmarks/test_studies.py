"""Parts of the studies: gradients that ablations draw, and what pages say."""

import subprocess
import sys

import numpy as np
import playout.benchmarks.studies.actors as actors
import playout.benchmarks.studies.kills as kills
import playout.benchmarks.studies.paradigms as paradigms
import pytest
import torch
from playout import cli
from playout.agents.commands import eval as eval_command
from playout.agents.networks.encoders import Layer
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import Split
from playout.agents.pretraining.data.pictures import Pictures
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import new_trunk
from playout.benchmarks.studies.ablations import run
from playout.benchmarks.studies.compression import more_of
from playout.benchmarks.studies.page import QUICK, Page, shown
from playout.benchmarks.studies.paradigms import Form, part, pixels

NETWORK = "stack(depth=4, width=4, init=he)"


def pictures(count=64):
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=count)
    pixels = rng.integers(100, size=(count, 1, 8, 8)).astype(np.uint8)
    pixels[:, :, :4] += (100 * labels[:, None, None, None]).astype(np.uint8)
    own = Pictures(name="halves", pixels=pixels, labels=labels, classes=("low", "high"))
    return Split(own, own)


@pytest.mark.parametrize("limit", [0.0, 1e-3])
def test_gradients_of_ablations_are_those_of_the_first_step_before_clipping(limit):
    data = pictures()
    config = PretrainConfig(network=NETWORK, batch=32, optimizer="adamw", max_grad_norm=limit)
    found = run(data, config, steps=51, seed=3)

    plain = PretrainConfig(network=NETWORK, batch=32, optimizer="adamw", max_grad_norm=0.0)
    trunk = new_trunk(data.train, network=NETWORK, seed=3)
    trainer = PretrainTrainer(trunk, data, plain, steps=51, seed=3)
    trainer.step()
    trainer.close()
    layers = [module for module in trunk.modules() if isinstance(module, Layer)]
    wanted = [float(torch.linalg.vector_norm(layer.conv.weight.grad)) for layer in layers]
    assert found["norms"] == pytest.approx(wanted, rel=1e-3)
    assert [point[0] for point in found["curve"]] == [1, 26, 51]


def test_a_range_of_one_seed_is_a_number():
    assert shown((0.5, 0.5)) == "0.5"
    assert shown((0.25, 0.5)) == "0.25 to 0.5"


def test_bits_more_or_less_in_words():
    assert more_of((-0.0123, -0.0123)) == "0.012 less"
    assert more_of((-0.01, 0.02)) == "from -0.010 to +0.020 over the seeds"


@pytest.mark.parametrize("quick", [True, False])
def test_a_page_says_whether_it_is_of_a_quick_form(tmp_path, quick):
    written = Page("A title", "A question?", quick=quick).write(tmp_path).read_text()
    assert (QUICK in written) == quick


def test_pixels_are_read_with_few_labels_and_with_all():
    found = pixels(pictures())
    assert found["linear, all labels"] > 0.9
    assert 0 < found["linear, 1 % of labels"] <= 1


def test_networks_without_layers_of_a_stack_are_measured_as_seldom():
    config = PretrainConfig(network="grid", batch=32)
    found = run(pictures(), config, steps=51, seed=0)
    assert found["norms"] == []
    assert [point[0] for point in found["curve"]] == [1, 26, 51]


def test_parts_of_paradigms_are_rows_of_one_shape_and_what_maps_show(tmp_path, monkeypatch):
    monkeypatch.setattr(paradigms, "_pictures", lambda quick: pictures(200))
    board = "connect_four(width=4,height=4)"
    update = {"evaluations": 256, "num_trees": 8, "steps": 1, "batch_size": 16, "proofs": False}
    update["warmup_positions"] = 16
    form = Form(board, 200, "4x1", "grid", 2, 32, {"updates": 1, **update}, 1, update, 50)
    keys = set()
    for what, objective in (
        ("pictures", "none"),
        ("pictures", "contrastive"),
        ("positions", "next"),
        ("positions", "play"),
    ):
        row, shown = part(what, objective, form, 0, tmp_path)
        keys.add(tuple(row))
        assert 0 < row["linear, all labels"] <= 1 and row["labels used"] == 0
        assert shown is None if what == "positions" else len(shown) == 50
    assert len(keys) == 1
    assert len(part("pictures", "pixels", form, 0, tmp_path)[1]) == 50
    assert 0 <= part("starts", "masked", form, 0, tmp_path) <= 1
    assert (tmp_path / "trunk-masked-0").is_dir() and (tmp_path / "from-masked-0").is_dir()


def test_the_study_of_actors_asks_eval_for_what_it_takes(tmp_path, monkeypatch):
    def asked(words, **options):
        assert words[1:4] == ["-m", "playout", "eval"]
        command = cli.parse(eval_command.Command, words[4:], "playout eval")
        assert command.opponents == ("random",) and command.run == tmp_path
        return subprocess.CompletedProcess(words, 0, '{"positions": [{"share": 1}]}')

    monkeypatch.setattr(actors.subprocess, "run", asked)
    assert actors.strength(tmp_path) == [{"share": 1}]


def test_a_learner_that_fails_leaves_no_actor_behind(tmp_path, monkeypatch):
    kept = []

    def command(self, name):
        kept.append(self.processes)
        code = "raise SystemExit(3)" if name == "learner" else "import time; time.sleep(600)"
        return [sys.executable, "-c", code]

    monkeypatch.setattr(actors.Programs, "command", command)
    with pytest.raises(SystemExit, match="the learner ended with 3"):
        actors.live(tmp_path, game="none", minutes=1.0, kill_every=0.0, seed=0, words=[])
    assert len(kept[0]) == 4
    try:
        assert all(process.poll() is not None for process in kept[0].values())
    finally:
        for process in kept[0].values():
            process.kill()


def test_kills_of_an_earlier_study_are_not_written_over(tmp_path, monkeypatch, capsys):
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "run.json").write_text("{}")
    monkeypatch.setattr(kills, "job", lambda *_, **__: pytest.fail("a job was started"))
    words = ["kills", "--folder", str(tmp_path), "--", "ppo", "CartPole-v1"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as caught:
        kills.main()
    assert caught.value.code == 2
    assert f"{tmp_path} holds an earlier study" in capsys.readouterr().err
