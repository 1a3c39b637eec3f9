"""Distillation and pruning: students learn answers, pruned weights stay zero."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import playout
import pytest
import torch
from playout.agents.networks.beginning import Beginning
from playout.agents.pretraining.objectives.distillation import soft_cross_entropy
from playout.agents.pretraining.pruning import Pruning, make_mask
from playout.agents.pretraining.trunk import new_trunk, trunk_of
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.errors import ConfigError

from tests.agents.pretraining.bars import finish, split_of, trainer_of
from tests.agents.pretraining.test_resumed_trunks import assert_same


def test_soft_cross_entropy_is_the_plain_sum():
    logits, teacher = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([[0.0, 3.0, 1.0]])
    p = np.exp([0.0, 1.5, 0.5]) / np.exp([0.0, 1.5, 0.5]).sum()
    q = np.exp([0.5, 1.0, 0.25]) / np.exp([0.5, 1.0, 0.25]).sum()
    expected = -(p * np.log(q)).sum() * 4
    assert float(soft_cross_entropy(logits, teacher, 2.0)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_a_student_imitates_its_teacher_without_labels(folder, tmp_path):
    settings = {"network": "grid", "batch": 40, "quiet": True}
    teacher = playout.pretrain_trunk(str(folder), epochs=10, run=tmp_path / "t", **settings)
    student = playout.pretrain_trunk(
        str(folder), teacher=str(teacher.path), label_weight=0.0, epochs=10, run=tmp_path / "s",
        **{**settings, "network": "stack(depth=3, width=8)"},
    )  # fmt: skip
    rows = [json.loads(line) for line in (student.path / "metrics.jsonl").open()]
    agreed = [row["eval/agreement"] for row in rows if "eval/agreement" in row]
    assert agreed[-1] > 0.9
    with pytest.raises(ConfigError, match="teacher for something else"):
        playout.pretrain_trunk(
            "tic_tac_toe", count=100, teacher=str(teacher.path), quiet=True, run=tmp_path / "no"
        )


@pytest.mark.slow
def test_a_small_board_network_learns_from_a_larger_ones_answers(tmp_path):
    common = {"count": 300, "quiet": True, "batch": 64}
    teacher = playout.pretrain_trunk(
        "tic_tac_toe", size="16x2", epochs=15, run=tmp_path / "t", **common
    )
    student = playout.pretrain_trunk(
        "tic_tac_toe",
        size="8x1",
        epochs=15,
        teacher=str(teacher.path),
        run=tmp_path / "s",
        **common,
    )
    rows = [json.loads(line) for line in (student.path / "metrics.jsonl").open()]
    losses = [row["eval/loss"] for row in rows if "eval/loss" in row]
    assert losses[-1] < losses[0]
    assert playout.load(student.path).act(np.zeros((1, *student_shape()))).shape[0] == 1


def test_a_run_of_self_play_teaches_and_is_found_again(tmp_path):
    teacher = Path(__file__).parents[2] / "fixtures" / "runs" / "tic_tac_toe"
    common = {"count": 60, "size": "8x1", "epochs": 1, "batch": 20, "quiet": True}
    run = playout.pretrain_trunk("tic_tac_toe", teacher=teacher, run=tmp_path / "s", **common)
    noted = run.load("latest", only=("teacher",))[1]["teacher"]
    assert noted["step"] == RunDir.open(teacher).find("best").step
    found = playout.evaluate(run.path)
    low, high = found["interval"]  # as of what has learned from labels
    assert low <= found["eval/accuracy"] <= high
    playout.pretrain_trunk(resume=run.path, quiet=True)


def test_a_teacher_of_another_game_of_the_same_shape_is_refused(tmp_path):
    common = {"count": 100, "epochs": 1, "size": "8x1", "batch": 64, "quiet": True}
    teacher = playout.pretrain_trunk("mnk(m=4,n=4,k=3)", run=tmp_path / "t", **common)
    with pytest.raises(ConfigError, match=r"has learned mnk\(.*k=3.*\), not mnk"):
        playout.pretrain_trunk(
            "mnk(m=4,n=4,k=4)", teacher=str(teacher.path), run=tmp_path / "s", **common
        )


def student_shape():
    return playout.game("tic_tac_toe").obs_shape


def test_masks_keep_the_largest_weights():
    weight = torch.tensor([[0.1, -4.0, 2.0, 0.3, 5.0, -0.2, 0.0, 1.0]])
    kept = make_mask(weight, 0.25, "unstructured")
    assert kept.tolist() == [[True, True, True, True, True, False, False, True]] or (
        weight[~kept].abs().max() <= weight[kept].abs().min()
    )
    fours = make_mask(weight, 0.5, "2:4")
    assert fours.tolist() == [[False, True, True, False, True, False, False, True]]


@pytest.mark.slow
@pytest.mark.parametrize(("sparsity", "pattern"), [(0.8, "unstructured"), (0.5, "2:4")])
def test_pruned_weights_stay_zero_while_the_rest_learns(sparsity, pattern):
    data = split_of(200)
    trainer = trainer_of(data, 75, sparsity=sparsity, pattern=pattern)
    mask = {id(p): m.clone() for p, m in trainer.pruning.parts}
    found = finish(trainer)
    assert found["eval/accuracy"] > 0.9
    for parameter, _ in trainer.pruning.parts:
        assert float(parameter[~mask[id(parameter)]].abs().sum().detach()) == 0
    assert trainer.pruning.share == pytest.approx(sparsity, abs=0.01)
    again = trainer_of(data, 75, sparsity=sparsity, pattern=pattern)
    again.load_state_dict(trainer.state_dict())
    for (_, one), (_, other) in zip(trainer.pruning.parts, again.pruning.parts, strict=True):
        assert torch.equal(one, other)
    again.close()


@pytest.mark.parametrize(
    ("share", "what"),
    [
        (0.999, r"leaves none of the 288 weights of convs.0.weight"),
        (1e-9, "sets no weight to zero"),
    ],
)
def test_a_share_that_leaves_nothing_or_all_is_refused(share, what):
    with pytest.raises(ConfigError, match=what):
        Pruning(new_trunk(split_of(20).train, network="grid").net, share, "unstructured")


COMMON = {"count": 600, "quiet": True, "batch": 64, "size": "16x2"}


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A board network that imitates moves."""
    path = tmp_path_factory.mktemp("taught") / "t"
    return playout.pretrain_trunk("tic_tac_toe", epochs=15, run=path, **COMMON)


