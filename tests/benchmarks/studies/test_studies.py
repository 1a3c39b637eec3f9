"""Parts of the studies: gradients that ablations draw, and what pages say."""

import json
import subprocess
import sys
from dataclasses import replace
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
from playout.agents.networks.encoders.stack import Layer
from playout.agents.pretraining import probes
from playout.agents.pretraining.config import PretrainConfig
from playout.agents.pretraining.data.dataset import Split
from playout.agents.pretraining.data.pictures import Pictures
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import new_trunk
from playout.benchmarks.studies.cases import difference_of_seeds, mean_of_seeds
from playout.benchmarks.studies.games.starts import ALPHAZERO, LEARNERS, PPO, Board
from playout.benchmarks.studies.page import QUICK, Page, compared, shown
from playout.benchmarks.studies.paradigms import findings
from playout.benchmarks.studies.smaller_language import more_of
from playout.benchmarks.studies.training import stacks, trunks
from playout.benchmarks.studies.training.stacks import run
from playout.benchmarks.studies.training.trunks import (
    ALL,
    ARI,
    FEW,
    KEPT,
    RIGHT,
    Form,
    part,
    pixels,
    suiting,
)
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


def test_readers_of_pixels_see_as_many_labels_as_those_of_trunks(monkeypatch):
    seen = {}

    def reader(whose):
        def note(x, labels, *_, **__):
            seen.setdefault(whose, []).append(labels.tolist())
            return 0.5

        return note

    data = pictures(6000)
    monkeypatch.setattr(trunks, "read", reader("pixels"))
    monkeypatch.setattr(probes, "linear_accuracy", reader("a trunk"))
    pixels(data)
    trunk = new_trunk(data.train, network="grid", seed=0)
    probes.probe(trunk, data, "linear", shares=trunks.SHARES, pixels=False)
    assert seen["pixels"] == seen["a trunk"] and len(seen["pixels"][1]) == 6000


@pytest.mark.parametrize(("patience", "wanted"), [(3, 0.2), (0, 0.8)])
def test_early_stopping_chooses_by_other_pictures_than_those_it_is_told_of(
    monkeypatch, patience, wanted
):
    scripted = {"chosen by": iter([0.1, 0.9, 0.5]), "told": iter([0.3, 0.2, 0.8])}
    halves = lambda held: [replace(held, name=name) for name in scripted]  # noqa: E731

    def evaluate(self):
        value = next(scripted[self.data.test.name])
        return {"eval/accuracy": value, "eval/score": value}

    monkeypatch.setattr(stacks, "halves", halves)
    monkeypatch.setattr(PretrainTrainer, "evaluate", evaluate)
    config = PretrainConfig(network="grid", batch=32, patience=patience)
    found = run(pictures(), config, steps=51, seed=0)
    assert found["train"] == found["curve"][1 if patience else -1][1]
    assert found["held_out"] == wanted and [p[2] for p in found["curve"]] == [0.3, 0.2, 0.8]


def test_halves_of_what_is_held_out_share_nothing():
    held = replace(pictures(63).test, labels=np.arange(63))
    first, second = (half.labels.tolist() for half in stacks.halves(held))
    assert sorted(first + second) == list(range(63)) and len(first) == 32


def test_networks_without_layers_of_a_stack_are_measured_as_seldom():
    config = PretrainConfig(network="grid", batch=32)
    found = run(pictures(), config, steps=51, seed=0)
    assert found["norms"] == []
    assert [point[0] for point in found["curve"]] == [1, 26, 51]


_PLAY = {"evaluations": 256, "num_trees": 8, "steps": 1, "batch_size": 16, "proofs": False}
_REWARD = {"num_envs": 8, "num_steps": 8, "minibatch_size": 64, "num_epochs": 1, "eval_episodes": 2}


@pytest.fixture
def tiny_form(monkeypatch):
    """A form of paradigms that takes seconds, in this process."""
    monkeypatch.setattr(trunks, "_pictures", lambda name, some: pictures(200))
    one_by_one = lambda function, cases, **_: [function(*case) for case in cases]  # noqa: E731
    monkeypatch.setattr(paradigms, "side_by_side", one_by_one)
    settings = {
        ALPHAZERO: {"updates": 2, "warmup_positions": 16, **_PLAY},
        PPO: {"total_timesteps": 128, **_REWARD},
    }
    board = Board(
        "connect_four(width=4,height=4)", 150, "4x1", (2, 10), 1.0, ("masked",), settings,
        settings, snapshots=2,
    )  # fmt: skip
    return Form(board, "grid", steps=2, batch=32, mapped=50)


def test_objectives_that_do_not_suit_data_are_named_with_their_reason(tiny_form, monkeypatch):
    fit, refused = suiting("pictures", tiny_form)
    assert set(refused) == {"colour", "next"} and "in colour" in refused["colour"]
    board, refused = suiting("positions", tiny_form)
    assert set(refused) == {"colour", "patches"} and "too small" in refused["patches"]
    assert {"next", "vae", "rotation"} <= set(board) and {"patches", "vae"} <= set(fit)
    grey = pictures(200)
    coloured = replace(grey.train, pixels=np.repeat(grey.train.pixels, 3, axis=1))
    monkeypatch.setattr(trunks, "_pictures", lambda name, some: Split(coloured, coloured))
    assert "colour" in suiting("pictures", tiny_form)[0]


