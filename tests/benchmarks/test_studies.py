"""Parts of the studies: gradients that ablations draw, and what pages say."""

import json
import subprocess
import sys
from importlib import import_module
from types import SimpleNamespace

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
from playout.benchmarks.tools import measuring, report

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


def published(folder, **games):
    """Files that say how many games they hold."""
    folder.mkdir()
    for name, number in games.items():
        (folder / name).write_text(json.dumps({"counts": {"games": number}}) + "\n")
    return folder


def accounted(tmp_path, taken, *, learned, lying=(), consumed=()):
    """The account of three files of eight games each."""
    games = tmp_path / "games"
    games.mkdir()
    for name in lying:
        (games / name).write_text("")
    state = {
        "actors": {
            "consumed": dict.fromkeys(consumed, 1),
            "stale": {"games": 0},
            "files": {"aside": 0},
        },
        "totals": {"games": learned},
        "replay": {"num_added": 100, "turns": {"keys": [0.0] * 16}},
        "learners": [{"steps": 3}],
    }
    settings = {"alphazero": {"learner": {"batch_size": actors.REUSE * 100 // 3 - 5}}}
    run = SimpleNamespace(load=lambda: (9, state), config=settings)
    seen = published(tmp_path / "seen", a=8, b=8, c=8)
    return actors.account(run, games, seen, taken)


def test_a_lost_file_and_one_that_was_learned_from_twice_do_not_cancel_out(tmp_path):
    found = accounted(tmp_path, {"a": {1}, "b": {2, 5}}, learned=24)
    assert found["unexplained"] == 0  # sums see nothing
    assert found["lost"] == found["learned from again"] == 8


def test_files_that_were_all_read_once_or_wait_are_accounted_for(tmp_path):
    lying = ("b.read", "c.games")
    taken = {"a": {1}, "b": {2}}
    found = accounted(tmp_path, taken, learned=16, lying=lying, consumed=["b.games"])
    assert not any(found[what] for what in actors.WRONG) and found["unread at the end"] == 8


def test_a_file_that_was_read_and_lies_there_again_is_found(tmp_path):
    found = accounted(tmp_path, {"a": {1}, "b": {1}, "c": {1}}, learned=16, lying=["c.games"])
    assert found["learned from again"] == 8


@pytest.fixture
def killed(tmp_path, monkeypatch):
    """A study of kills in which no job is started: what each run is said to have left."""
    left = {}

    def outcome(path):
        return {"model": left.get(path.name, "the same")}, [{"loss": 1.0}] * 7

    monkeypatch.setattr(kills, "job", lambda *_, **__: SimpleNamespace(wait=lambda: 0))
    monkeypatch.setattr(kills, "disturbed", lambda ranks, command, run, number, *_: min(number, 2))
    monkeypatch.setattr(kills, "outcome", outcome)
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)

    def study(*words):
        folder = str(tmp_path / f"runs-{len(list(tmp_path.iterdir()))}")
        monkeypatch.setattr(sys, "argv", ["kills", "--folder", folder, *words])
        code = kills.main()
        path = tmp_path / "kills.json"
        return code, json.loads(path.read_text())["results"] if path.exists() else None

    return study, left


def test_kills_leave_a_result_for_each_command_and_keep_those_of_others(killed, tmp_path):
    study, left = killed
    assert study("--quick") == (0, None)
    code, result = study("--kills", "3", "--only", "ppo", "alphazero")
    assert code == 0 and [one["equal bytes"] for one in result["jobs"]] == [True, True]
    assert result["jobs"][0]["command"] == "ppo CartPole-v1 --no-stop"
    assert [result["jobs"][0][key] for key in ("kills", "runs", "updates")] == [3, 2, 7]
    left["killed-2"] = "others"
    code, result = study("--kills", "5", "--", "ppo", "CartPole-v1", "--no-stop")
    assert code == 1
    assert [(one["command"].split()[0], one["equal bytes"]) for one in result["jobs"]] == [
        ("alphazero", True),
        ("ppo", False),
    ]
    shown = report.report(tmp_path)
    assert "| `ppo CartPole-v1 --no-stop`, 2 ranks | 5 | 3 | 7 | 1; wanted at most 0: **no** |" in (
        shown
    )


@pytest.mark.parametrize("words", [*kills.JOBS.values(), *kills.QUICK.values()])
def test_commands_that_are_killed_are_such_as_playout_takes(words):
    table, names = (cli.stages(), words[1:]) if words[0] == "rlhf" else (cli.commands(), words)
    module = table[names[0]] if words[0] == "rlhf" else table[names[0]][0]
    command = cli.parse(import_module(module).Command, list(names[1:]), "playout")
    assert command.run is None