@pytest.fixture(scope="module")
def narrow(taught):
    """The same without half of its inner channels, learned on from the answers that it gave."""
    pruned = {"init": str(taught.path), "teacher": str(taught.path), "pattern": "channels"}
    path = taught.path.with_name("n")
    return playout.pretrain_trunk(
        "tic_tac_toe", sparsity=0.5, epochs=10, run=path, **pruned, **COMMON
    )


def losses_of(run):
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").open()]
    return [row["eval/loss"] for row in rows if "eval/loss" in row]


@pytest.mark.slow
def test_a_network_without_channels_recovers_and_is_a_run_like_any_other(
    taught, narrow, tmp_path, capsys
):
    assert narrow.config["network"]["inner"] == 8
    found = losses_of(narrow)
    assert found[-1] < found[0]
    whole, small = (
        sum(x.numel() for x in run.load(only=("model",))[1]["model"].values())
        for run in (taught, narrow)
    )
    assert small < 0.8 * whole
    assert main(["match", str(narrow.path), "random", "--games", "4", "--simulations", "4"]) == 0
    assert main(["eval", str(narrow.path)]) == 0
    assert (
        main(["export", str(narrow.path), "--quantise", "nf4", "--out", str(tmp_path / "q")]) == 0
    )
    assert main(["match", str(tmp_path / "q"), "random", "--games", "4"]) == 0
    assert main(["eval", str(tmp_path / "q")]) == 0
    assert main(["pretrain-trunk", "--resume", str(tmp_path / "q")]) == 2
    assert "learns no more" in capsys.readouterr().err
    on = playout.alphazero(
        "tic_tac_toe", init=str(narrow.path), updates=1, rating=False, quiet=True,
        run=tmp_path / "on",
    )  # fmt: skip
    assert on.config["alphazero"]["size"] == "tiny/8"  # tiny is 16x2


