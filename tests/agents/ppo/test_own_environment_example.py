"""The example of an own environment and network works, from Python and from the command line."""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_the_example_learns_to_land(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import own_environment

    assert own_environment.main(str(tmp_path / "run")) > 0.7


def test_the_command_finds_an_environment_in_the_folder_it_is_called_from(tmp_path):
    call = [sys.executable, "-m", "playout.cli", "ppo", "own_environment:Lander1D-v0"]
    call += ["--run", str(tmp_path / "run"), "--total-timesteps", "300", "--quiet"]
    call += ["--num-envs", "4", "--num-steps", "32", "--eval-episodes", "4"]
    done = subprocess.run(call, cwd=EXAMPLES, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    call = [sys.executable, "-m", "playout.cli", "eval", str(tmp_path / "run"), "--episodes", "2"]
    refused = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert refused.returncode == 2 and "PLAYOUT_TRUST=own_environment" in refused.stderr
