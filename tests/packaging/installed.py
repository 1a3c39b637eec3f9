"""The installed package in use: commands, presets, examples and a short run of each family.

check.py runs this file with the Python of an environment that has playout as a wheel, from an empty
folder; it is no test of the tree, whose tests have other names. Everything goes through the
`playout` program and through files that a newcomer would copy.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import playout
import pytest

pytestmark = pytest.mark.timeout(900)  # a busy machine may be many times slower
TREE = Path(os.environ["PLAYOUT_TREE"])
PACKAGE = Path(playout.__file__).parent
EXAMPLES = sorted((TREE / "examples").glob("*.py"))
# Those that learn for minutes are called with less to do.
SHORTER = {"language_reward": "main(pretrain_steps=20, updates=2)"}

SHORT_LANGUAGE = """
import dataclasses, sys
from playout.cli import main
from playout.rlhf.stages import sizes
tiny = sizes.RECIPES["tiny"]
fewer = {f.name: 4 for f in dataclasses.fields(tiny) if f.name.endswith("_steps")}
sizes.RECIPES["tiny"] = dataclasses.replace(tiny, vocab_size=300, length=32, **fewer)
raise SystemExit(main(sys.argv[1:]))
"""


def run(words, folder, **environment):
    """Run a program in a folder; its output. A failure shows its last lines."""
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-1500:]}{done.stderr[-3000:]}"
    return done.stdout


def commands(folder, *lines):
    """Run lines of `playout` one after another; the output of the last."""
    program = shutil.which("playout")
    assert program and Path(program).parent == Path(sys.executable).parent
    for line in lines:
        shown = run([program, *line.split()], folder)
    return shown


def test_playout_is_the_installed_one_and_brings_no_tests():
    assert Path(sys.prefix) in PACKAGE.parents and TREE not in PACKAGE.parents
    assert not any((PACKAGE / name).exists() for name in ("tests", "examples", "setup.py"))
    assert (Path(playout.envs.get_include()) / "playout_game.h").is_file()


@pytest.mark.parametrize("line", ["", "--help", "--version", "list", "rlhf --help", "bench list"])
def test_commands_that_only_show_something(line, tmp_path):
    assert commands(tmp_path, line)


def test_every_preset_of_the_tree_is_there_and_fits_its_command(tmp_path):
    from playout.agents.commands.ppo import Command
    from playout.agents.ppo.config import resolve

    shown = " ".join(commands(tmp_path, "list presets").split())
    for path in (TREE / "agents" / "presets").glob("*.toml"):
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        assert (PACKAGE / "agents" / "presets" / path.name).read_bytes() == path.read_bytes()
        assert path.stem in shown
        assert all(subject in shown for subject in tables if subject != "default")
        if path.stem == "ppo":
            assert [resolve(Command, subject).env for subject in tables] == list(tables)


def test_an_environment_is_learned_evaluated_and_exported(tmp_path):
    commands(
        tmp_path,
        "ppo CartPole-v1 --total-timesteps 4096 --run runs/pole --quiet",
        "eval runs/pole --episodes 5",
        "export runs/pole --format onnx --out pole.onnx",
        "ppo --resume runs/pole --total-timesteps 8192 --quiet",
    )
    assert "sound" in commands(tmp_path, "inspect runs/pole")
    assert (tmp_path / "pole.onnx").stat().st_size


def test_a_game_is_learned_played_analysed_and_exported(tmp_path):
    shown = commands(
        tmp_path,
        "alphazero tic_tac_toe --updates 2 --size tiny --run runs/three --quiet",
        "inspect runs/three",
        "export runs/three --out three.safetensors",
        "eval runs/three",
        "analyse runs/three --moves 5",
        "match runs/three random perfect --games 4 --quiet",
    )
    assert "perfect" in shown and (tmp_path / "three.safetensors").stat().st_size


def test_games_are_learned_by_ppo_against_a_pool(tmp_path):
    commands(
        tmp_path,
        "ppo tic_tac_toe --self-play --total-timesteps 8192 --run runs/pool --quiet",
        "eval runs/pool",
    )


def test_language_goes_through_all_stages(tmp_path):
    words = ["rlhf", "all", "--size", "tiny", "--data", "synthetic", "--run", "runs/text"]
    run([sys.executable, "-c", SHORT_LANGUAGE, *words, "--quiet"], tmp_path)
    commands(
        tmp_path,
        "inspect runs/text/sft",
        "export runs/text/sft --out exported",
    )
    assert (tmp_path / "exported" / "config.json").exists()
    assert list((tmp_path / "runs" / "text").glob("report*"))


def test_a_benchmark_runs_quickly(tmp_path):
    assert "environment steps/s" in commands(tmp_path, "bench games --quick")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_that_was_copied_runs(path, tmp_path):
    shutil.copy(path, tmp_path)
    if path.stem in SHORTER:
        code = f"import {path.stem}; {path.stem}.{SHORTER[path.stem]}"
        run([sys.executable, "-c", code], tmp_path)
    else:
        run([sys.executable, path.name], tmp_path)


def test_an_environment_of_ones_own_is_learned_from_its_file(tmp_path):
    shutil.copy(TREE / "examples" / "own_environment.py", tmp_path)
    commands(
        tmp_path,
        "ppo own_environment:Lander1D-v0 --total-timesteps 2048 --run runs/lander --quiet",
    )