@pytest.mark.slow
def test_paradigms_are_probed_begun_from_and_told_on_a_page(tiny_form, tmp_path):
    found = {}
    for what, objective in (
        ("pictures", "contrastive"),
        ("positions", "none"),
        ("positions", "supervised"),
        ("positions", PPO),
    ):
        row, shown = part(what, objective, tiny_form, 0, tmp_path)
        found[what, objective] = row
        assert 0 < row[ALL] <= 1 and (row["labels used"] == 0) == (objective != "supervised")
        assert shown is None if what == "positions" else len(shown) == 50
    assert len({tuple(row) for (what, _), row in found.items() if what == "positions"}) == 1
    assert found["positions", "none"][KEPT] is None
    for plays in ("supervised", PPO):  # what has learned a policy is asked for moves
        assert 0 < found["positions", plays][KEPT] <= 1
        assert 0 <= found["positions", plays][RIGHT] <= 1
    assert found["positions", PPO]["minutes"] > 0

    assert paradigms.main(True, (0,), tmp_path, tiny_form) == 0
    page = (tmp_path / "index.html").read_text()
    refused = page[page.index("Objectives that do not suit positions") :]
    assert refused.index("patches (") < refused.index("</p>")
    for name in ("AlphaZero, by play", "PPO, by play", "vae", "rotation", "next"):
        assert f"<td>{name}</td>" in page
    for name in ("spam", "reviews"):
        assert f"<caption>{name}: 2 steps of 32 each; one seed</caption>" in page
    assert "<td>next token, then supervised</td>" in page and "TF-IDF" in page
    for learner in LEARNERS:
        assert f"<li>{learner} that begins with the trunk of masked" in page
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000
               for name in ("pictures", "positions", "starts"))  # fmt: skip


def test_findings_of_probes_name_the_best_objective_and_what_may_be_chance():
    def rows(few, whole, kept=None):
        return [{FEW: a, ALL: b, ARI: None, KEPT: kept} for a, b in zip(few, whole, strict=True)]

    found = {
        "none": rows((0.50, 0.52, 0.51), (0.7, 0.7, 0.7)),
        "supervised": rows((0.8, 0.8, 0.8), (0.9, 0.9, 0.9), 0.75),
        "vae": rows((0.60, 0.63, 0.60), (0.6, 0.6, 0.6)),
        "next": rows((0.40, 0.40, 0.40), (0.6, 0.8, 0.76)),
        PPO: rows((0.9, 0.9, 0.9), (0.9, 0.9, 0.9), 0.5),
    }
    few, whole, clusters, moves = findings(found, "outcomes", 0.4)
    assert (
        "features of vae" in few
        and "61.0 % of held-out outcomes" in few
        and "10 points more than from" in few
    )
    assert "supervised 80.0 %" in few
    assert (
        "features of next" in whole
        and "2 points more than from fresh weights, which may be chance (" in whole
    )
    assert "scikit-learn is not installed" in clusters  # nobody has an ARI
    assert "supervised 75.0 %, PPO 50.0 %; random legal moves 40.0 %" in moves


def test_differences_over_seeds_have_students_interval_and_say_what_may_be_chance():
    mean, half = mean_of_seeds([1.0, 2.0, 3.0])
    assert mean == 2.0 and half == pytest.approx(4.302653 / 3**0.5)  # t with 2 degrees of freedom
    assert difference_of_seeds([3.0, 5.0], [1.0, 3.0]) == (2.0, 0.0)
    assert compared(2.0, 0.5, "now", "points") == "2 points more than now (95 %: +1.5 to +2.5)"
    assert compared(-2.0, 3.0, "now") == "2 less than now, which may be chance (95 %: -5 to +1)"
    assert compared(0.0, 0.0, "now") == "no more and no less than now"
    even = "no more and no less than now, which may be chance (95 %: -0.3 to +0.3)"
    assert compared(4.7e-15, 0.3, "now") == even
    assert "one seed" in compared(*mean_of_seeds([1.0]), "now")


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
        path = tmp_path / "studies" / "jobs" / "kills.json"
        return code, json.loads(path.read_text())["results"] if path.exists() else None

    return study, left


def test_kills_leave_a_result_for_each_command_and_keep_those_of_others(killed, tmp_path):
    study, left = killed
    assert study("--quick") == (0, None)
    code, result = study("--kills", "3", "--only", "ppo", "alphazero")
    assert code == 0 and [one["equal bytes"] for one in result["jobs"]] == [True, True]
    named = " ".join(kills.JOBS["ppo"])
    assert result["jobs"][0]["command"] == named
    assert [result["jobs"][0][key] for key in ("kills", "runs", "updates")] == [3, 2, 7]
    left["killed-2"] = "others"
    code, result = study("--kills", "5", "--", *kills.JOBS["ppo"])
    assert code == 1
    assert [(one["command"].split()[0], one["equal bytes"]) for one in result["jobs"]] == [
        ("alphazero", True),
        ("ppo", False),
    ]
    shown = report.report(tmp_path)
    assert f"| `{named}`, 2 ranks | 5 | 3 | 7 | 1; wanted at most 0: **no** |" in shown


@pytest.mark.parametrize("words", [*kills.JOBS.values(), *kills.QUICK.values()])
def test_commands_that_are_killed_are_such_as_playout_takes(words):
    table, names = (cli.stages(), words[1:]) if words[0] == "rlhf" else (cli.commands(), words)
    module = table[names[0]] if words[0] == "rlhf" else table[names[0]][0]
    command = cli.parse(import_module(module).Command, list(names[1:]), "playout")
    assert command.run is None
