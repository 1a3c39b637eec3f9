"""The example of an own environment and network works, from Python and from the command line."""

from pathlib import Path

import forked
import pytest

EXAMPLES = Path(__file__).parents[4] / "examples"


@pytest.mark.slow
def test_the_example_learns_to_land(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import own_environment

    assert own_environment.main(str(tmp_path / "run")) > 0.7


def call(folder, *arguments):
    """The command as installed: with -P, Python itself does not look in the current folder."""
    return forked.run("-P", "-m", "playout.cli", *arguments, folder=folder)


@pytest.mark.slow
def test_the_command_finds_an_environment_in_the_folder_it_is_called_from(tmp_path):
    run, small = str(tmp_path / "run"), ["--num-envs", "4", "--num-steps", "32"]
    small += ["--total-timesteps", "300", "--eval-episodes", "4", "--quiet"]
    code, _, err = call(EXAMPLES, "ppo", "own_environment:Lander1D-v0", "--run", run, *small)
    assert code == 0, err
    code, _, err = call(tmp_path, "eval", run, "--episodes", "2")
    assert code == 2 and "--trust own_environment" in err
    picture = tmp_path / "watched.gif"
    watch = ["play", run, "--episodes", "1", "--out", str(picture)]
    code, _, err = call(EXAMPLES, *watch, "--trust", "own_environment")
    assert code == 0, err
    assert picture.stat().st_size > 1000
