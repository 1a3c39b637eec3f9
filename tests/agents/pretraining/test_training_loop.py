"""The program that shows the four steps of learning learns."""

import importlib.util
from pathlib import Path

import pytest
import torch
from playout.agents.pretraining.data.repeats import repeated

EXAMPLE = Path(__file__).parents[3] / "examples" / "training_loop.py"


def test_held_out_positions_are_measured_by_what_norms_saw_in_training(monkeypatch):
    spec = importlib.util.spec_from_file_location("training_loop", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made, modes = module.make_objective, []

    def watched(trunk, *args, **settings):
        objective = made(trunk, *args, **settings)
        losses = objective.losses

        def noted(batch, generator):
            modes.append((torch.is_grad_enabled(), trunk.training))
            return losses(batch, generator)

        objective.losses = noted
        return objective

    monkeypatch.setattr(module, "make_objective", watched)
    module.main(steps=22, count=200)
    assert set(modes) == {(True, True), (False, False)}


@pytest.mark.slow
def test_the_visible_loop_learns_and_says_so(capsys):
    spec = importlib.util.spec_from_file_location("training_loop", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    accuracy = module.main(steps=201, count=4000)
    first, *lines = capsys.readouterr().out.splitlines()
    losses = [float(line.split()[3].strip(",")) for line in lines]
    assert losses[-1] < losses[0] and accuracy > 0.5
    usual = float(first.split()[-3]) / 100
    kept = [float(line.split()[6]) for line in lines]
    assert kept[0] < 60 and kept[-1] > 85  # what is held out is told better than it was ...
    assert accuracy > usual + 0.02  # ... and better than by one answer for all


def test_none_of_the_visible_loop_s_held_out_positions_is_learned_from(monkeypatch):
    spec = importlib.util.spec_from_file_location("training_loop", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made, found = module.positions_of_game, []
    monkeypatch.setattr(
        module, "positions_of_game", lambda *a, **k: found.append(made(*a, **k)) or found[0]
    )
    module.main(steps=1, count=200)
    assert len(found[0].test) > 9 and not repeated(found[0].test, found[0].train).any()
