"""`playout eval` says which checkpoint it measures, and keeps what it has found when stopped."""

import importlib
import json
import signal
from pathlib import Path

import pytest
from playout import cli
from playout.agents.rating import evaluation
from playout.agents.runs.checkpoint.chosen import choose_checkpoint
from playout.agents.runs.directory import RunDir
from playout.agents.runs.kinds import EvalOptions
from playout.agents.runs.signals import Interrupted

RUNS = Path(__file__).parents[2] / "fixtures" / "runs"
SUITES = importlib.import_module("playout.rlhf.evaluation.suites.evaluate")


@pytest.fixture
def run(tmp_path):
    """Three checkpoints, of which the second is the best and the last is not rated."""
    made = RunDir.create(tmp_path / "run", kind="toy", config={}, seed=0)
    for step, metric in ((1, 0.5), (2, 0.9), (3, None)):
        made.save(step, {"n": step}, metric=metric)
    return made


@pytest.mark.parametrize(
    ("which", "step", "told"),
    [
        ("best", 2, "checkpoint 2 (best, not the latest)"),
        ("latest", 3, "checkpoint 3 (latest)"),
        ("1", 1, "checkpoint 1 (not the latest)"),
    ],
)
def test_a_checkpoint_is_told_by_number_and_place(run, which, step, told):
    chosen, options = choose_checkpoint(run, EvalOptions(which=which))
    assert str(chosen) == told and options.which == str(step)
    data = chosen.as_data()
    assert (data["step"], data["best"], data["latest"]) == (step, which == "best", step == 3)
    run.save(4, {"n": 4}, metric=1.0, keep=4)  # training goes on, and what was told is loaded
    assert run.load(options.which)[0] == step


def test_a_run_whose_best_is_its_latest_says_so_and_one_without_any_says_nothing(run, tmp_path):
    run.save(4, {"n": 4}, metric=1.0)
    assert str(choose_checkpoint(run, EvalOptions())[0]) == "checkpoint 4 (best, latest)"
    empty = RunDir.create(tmp_path / "empty", kind="toy", config={}, seed=0)
    assert choose_checkpoint(empty, EvalOptions()) == (None, EvalOptions())


@pytest.mark.parametrize("name", ["tic_tac_toe", "cartpole"])
def test_the_first_line_and_the_json_name_the_checkpoint(name, tmp_path, capsys):
    words = ["--episodes", "2", "--json", str(tmp_path / "found.json")]
    words += ["--opponents", "random", "--simulations", "0"] if name == "tic_tac_toe" else []
    assert cli.main(["eval", str(RUNS / name), *words]) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert first == f"{RUNS / name}, checkpoint 2 (best, latest)"
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["checkpoint"]["step"] == 2 and found["checkpoint"]["best"]


def stopped(words, out):
    """What a command that a signal ends has written."""
    with pytest.raises(Interrupted) as caught:
        cli.main([*words, "--json", str(out)])
    assert caught.value.code == 130
    return json.loads(out.read_text()) if out.exists() else None


def then_stop(function):
    """The same function, after whose first call a person presses Ctrl-C."""

    calls = []

    def call(*args, **options):
        found = function(*args, **options)
        calls.append(found)
        if len(calls) == 1:
            signal.raise_signal(signal.SIGINT)
        return found

    return call


def test_ctrl_c_leaves_the_games_that_were_over(tmp_path, monkeypatch, capsys):
    inner = evaluation.round_robin

    def round_robin(*args, on_games, **options):
        return inner(*args, on_games=then_stop(on_games), **options)

    monkeypatch.setattr(evaluation, "round_robin", round_robin)
    words = ["eval", str(RUNS / "tic_tac_toe"), "--simulations", "0", "--episodes", "6"]
    found = stopped([*words, "--opponents", "random", "greedy"], tmp_path / "found.json")
    assert found["partial"] is True and found["positions"] and found["checkpoint"]["step"] == 2
    (match,) = found["matches"]
    assert match["opponent"] == "random" == found["anchor"]
    assert 0 < match["games"] == match["wins"] + match["draws"] + match["losses"] <= 6
    captured = capsys.readouterr()
    assert f"these {match['games']} games were over" in captured.err and "partial" in captured.err
    assert "won / drawn / lost" in captured.out and "Ratings, random = 0 Elo" in captured.out


def test_ctrl_c_leaves_the_positions_that_one_way_of_play_was_judged_on(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(evaluation, "note_found", then_stop(evaluation.note_found))
    found = stopped(["eval", str(RUNS / "tic_tac_toe")], tmp_path / "found.json")
    assert [one["by"] for one in found["positions"]] == ["policy"] and found["partial"]
    assert found["game"] == "tic_tac_toe" and "matches" not in found
    assert "keeps the outcome" in capsys.readouterr().out


def test_ctrl_c_leaves_the_episodes_that_were_over(tmp_path, monkeypatch, capsys):
    ppo = importlib.import_module("playout.agents.ppo.run")
    inner = ppo.evaluate_policy

    def evaluate_policy(*args, on_episodes, **options):
        return inner(*args, on_episodes=then_stop(on_episodes), **options)

    monkeypatch.setattr(ppo, "evaluate_policy", evaluate_policy)
    words = ["eval", str(RUNS / "cartpole"), "--episodes", "20"]
    found = stopped(words, tmp_path / "found.json")
    assert found["partial"] and 0 < found["episodes"] < 20 and found["mean_reward"] > 0
    captured = capsys.readouterr()
    assert f"{found['episodes']} episodes were over" in captured.err
    assert "CartPole-v1, deterministic actions" in captured.out


def test_ctrl_c_leaves_the_suites_that_were_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(SUITES, "check_asking", lambda *_: None)
    inner, calls = SUITES._asked, []

    def asked(*args):
        calls.append(args)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return inner(*args)

    monkeypatch.setattr(SUITES, "_asked", asked)
    words = ["eval", str(RUNS / "sft"), "--suite", "pairs", "bytes", "--episodes", "3"]
    found = stopped(words, tmp_path / "found.json")
    assert list(found["suites"]) == ["pairs"] and found["partial"]
    assert found["checkpoint"]["step"] == 6 and "pairs" in capsys.readouterr().out


def test_ctrl_c_before_anything_is_complete_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        evaluation, "judge_positions", lambda player: signal.raise_signal(signal.SIGINT)
    )
    assert stopped(["eval", str(RUNS / "tic_tac_toe")], tmp_path / "found.json") is None
    assert list(tmp_path.iterdir()) == []
    assert "nothing was measured yet" in capsys.readouterr().err
