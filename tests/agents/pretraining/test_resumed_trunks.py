"""What was stopped and goes on ends as what was not, byte for byte, whatever was drawn."""

import signal

import playout
import pytest
import torch
from playout.agents.pretraining.config import OBJECTIVES, PretrainConfig
from playout.agents.pretraining.data.dataset import Augmentation, Split
from playout.agents.pretraining.data.positions import positions_of_game
from playout.agents.pretraining.trainer import PretrainTrainer
from playout.agents.pretraining.trunk import new_trunk
from playout.agents.runs.directory import RunDir
from playout.agents.runs.signals import Interrupted

from tests.agents.pretraining.bars import split_of
from tests.agents.pretraining.test_objectives import coloured

CHANGED = Augmentation(shift=0.1, flip=True, erase=0.5)
KINDS = {
    **{name: {"objective": name} for name in OBJECTIVES if name not in ("colour", "next")},
    "colour": {"objective": "colour", "augment": CHANGED},
    "next": {"objective": "next"},
    "vicreg": {"objective": "contrastive", "pairs": "vicreg", "augment": CHANGED},
    "augmented": {"augment": CHANGED, "dropout": 0.3, "label_smoothing": 0.1, "balance": True},
    "mixup": {"mixup": 0.4, "loss": "mse", "optimizer": "muon", "labels": 0.5},
    "pruned": {"sparsity": 0.5, "pattern": "2:4", "optimizer": "sgd"},
    "patient": {"patience": 3, "optimizer": "momentum", "max_grad_norm": 0.01},
}


def trainer(kind):
    """Its trainer of eight steps, of which an update makes four."""
    if kind == "next":
        data, network = positions_of_game("tic_tac_toe", count=120), "auto"
    elif kind == "colour":
        data, network = Split(coloured(100), coloured(20)), "grid"
    else:
        data, network = split_of(300), "grid"
    config = PretrainConfig(network=network, batch=25, **KINDS[kind])
    trunk = new_trunk(data.train, network=network, size="8x1", seed=1)
    found = PretrainTrainer(trunk, data, config, steps=8, seed=2, validation=0.3)
    found.steps_an_update = 4
    return found


def flat(state):
    """Every value of a state by its place in it."""
    if isinstance(state, dict):
        parts = state.items()
    elif isinstance(state, list | tuple):
        parts = enumerate(state)
    else:
        return {"": state}
    return {f"{key}/{rest}": value for key, part in parts for rest, value in flat(part).items()}


def assert_same(ours, theirs):
    ours, theirs = flat(ours), flat(theirs)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, theirs[name]), name
        else:
            assert value == theirs[name], name


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_trainer_repeats_the_uninterrupted_one(kind):
    whole, first, second = (trainer(kind) for _ in range(3))
    for _ in range(2):
        expected = whole.update() | whole.evaluate()
    first.update()
    first.evaluate()
    second.load_state_dict(first.state_dict())
    found = second.update() | second.evaluate()
    assert found == expected
    assert_same(whole.state_dict(), second.state_dict())
    for one in (whole, first, second):
        one.close()


def test_a_stopped_run_that_goes_on_ends_as_one_that_was_not(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(PretrainTrainer, "steps_an_update", 2)
    settings = {"network": "grid", "batch": 40, "epochs": 3, "mixup": 0.2, "dropout": 0.1}
    whole = playout.pretrain_trunk(str(folder), run=tmp_path / "a", quiet=True, **settings)
    update, left = PretrainTrainer.update, [2]

    def stopped(self):
        left[0] -= 1
        if not left[0]:
            signal.raise_signal(signal.SIGINT)
        return update(self)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainTrainer, "update", stopped)
        with pytest.raises(Interrupted):
            playout.pretrain_trunk(str(folder), run=tmp_path / "b", quiet=True, **settings)
    assert RunDir.open(tmp_path / "b").load("latest")[1]["counters"]["steps"] == 4
    again = playout.pretrain_trunk(resume=tmp_path / "b", quiet=True)
    ours, theirs = (run.load("latest")[1] for run in (whole, again))
    assert theirs["counters"]["steps"] == 9
    assert_same(ours, theirs)
