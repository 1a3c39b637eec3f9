"""A language run of two ranks, from the command line: resumed to the same bytes, cut or not."""

import json
import shutil
from pathlib import Path

import pytest
from launch import finish, playout, start
from playout.agents.runs import ranks
from playout.agents.runs.directory import RunDir
from playout.agents.runs.metrics import read_rows
from playout.cli import main
from playout.errors import ConfigError
from playout.rlhf.commands.learn.grpo import Command, train
from playout.rlhf.data import synthetic
from safetensors.torch import load_file

SIZE = ("--size", "tiny", "--steps", 6, "--rows", 5, "--length", 16, "--layers", 1)
SHAPE = ("--hidden-size", 32, "--heads", 2, "--kv-heads", 2, "--vocab-size", 290)
MACHINE = ("--device", "cpu", "--dtype", "float32")


@pytest.mark.slow
def test_a_cut_run_resumes_to_the_same_bytes_and_goes_on_in_one_process(tmp_path):
    text = "".join(json.dumps({"text": one}) + "\n" for one in synthetic.reviews(60))
    (tmp_path / "t.jsonl").write_text(text)
    run = tmp_path / "run"
    words = ("rlhf", "pretrain", "--text", tmp_path / "t.jsonl", *SIZE, *SHAPE, "--run", run)
    code, out, err = finish(start(2, "-m", "--", "playout", *words, "--shard", *MACHINE))
    assert code == 0, err
    assert out.count("\nrun ") == 1 and not (run / "checkpoints" / "000006" / "rank-0001").exists()
    model = run / "model" / "model.safetensors"
    whole = model.read_bytes()
    shutil.copytree(run, tmp_path / "uncut")
    again = ("rlhf", "pretrain", "--from-step", 4, *MACHINE, "--resume")
    code, _, err = playout(2, *again, run, "--shard")
    assert code == 0, err
    assert model.read_bytes() == whole
    assert main([*map(str, [*again, tmp_path / "uncut", "--quiet"])]) == 0
    wanted, found = load_file(model), load_file(tmp_path / "uncut" / "model" / "model.safetensors")
    for name, tensor in wanted.items():
        assert (tensor - found[name]).abs().max() < 1e-5, name


@pytest.mark.parametrize("stage", ["pretrain", "grpo", "rlhf"])
def test_one_process_has_nothing_to_cut_a_model_over(tmp_path, capsys, stage):
    words = ("rlhf", stage, "--shard", "--size", "tiny", "--run", tmp_path / "run")
    assert main([*map(str, words)]) == 2
    assert "torchrun" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", [("optimizer", "muon"), ("weights", "nf4")])
def test_what_needs_whole_weights_is_refused_before_anything_is_made(monkeypatch, tmp_path, option):
    monkeypatch.setattr(ranks, "world", lambda: 2)
    run = tmp_path / "run"
    command = Command(base="anything", shard=True, size="tiny", run=run, **{option[0]: option[1]})
    with pytest.raises(ConfigError, match=f"--shard does not go together with --{option[0]}"):
        train(command)
    assert not run.exists()


@pytest.mark.slow
def test_two_ranks_plan_as_many_rounds_for_the_same_minutes(tmp_path):
    base = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"
    env = ("--env", "game:tic_tac_toe", "--env-options", "rules=false,own=true")
    few = (*env, "--batch", 8, "--max-new-tokens", 4, "--group", 2)
    words = ("rlhf", "grpo", "--base", base, *few, "--minutes", 0.03, "--run", tmp_path / "run")
    code, out, err = finish(start(2, "-m", "--", "playout", *words, *MACHINE))
    assert code == 0, err
    run = RunDir.open(tmp_path / "run")
    updates = run.config["updates"]
    assert updates >= 1 and [*read_rows(run.path)][-1]["update"] == updates
    assert out.count("as many as fit into") == 1
