"""`playout inspect`: what checkpoints are rated by, and what its exit codes stand for."""

import json

import pytest
from playout import cli
from playout.agents.runs.directory import RunDir
from playout.agents.runs.loop import train
from toy_trainer import ToyTrainer


@pytest.fixture
def run(memory_path):
    made = RunDir.create(memory_path / "r", kind="toy", config={}, seed=0)
    train(ToyTrainer(4), made, eval_every=2, console=False)
    return made


def header(out):
    """The columns of the checkpoints."""
    lines = out.splitlines()
    return lines[next(i for i, line in enumerate(lines) if line.startswith("Checkpoints")) + 2]


def test_the_column_of_ratings_is_named_by_what_they_are(run, capsys):
    assert cli.main(["inspect", str(run.path)]) == 0
    columns = header(capsys.readouterr().out).split()
    assert columns == ["number", "progress", "time", "eval/score", "size", "files"]
    assert cli.main(["inspect", str(run.path), "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)["checkpoints"]
    rated = {one["rated_by"] for one in found if one["metric"] is not None}
    assert rated == {"eval/score"}


def test_checkpoints_of_earlier_versions_are_shown_without_that_name(run, capsys):
    run.save(5, {"n": 5}, metric=2.0, keep=1)  # the best: none of the others stays
    assert cli.main(["inspect", str(run.path)]) == 0
    assert header(capsys.readouterr().out).split()[3] == "metric"


def test_help_says_what_the_exit_codes_are(capsys):
    with pytest.raises(SystemExit):
        cli.main(["inspect", "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "1: something in the run is damaged" in said and "2: there is no run" in said
