"""The example of a reward function runs and its reward rises."""

import importlib.util
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples" / "language_reward.py"


def test_the_example_learns_from_a_python_function():
    spec = importlib.util.spec_from_file_location("language_reward", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.main(pretrain_steps=40, updates=12)
    assert sum(found[-3:]) > sum(found[:3])  # a few rounds, since one is mostly chance
