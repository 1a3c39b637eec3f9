"""Jobs of torchrun that cannot be: one line, a code that is not 0, nobody left, nothing touched."""

import json
import os

import forked
import pytest
from launch import environment, errors, torchrun
from playout.agents.runs.checkpoint.durable_io import hash_file
from playout.cli import main

# A command of playout, which the second rank is given with other words or runs with other code.
RANK = """
import os, sys
from pathlib import Path
from playout.agents.runs.ranks import alike

Path(sys.argv[1], os.environ["RANK"]).write_text(str(os.getpid()))
if os.environ["RANK"] == "1":
    versions = alike.versions
    if os.environ["DIFFERS"] == "version":
        alike.versions = lambda: {**versions(), "numpy": "1.0"}
    elif os.environ["DIFFERS"] == "code":
        alike.code_digest = lambda: "another"
    else:
        sys.argv += os.environ["DIFFERS"].split()

from playout.cli import main

sys.exit(main(sys.argv[2:]))
"""
PPO = ["ppo", "CartPole-v1", "--num-steps", "8", "--minibatch-size", "8", "--eval-episodes", "2"]
PPO += ["--no-stop", "--quiet"]
# what is told: how the second rank differs, the words of both
CASES = {
    "rank 0 has nothing more, rank 1 has --total-timesteps 98": (
        "--total-timesteps 98",
        ["ppo", "--resume", "RUNS/ppo", "--total-timesteps", "99"],
    ),
    "rank 0 has nothing more, rank 1 has --seed 7": ("--seed 7", [*PPO, "--run", "RUNS/new"]),
    "numpy '1.0'": ("version", ["ppo", "--resume", "RUNS/ppo"]),
    "ranks differ in the code of playout": ("code", ["ppo", "--resume", "RUNS/ppo"]),
    "2 ranks but only 1 environment:": ("", ["ppo", "--resume", "RUNS/narrow"]),
    "2 ranks but only 1 rows a step": ("", ["rlhf", "pretrain", "--resume", "RUNS/text"]),
}


def state_of(folder):
    """The digest of every file in the folder, but of the locks, which name who holds them."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path): hash_file(path) for path in paths}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of one process: two environments, a single one, a single row of text."""
    folder = tmp_path_factory.mktemp("runs")
    for name, envs in (("ppo", "2"), ("narrow", "1")):
        words = [*PPO, "--num-envs", envs, "--total-timesteps", "16", "--run", str(folder / name)]
        assert main(words) == 0
    text = folder / "text.jsonl"
    text.write_text(json.dumps({"text": "one two three " * 40}) + "\n")
    words = ["rlhf", "pretrain", "--text", text, "--rows", 1, "--steps", 1, "--length", 8]
    words += ["--hidden-size", 16, "--heads", 2, "--layers", 1, "--vocab-size", 290, "--quiet"]
    words += ["--size", "tiny", "--device", "cpu", "--dtype", "float32", "--run", folder / "text"]
    assert main([*map(str, words)]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("told", CASES)
def test_a_job_of_torchrun_that_cannot_be_leaves_one_line_and_nothing_else(told, runs, tmp_path):
    (tmp_path / "rank.py").write_text(RANK)
    differs, words = CASES[told]
    words = [word.replace("RUNS", str(runs)) for word in words]
    before = state_of(runs)
    command = torchrun(2, "--", "rank.py", tmp_path, *words)[1:]
    code, _, err = forked.run(*command, folder=tmp_path, variables=environment(DIFFERS=differs))
    assert code != 0
    assert len(errors(err)) == 1, err
    (line,) = errors(err)
    assert told in line
    for rank in "01":
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / rank).read_text()), 0)
    assert state_of(runs) == before
