"""The example of a reward function runs and its reward rises."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "language_reward.py"


@pytest.mark.slow
def test_the_example_learns_from_a_python_function():
    spec = importlib.util.spec_from_file_location("language_reward", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.main(pretrain_steps=40, updates=12)
    assert sum(found[-3:]) > sum(found[:3])  # a few rounds, since one is mostly chance


@pytest.mark.slow
def test_the_example_of_an_environment_learns_from_playing(memory_path):
    path = EXAMPLE.with_name("language_environment.py")
    spec = importlib.util.spec_from_file_location("language_environment", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run = module.main(folder=memory_path, steps=20, updates=2)
    assert run.record["finished"] and (run.path / "model" / "config.json").exists()
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2 and '"env/turns"' in lines[-1]
