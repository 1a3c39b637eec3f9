"""The pipeline end to end on made-up text: folders, report, scores, stopping and going on."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from playout import load
from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import MachineOptions
from playout.cli import main
from playout.errors import ConfigError
from playout.rlhf.commands.learn.rlhf import Command as RLHFCommand
from playout.rlhf.commands.policy_stage import online_config
from playout.rlhf.data import datasets
from playout.rlhf.data.records import read_preferences
from playout.rlhf.evaluation.report import closing
from playout.rlhf.online.config import RLHFConfig
from playout.rlhf.stages import pipeline as pipeline_module
from playout.rlhf.stages import sizes
from playout.rlhf.stages.pipeline import STAGES, Pipeline
from small_language import MICRO


@pytest.fixture(scope="module")
def finished():
    """A whole run of the smallest size, in memory, stopped once on the way."""
    patch = pytest.MonkeyPatch()
    patch.setitem(sizes.RECIPES, "tiny", MICRO)
    patch.setattr(datasets, "NUM_SYNTHETIC", 300)
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    place = Path(tempfile.mkdtemp(prefix="playout-test-", dir=base))
    folder = place / "run"
    command = ["rlhf", "all", "--size", "tiny", "--data", "synthetic", "--run", str(folder)]
    command += ["--dtype", "float32", "--quiet"]
    train = Pipeline._train
    begun = []

    def stopping(self, stage):
        begun.append(stage)
        if stage == "reward" and begun.count("reward") == 1:
            raise KeyboardInterrupt
        train(self, stage)

    patch.setattr(Pipeline, "_train", stopping)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert main(command) == 130
    assert main(command) == 0
    torch.set_num_threads(threads)
    yield folder, begun, command
    patch.undo()
    shutil.rmtree(place, ignore_errors=True)


@pytest.mark.slow
def test_every_stage_has_its_folder_and_none_is_made_twice(finished):
    folder, begun, command = finished
    assert all((folder / stage).is_dir() for stage in STAGES)
    assert begun == [
        *("pretrain", "sft", "classify", "reward"),
        *("reward", "rlhf", "dpo", "best-of-n"),
    ]
    assert RunDir.open(folder).record["finished"]
    begun.clear()
    assert main(command) == 0
    assert main(["rlhf", "all", "--resume", str(folder), "--quiet"]) == 0
    assert begun == []


def test_the_report_is_one_page_with_plots_tables_and_samples(finished):
    folder, _, _ = finished
    page = (folder / "report" / "index.html").read_text()
    for word in ("Made-up text", "Win rates", "Best of n", "Samples", "Supervised baselines"):
        assert word in page
    assert page.count("data:image/png;base64,") >= 7
    # Self-contained: it loads nothing from anywhere.
    assert "http" not in page and "<script" not in page
    for name in ("reward_kl", "judge_kl", "judge_reward", "length", "entropy"):
        assert (folder / "report" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    found = json.loads((folder / "report" / "report.json").read_text())
    assert [row["update"] for row in found["trained"]["rlhf"]] == [0, 1, 2]
    assert set(found["judge"]) == {"rlhf", "dpo"}
    assert read_preferences(folder / "dpo" / "pairs.jsonl")
    assert "Pretraining " in page and "answers that end" in page and "likeliest" in page
    mean, largest = found["sampling_gap"]["rlhf"]
    assert set(found["sampling_gap"]) == {"rlhf"} and 0 <= mean <= largest < 1e-3
    assert "0 means that what was learned from is what was sampled" in page
    last = found["trained"]["rlhf"][-1]
    assert 0 < last["distinct_words"] <= 1 and 0 <= last["greedy_repeated"] <= 1
    said = "\n".join(closing(folder))
    assert "What it came to" in said and "sampled" in said and "likeliest" in said


@pytest.mark.slow
def test_the_command_ends_with_what_it_came_to_a_sample_and_what_comes_next(finished, capsys):
    folder, _, command = finished
    assert main([word for word in command if word != "--quiet"]) == 0
    printed = capsys.readouterr().out
    told = "\n".join(closing(folder))
    assert "A held-out prompt, not picked: " in told and printed.count(told) == 1
    last = printed.partition(told)[2].strip()
    assert last == f"run {folder}: playout rlhf chat|generate|judge {folder}"
    assert main(command) == 0 and not capsys.readouterr().out


def test_texts_are_scored_line_by_line(finished, tmp_path, capsys):
    folder, _, _ = finished
    texts, out = tmp_path / "texts.txt", tmp_path / "scores.json"
    texts.write_text("a wonderful film .\n\na dull film .\r\n")
    for run in (folder, folder / "reward", folder / "reward" / "model"):
        assert main(["rlhf", "score", str(run), "--texts", str(texts), "--json", str(out)]) == 0
        rows = json.loads(out.read_text())
        assert [row["text"] for row in rows] == ["a wonderful film .", "", "a dull film ."]
        assert all(isinstance(row["score"], float) for row in rows)
    texts.write_bytes(b"good\n\xff\xfe\n")
    assert main(["rlhf", "score", str(folder), "--texts", str(texts)]) == 2
    assert "not UTF-8" in capsys.readouterr().err
    texts.write_text("\n")
    assert main(["rlhf", "score", str(folder), "--texts", str(texts)]) == 2
    assert "is empty" in capsys.readouterr().err
    assert main(["rlhf", "score", str(tmp_path / "none"), "--texts", str(texts)]) == 2


def test_runs_load_are_judged_and_are_exported(finished, tmp_path, capsys, monkeypatch):
    folder, _, _ = finished
    player = load(folder)
    first = player.act(["the film", "a"])
    assert len(first) == 2 and first == player.act(["the film", "a"])
    assert len(load(folder / "reward").act(["good", "bad"])) == 2
    assert load(folder / "dpo").act(["a"])
    out = tmp_path / "judged.json"
    arguments = ["--num-prompts", "4", "--json", str(out)]
    assert main(["rlhf", "judge", str(folder), *arguments]) == 0
    assert json.loads(out.read_text())["judge"]["prompts"] == 4
    lines = iter(["1", "q"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    votes = ["--human", "--votes", str(tmp_path / "votes.jsonl"), "--num-prompts", "6"]
    assert main(["rlhf", "judge", str(folder), *votes]) == 0
    assert "of 1 " in capsys.readouterr().out
    assert len(read_preferences(tmp_path / "votes.jsonl")) == 1
    assert main(["eval", str(folder / "rlhf"), "--episodes", "4"]) == 0
    assert main(["eval", str(folder / "reward")]) == 0
    assert "accuracy" in capsys.readouterr().out
    target = tmp_path / "exported"
    assert main(["export", str(folder), "--out", str(target)]) == 0
    assert (target / "model.safetensors").exists() and (target / "tokenizer.json").exists()
    assert main(["export", str(folder), "--out", str(target)]) == 2
    capsys.readouterr()
    assert (target / "model.safetensors").stat().st_mode & 0o044  # others may read an export
    for place in (target / "config.json", "/proc/x"):
        assert main(["export", str(folder), "--out", str(place)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["rlhf", "report", str(folder / "rlhf")]) == 2


def test_grpo_and_a_python_reward_run_on_the_same_policy(finished, tmp_path):
    from playout.rlhf.commands.learn.grpo import grpo
    from playout.rlhf.commands.learn.rlhf import rlhf

    folder, _, _ = finished
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "the film"}\n{"prompt": "i"}\n')
    calls = []

    def reward(texts):
        calls.append(len(texts))
        return [float(len(text)) for text in texts]

    common = {"size": "tiny", "dtype": "float32", "quiet": True, "prompts": str(prompts)}
    base = str(folder / "sft")
    done = grpo(base, reward_fn=reward, run=tmp_path / "grpo", batch=16, updates=1, **common)
    assert done.record["finished"] and calls
    tuned = rlhf(
        base, reward_fn=reward, run=tmp_path / "ppo", batch=8, updates=1, lora_rank=2, **common
    )
    assert load(tuned).act(["a"])


@pytest.mark.parametrize("size", sizes.RECIPES)
def test_what_a_command_leaves_to_the_size_is_the_sizes(size):
    """Large says 128 responses a round and gets them; what is typed goes before."""
    stage = SimpleNamespace(evaluator=SimpleNamespace(max_new_tokens=7))
    recipe = sizes.RECIPES[size]
    config = online_config(RLHFConfig, RLHFCommand(size=size), stage, recipe.rlhf_steps)
    assert (config.batch, config.updates) == (recipe.batch, recipe.rlhf_steps)
    assert (config.max_new_tokens, config.epochs) == (7, RLHFConfig().epochs)
    given = RLHFCommand(size=size, batch=16, updates=3, kl_coef=0.5)
    config = online_config(RLHFConfig, given, stage, recipe.rlhf_steps)
    assert (config.batch, config.updates, config.kl_coef) == (16, 3, 0.5)
    with pytest.raises(ConfigError, match="--kl-coef must be 0 or more"):
        online_config(RLHFConfig, RLHFCommand(kl_coef=-1.0), stage, 3)


def test_what_a_pipeline_cannot_do_is_said_in_one_line(finished, tmp_path, capsys):
    folder, _, _ = finished
    run = RunDir.open(folder)
    with pytest.raises(ConfigError, match="cannot be skipped"):
        Pipeline(run, size="tiny", data="synthetic", machine=MachineOptions(), skip=("reward",))
    lines = (
        ["all", "--size", "huge", "--run", str(tmp_path / "a")],
        ["all", "--size", "small", "--run", str(folder)],
        ["rlhf", "--base", str(folder / "sft"), "--run", str(tmp_path / "b")],
        ["rlhf", "--base", str(tmp_path), "--reward", "x:y", "--run", str(tmp_path / "c")],
        ["reward", "--run", str(tmp_path / "d")],
        ["grpo", "--reward", "x:y"],
    )
    for line in lines:
        assert main(["rlhf", *line]) == 2, line
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1, line
    assert pipeline_module.OPTIONAL


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (["--base", "nowhere"], "nowhere does not exist\n"),
        (["--skip", "pretrain"], "cannot be skipped"),
    ],
)
def test_a_base_or_stage_that_is_wrong_leaves_no_run(wrong, word, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["rlhf", "all", "--size", "tiny", "--data", "synthetic", "--run", "run", *wrong]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert word in error and error.count("\n") == 1
    assert not Path("run").exists()