@pytest.mark.slow
def test_what_learned_to_play_is_exported_with_moves_and_values(narrow, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "net.onnx"
    assert main(["export", str(narrow.path), "--out", str(path)]) == 0
    boards = np.zeros((3, *student_shape()), np.float32)
    found = onnxruntime.InferenceSession(str(path)).run(["logits", "values"], {"obs": boards})
    assert [part.shape for part in found] == [(3, 9), (3,)]


def test_a_network_without_channels_that_was_stopped_goes_on_to_the_same_bytes(
    taught, narrow, tmp_path
):
    whole = narrow.load("latest")[1]
    again = tmp_path / "n"
    shutil.copytree(narrow.path, again)
    first = min(entry.step for entry in narrow.checkpoints())
    assert first < whole["counters"]["steps"]
    run = playout.pretrain_trunk(resume=again, from_step=first, quiet=True)
    assert_same(whole, run.load("latest")[1])


@pytest.mark.slow
def test_whole_channels_go_from_board_networks_of_earlier_runs_alone(folder, taught, tmp_path):
    pruned = {"sparsity": 0.5, "pattern": "channels", "size": "16x2"}
    given = {**pruned, "quiet": True, "run": tmp_path / "no"}
    with pytest.raises(ConfigError, match="of a board network that --init names"):
        playout.pretrain_trunk("tic_tac_toe", count=100, **given)
    with pytest.raises(ConfigError, match="of a board network that --init names"):
        playout.pretrain_trunk(str(folder), **{**given, "size": "base"})
    with pytest.raises(ConfigError, match="choose above 0 and below 1"):
        playout.pretrain_trunk("tic_tac_toe", init=str(taught.path), **{**given, "sparsity": 1.5})
    assert not (tmp_path / "no").exists()


def checkpoint(run, step, metric, state):
    """Saves a state of the run with other heads than its own."""
    heads = {name: value + 0.01 * step for name, value in state["objective"].items()}
    with run.lock():
        run.save(step, {**state, "objective": heads}, metric=metric)
    return heads["head.1.bias"]


def student_of(teacher):
    return trainer_of(split_of(60), 4, teacher=str(teacher.path))


def answers_of(student):
    return student.objective._teacher[0].state_dict()["head.1.bias"]


def test_a_teachers_best_checkpoint_answers_and_stays_the_one_when_a_student_goes_on(tmp_path):
    one = trainer_of(split_of(60), 4)
    state = one.state_dict()
    one.close()
    config = {"pretrain": {"objective": "supervised"}, "classes": ["lying", "up"]}
    teacher = RunDir.create(tmp_path / "t", kind="pretrain-trunk", config=config, seed=0)
    best, last = checkpoint(teacher, 1, 0.9, state), checkpoint(teacher, 2, 0.5, state)
    student = student_of(teacher)
    assert torch.equal(answers_of(student), best)
    kept = student.state_dict()
    assert kept["teacher"]["step"] == 1
    earlier = {**kept, "teacher": None}  # of a version that took the last checkpoint
    student.load_state_dict(earlier)
    assert torch.equal(answers_of(student), last)
    assert student.state_dict()["teacher"]["step"] == 2
    better = checkpoint(teacher, 3, 0.95, state)
    goes_on = student_of(teacher)
    assert torch.equal(answers_of(goes_on), better)
    goes_on.load_state_dict(kept)
    assert torch.equal(answers_of(goes_on), best)
    shutil.rmtree(teacher.path / "checkpoints" / "000001")
    without = student_of(teacher)
    with pytest.raises(ConfigError, match=r"a teacher that is gone: .* has no checkpoint 1"):
        without.load_state_dict(kept)
    changed = {**state, "objective": {k: v + 1 for k, v in state["objective"].items()}}
    checkpoint(teacher, 1, 0.9, changed)
    with pytest.raises(ConfigError, match="its checkpoint 1 is not the one"):
        without.load_state_dict(kept)
    for trainer in (student, goes_on, without):
        trainer.close()


def test_a_student_that_goes_on_reads_its_teacher_once_and_ends_as_one_that_was_not_stopped(
    tmp_path, monkeypatch
):
    one = trainer_of(split_of(60), 4)
    config = {"pretrain": {"objective": "supervised"}, "classes": ["lying", "up"]}
    teacher = RunDir.create(tmp_path / "t", kind="pretrain-trunk", config=config, seed=0)
    checkpoint(teacher, 1, 0.9, one.state_dict())
    whole = student_of(teacher)
    whole.steps_an_update = 2
    whole.update()
    stopped, read = deepcopy(whole.state_dict()), []
    load = RunDir.load
    monkeypatch.setattr(
        RunDir, "load", lambda run, which, **only: read.append(which) or load(run, which, **only)
    )
    goes_on = student_of(teacher)
    goes_on.steps_an_update = 2
    goes_on.load_state_dict(stopped)
    assert read == ["best"]
    for student in (whole, goes_on):
        student.update()
    assert_same(whole.state_dict(), goes_on.state_dict())
    for trainer in (one, whole, goes_on):
        trainer.close()


def test_what_is_begun_from_is_the_best_checkpoint(tmp_path):
    one = trainer_of(split_of(60), 4)
    state = one.state_dict()
    one.close()
    run = RunDir.create(tmp_path / "r", kind="pretrain-trunk", config={}, seed=0)
    for step, metric in ((1, 0.9), (2, 0.5)):
        weights = {name: value + step for name, value in state["model"].items()}
        with run.lock():
            run.save(step, {**state, "model": weights}, metric=metric)
    name = next(iter(state["model"]))
    for found in (trunk_of(run).net.state_dict(), Beginning.read(str(run.path)).weights):
        assert torch.equal(found[name], state["model"][name] + 1)
