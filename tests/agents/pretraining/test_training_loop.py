"""The program that shows the four steps of learning learns."""

import importlib.util
from pathlib import Path

import torch

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


def test_the_visible_loop_learns_and_says_so(capsys):
    spec = importlib.util.spec_from_file_location("training_loop", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    accuracy = module.main(steps=60, count=400)
    lines = capsys.readouterr().out.splitlines()
    losses = [float(line.split()[3].strip(",")) for line in lines]
    assert losses[-1] < losses[0] and accuracy > 0.5
