"""The program that shows the four steps of learning learns."""

import importlib.util
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples" / "training_loop.py"


def test_the_visible_loop_learns_and_says_so(capsys):
    spec = importlib.util.spec_from_file_location("training_loop", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    accuracy = module.main(steps=60, count=400)
    lines = capsys.readouterr().out.splitlines()
    losses = [float(line.split()[3].strip(",")) for line in lines]
    assert losses[-1] < losses[0] and accuracy > 0.5
