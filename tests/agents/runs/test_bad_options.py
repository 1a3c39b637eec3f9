"""Options that cannot be: one line, exit code 2, and no folder is left, whatever the command."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import playout
import pytest
from playout.agents.runs.options import machine_options
from playout.cli import main, parse
from playout.errors import ConfigError, PlayoutError

OLD_RUNS = Path(__file__).parents[2] / "fixtures/runs"
KINDS = {
    "playout ppo": "cartpole",
    "playout alphazero": "tic_tac_toe",
    "playout rlhf pretrain": "pretrain",
    "playout rlhf sft": "sft",
}
TRAINING = {
    "ppo": ["ppo", "CartPole-v1"],
    "alphazero": ["alphazero", "tic_tac_toe"],
    "pretrain": ["rlhf", "pretrain", "--data", "synthetic"],
    "sft": ["rlhf", "sft", "--data", "synthetic", "--base", "pretrain"],
    "reward": ["rlhf", "reward", "--data", "synthetic", "--base", "pretrain"],
    "all": ["rlhf", "all", "--data", "synthetic"],
}
USING = {
    "eval": ["eval", "tic_tac_toe"],
    "eval of a language stage": ["eval", "sft"],
    "play": ["play", "tic_tac_toe", "--opponent", "random"],
    "match": ["match", "tic_tac_toe", "random"],
    "analyse": ["analyse", "tic_tac_toe", "--moves", ""],
    "engine": ["engine", "tic_tac_toe"],
    "export": ["export", "tic_tac_toe", "--out", "net.onnx"],
}
WRONG = {
    "--threads": ("-1", "must not be negative, not -1"),
    "--seed": ("-1", "must be from 0 to 2^63 - 1, not -1"),
    "--device": ("nowhere", "unknown device 'nowhere'"),
    "--dtype": ("float3", "dtype 'float3' is unknown"),
    "--save-every": ("-1", "must be above 0 seconds, not -1.0"),
    "--episodes": ("0", "must be at least 1, not 0"),
    "--games": ("0", "must be at least 1, not 0"),
    "--updates": ("0", "at least one update"),
}
EVERY = ("--threads", "--device", "--dtype")
MORE = {
    "ppo": ("--seed", "--save-every"),
    "alphazero": ("--seed", "--updates"),
    "eval": ("--seed", "--episodes"),
    "play": ("--seed", "--episodes"),
    "match": ("--seed", "--games"),
    "engine": ("--seed",),
    "analyse": (),
    "export": (),
    "eval of a language stage": ("--episodes",),
}
CASES = [
    (name, option)
    for name in (*TRAINING, *USING)
    for option in (*EVERY, *MORE.get(name, ("--seed",)))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("bad")
    for name in KINDS.values():
        shutil.copytree(OLD_RUNS / name, path / name)
    return path


def test_more_threads_than_any_machine_has_are_refused():
    machine_options(device="auto", dtype="auto", threads=1024)
    with pytest.raises(ConfigError, match=r"^--threads must be at most 1024, not 9999999$"):
        machine_options(device="auto", dtype="auto", threads=9_999_999)


@pytest.mark.parametrize("function", [playout.load, playout.evaluate], ids=["load", "evaluate"])
def test_what_is_no_run_is_refused_in_one_line(function):
    for wrong in (3, None, ["runs/demo"]):
        with pytest.raises(ConfigError, match=r"^a run is the path of its folder or .*, not .+$"):
            function(wrong)


@pytest.mark.parametrize(("name", "option"), CASES)
def test_an_option_that_cannot_be_is_refused_in_one_line(folder, monkeypatch, capsys, name, option):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    value, message = WRONG[option]
    start = ["--run", "r"] if name in TRAINING else []
    assert main([*TRAINING.get(name, ()), *USING.get(name, ()), *start, option, value]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ") and message in shown.err and shown.err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("command", KINDS)
def test_a_run_of_another_kind_is_refused_with_the_command_that_continues_it(
    folder, monkeypatch, capsys, command
):
    monkeypatch.chdir(folder)
    for other, run in KINDS.items():
        if other != command:
            assert main([*command.split()[1:], "--resume", run]) == 2
            assert capsys.readouterr().err.endswith(f"continue it with: {other} --resume {run}\n")
    train = {"playout ppo": playout.ppo, "playout alphazero": playout.alphazero}.get(command)
    if train is not None:
        for run in ("sft", *(run for other, run in KINDS.items() if other != command)):
            with pytest.raises(PlayoutError, match="continue it with: "):
                train(resume=run)


@dataclass(frozen=True, kw_only=True)
class Choosing:
    """Options of which one is chosen, or none."""

    format: Literal["onnx", "hf", "a", "z"] | None = None
    shared: bool | None = None
    size: int | None = None


@pytest.mark.parametrize(
    ("words", "choices"),
    [("--format foo", ("onnx", "hf", "a", "z")), ("--shared None", ("True", "False"))],
)
def test_choices_stand_in_their_order_and_none_is_not_among_them(capsys, words, choices):
    with pytest.raises(SystemExit):
        parse(Choosing, words.split(), "playout choose")
    said = " ".join(capsys.readouterr().err.replace("│", "").split())
    assert f"Expected one of {choices}." in said


def test_a_choice_that_may_be_left_out_is_read_and_is_none_if_it_was():
    assert parse(Choosing, [], "playout choose") == Choosing()
    words = ["--format", "z", "--shared", "False", "--size", "3"]
    assert parse(Choosing, words, "playout choose") == Choosing(format="z", shared=False, size=3)
