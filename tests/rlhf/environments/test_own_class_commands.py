"""`--env module:Class` in a terminal: it learns, and a run goes on where the module is trusted."""

import subprocess
import sys
from pathlib import Path

import playout
import pytest
from playout.cli import main

EXAMPLE = Path(__file__).parents[3] / "examples" / "language_environment.py"
BASE = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"
FEW = ["--updates", "2", "--batch", "4", "--group", "2", "--max-new-tokens", "2", "--quiet"]
FEW += ["--size", "tiny", "--dtype", "float32", "--eval-episodes", "2"]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with the example under a name of its own, as a person would have it."""
    (tmp_path / "my_guess.py").write_text(EXAMPLE.read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("my_guess", None)


@pytest.mark.slow
def test_a_class_of_one_s_own_learns_and_goes_on_where_it_is_trusted(own):
    def playout_(*words):
        done = subprocess.run(
            [sys.executable, "-m", "playout", *words], capture_output=True, text=True
        )
        return done.returncode, done.stderr.splitlines()

    words = ["rlhf", "grpo", "--base", str(BASE), "--env", "my_guess:Guess", "--run", "learned"]
    code, said = playout_(*words, *FEW)  # whoever types the name means it
    assert code == 0, said
    assert len(playout.load("learned").act(["guess"])) == 1
    metrics = (own / "learned" / "metrics.jsonl").read_text()
    assert metrics.count("\n") == 2 and "env/reward" in metrics
    resume = ["rlhf", "grpo", "--resume", "learned", "--quiet"]
    code, said = playout_(*resume)
    assert code == 2 and said[-1].startswith("error: ") and "--trust my_guess" in said[-1]
    code, said = playout_(*resume, "--trust", "my_guess")
    assert code == 0, said


@pytest.mark.parametrize(
    ("name", "message"),
    [("my_guess:Guss", "did you mean Guess"), ("my_gess:Guess", "my_gess")],
)
def test_a_name_that_is_not_there_is_one_line(own, capsys, name, message):
    words = ["rlhf", "grpo", "--base", str(BASE), "--env", name, "--run", "learned", *FEW]
    assert main(words) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (own / "learned").exists()


def test_the_example_has_less_than_forty_lines():
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 40
