"""Distillation and pruning: students learn answers, pruned weights stay zero."""

import json

import numpy as np
import playout
import pytest
import torch
from playout.agents.pretraining.objectives.distillation import soft_cross_entropy
from playout.agents.pretraining.pruning import make_mask
from playout.errors import ConfigError

from tests.agents.pretraining.bars import finish, split_of, trainer_of


def test_soft_cross_entropy_is_the_plain_sum():
    logits, teacher = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([[0.0, 3.0, 1.0]])
    p = np.exp([0.0, 1.5, 0.5]) / np.exp([0.0, 1.5, 0.5]).sum()
    q = np.exp([0.5, 1.0, 0.25]) / np.exp([0.5, 1.0, 0.25]).sum()
    expected = -(p * np.log(q)).sum() * 4
    assert float(soft_cross_entropy(logits, teacher, 2.0)) == pytest.approx(expected, rel=1e-6)


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
