"""What a command cannot do, or would take no notice of, is said before any work."""

import shutil
from pathlib import Path

import playout
import pytest
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.errors import CheckpointError, ConfigError, DataError
from playout.rlhf.commands.kept_rows import KeptRows

RUNS = Path(__file__).parents[2] / "fixtures" / "runs"
LEFT = RUNS / "pretrain"


@pytest.mark.parametrize(
    "words",
    [
        ["generate", "nowhere", "--prompt", "the"],
        ["score", "nowhere", "--texts", "texts.txt"],
        ["perplexity", "nowhere", "--texts", "texts.txt"],
        ["judge", "nowhere"],
    ],
)
def test_a_result_that_cannot_be_written_is_refused_before_the_work(words, tmp_path, capsys):
    assert main(["rlhf", *words, "--json", f"{tmp_path}/no/out.json"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: cannot write {tmp_path}/no/out.json: ")


def test_rows_and_measures_from_python_are_refused_as_early(tmp_path):
    with pytest.raises(DataError, match="cannot write"):
        KeptRows(tmp_path / "no" / "out.json", 3, "texts scored")
    run = RunDir.create(tmp_path / "run", kind="rlhf.reward", config={}, seed=0)
    with pytest.raises(DataError, match="cannot write"):
        playout.evaluate(run, json=tmp_path / "no" / "out.json")


def test_a_count_of_prompts_that_means_nothing_is_named(capsys):
    assert main(["rlhf", "judge", str(LEFT), "--num-prompts", "-5"]) == 2
    assert capsys.readouterr().err == "error: --num-prompts must be at least 1, not -5\n"


def test_a_checkpoint_of_what_its_stage_has_left_is_not_to_be_chosen(tmp_path, capsys):
    for which in (3, "3"):
        with pytest.raises(
            ConfigError, match=rf"--which 3 does nothing for {LEFT}, .*leave it out"
        ):
            playout.load(LEFT, which)
    assert playout.load(LEFT, "latest").act(["the film"])
    for words in (["eval", str(LEFT)], ["export", str(LEFT), "--out", f"{tmp_path}/out"]):
        assert main([*words, "--which", "3"]) == 2
        assert "--which 3 does nothing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words", ["--episodes 3", "--seed 1", "--stochastic", "--simulations 0", "--opponents random"]
)
def test_options_that_a_stages_last_measures_do_not_heed_are_refused(words, capsys):
    assert main(["eval", str(LEFT)]) == 0
    capsys.readouterr()
    assert main(["eval", str(LEFT), *words.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {words.split()[0]} does nothing for rlhf.pretrain")


def test_a_damaged_table_is_named(tmp_path):
    shutil.copytree(LEFT, tmp_path / "run")
    (tmp_path / "run" / "table.json").write_text('{"accuracy": ')
    with pytest.raises(CheckpointError, match=r"run/table\.json is not valid JSON"):
        playout.evaluate(tmp_path / "run")


@pytest.mark.parametrize(("stage", "kept"), [("sft", "sft"), ("reward", "sft"), ("classify", "c")])
def test_a_run_goes_on_from_python_without_naming_its_data_again(
    stage, kept, tmp_path, monkeypatch
):
    module = __import__(f"playout.rlhf.commands.learn.{stage}", fromlist=["train"])
    (tmp_path / "rows.jsonl").write_text("{}")
    config = {"data": str(tmp_path / "rows.jsonl"), "truncate": "right"}
    RunDir.create(tmp_path / kept, kind=f"rlhf.{stage}", config=config, seed=0)
    monkeypatch.setattr(module, "train", lambda command, rows=None: command)
    command = getattr(playout, stage)(resume=tmp_path / kept)
    assert command.data == config["data"]
    with pytest.raises(ConfigError, match="no setting 'stepz'; did you mean steps"):
        getattr(playout, stage)(resume=tmp_path / kept, stepz=5)
