"""Commands of the supervised stages: what they leave, what they say next, what they refuse."""

import json

import pytest
import torch
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.rlhf.model.folder import load_model
from playout.rlhf.stages.run import mark_finished


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A pretrained and a fine-tuned model, by their commands."""
    root = tmp_path_factory.mktemp("language")
    common = ["--size", "tiny", "--data", "synthetic", "--quiet"]
    assert main(["rlhf", "pretrain", "--run", f"{root}/pretrain", "--steps", "12", *common]) == 0
    base = ["--base", f"{root}/pretrain"]
    assert main(["rlhf", "sft", *base, "--run", f"{root}/sft", "--steps", "4", *common]) == 0
    return root


@pytest.mark.slow
def test_commands_leave_models_that_generate(pipeline, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("the film\nthis plot was\n")
    options = ["--prompts", f"{tmp_path}/prompts.txt", "--json", f"{tmp_path}/out.json"]
    assert main(["rlhf", "generate", str(pipeline), *options]) == 0
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [row["prompt"] for row in rows] == ["the film", "this plot was"]
    assert all(isinstance(row["response"], str) for row in rows)
    long = tmp_path / "long.txt"
    long.write_text("film " * 500)
    assert main(["rlhf", "generate", str(pipeline), "--prompts", str(long)]) == 2
    assert "it has 503 tokens, and there is room for 80" in capsys.readouterr().err


@pytest.mark.slow
def test_lora_fine_tuning_changes_the_projections_by_the_rank_and_nothing_else(pipeline, tmp_path):
    command = ["rlhf", "sft", "--base", f"{pipeline}/pretrain", "--run", f"{tmp_path}/sft"]
    options = ["--steps", "2", "--size", "tiny", "--data", "synthetic", "--quiet"]
    assert main([*command, *options, "--lora-rank", "2"]) == 0
    before, _ = load_model(pipeline / "pretrain")
    after, _ = load_model(tmp_path / "sft")
    learned = dict(after.named_parameters())
    ranks = set()
    for name, weight in before.named_parameters():
        difference = (learned[name] - weight).detach()
        if "_proj" not in name:
            assert not difference.any(), name
            continue
        sizes = torch.linalg.svdvals(difference.double())
        ranks.add(int((sizes > 1e-4 * sizes[0]).sum()))
    assert ranks == {2}


@pytest.mark.slow
def test_classify_fills_its_table(pipeline, tmp_path, capsys):
    command = ["rlhf", "classify", "--base", f"{pipeline}/pretrain", "--run", f"{tmp_path}/c"]
    options = ["--steps", "2", "--size", "tiny", "--data", "synthetic", "--quiet"]
    assert main([*command, *options]) == 0
    table = json.loads((tmp_path / "c" / "table.json").read_text())
    assert [(row["task"], row["model"]) for row in table] == [
        (task, model)
        for task in ("spam", "ratings")
        for model in ("tf-idf", "scratch", "pretrained")
    ]
    assert "tf-idf" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sft"], "name the pretrained model"),
        (["sft", "--base", "nowhere"], "nowhere does not exist"),
        (["pretrain", "--text", "nowhere.txt"], "neither a file nor one of"),
        (["pretrain", "--size", "huge"], "there is no size 'huge'"),
        (["pretrain", "--data", "mine"], "data must be auto, real or synthetic"),
        (["classify"], "name the pretrained model"),
        (["sft", "--base", "{pretrained}", "--data", "synthetic", "--steps", "-5"], "at least 0"),
        (["sft", "--base", "{pretrained}", "--data", "synthetic", "--batch", "0"], "at least 1"),
        (["pretrain", "--data", "synthetic", "--size", "tiny", "--rows", "-1"], "at least 1"),
    ],
)
def test_wrong_options_are_one_line(arguments, message, pipeline, tmp_path, capsys):
    command = ["rlhf", *(word.format(pretrained=pipeline / "pretrain") for word in arguments)]
    assert main([*command, "--run", f"{tmp_path}/run", "--quiet"]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


@pytest.mark.slow
def test_a_stage_ends_with_what_comes_next_and_a_finished_one_says_so(pipeline, tmp_path, capsys):
    run = f"{tmp_path}/sft"
    command = ["rlhf", "sft", "--base", f"{pipeline}/pretrain", "--run", run, "--steps", "2"]
    assert main([*command, "--size", "tiny", "--data", "synthetic"]) == 0
    after = f"run {run}: playout rlhf chat|generate {run}"
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == after and printed.count(after) == 1
    assert main(["rlhf", "sft", "--resume", run]) == 0
    said = capsys.readouterr()
    assert f"{run} is finished; to train on, start a new run with --base {run}" in said.out
    assert main(["rlhf", "sft", "--resume", run, "--steps", "4"]) == 2
    said = capsys.readouterr()
    assert "steps (was 2, now 4); start a new run with --base " + run in said.err


@pytest.mark.parametrize(
    ("stage", "settings", "after"),
    [
        ("pretrain", {}, "rlhf generate {path} --prompt TEXT; playout rlhf sft --base"),
        ("classify", {"tasks": {"mine": "labelled"}}, "rlhf score"),
        ("pretrain", {"encoder": True}, "rlhf classify --base"),
        ("reward", {}, "rlhf score"),
        ("grpo", {"reward": "r"}, "rlhf chat|generate|judge"),
        ("dpo", {}, "rlhf chat|generate"),
        ("classify", {}, "eval"),
        ("all", {}, "rlhf chat|generate|judge"),
    ],
)
def test_what_comes_next_depends_on_the_stage(stage, settings, after, tmp_path, capsys):
    path = tmp_path / stage
    run = RunDir.create(path, kind=f"rlhf.{stage}", config=settings, seed=0)
    mark_finished(run, quiet=True)
    assert capsys.readouterr().out == ""
    mark_finished(run, quiet=False)
    assert capsys.readouterr().out == f"run {path}: playout {after.format(path=path)} {path}\n"


def test_what_comes_next_can_be_pasted(tmp_path, capsys):
    path = tmp_path / "my run"
    mark_finished(RunDir.create(path, kind="rlhf.sft", config={}, seed=0), quiet=False)
    assert capsys.readouterr().out == f"run {path}: playout rlhf chat|generate '{path}'\n"


def test_a_run_of_another_kind_is_named(pipeline, tmp_path, capsys):
    other = tmp_path / "cartpole"
    RunDir.create(other, kind="ppo", config={}, seed=0)
    (tmp_path / "texts.txt").write_text("the film\n")
    texts = f"{tmp_path}/texts.txt"
    for words in (
        ["chat", str(other)],
        ["generate", str(other), "--prompts", texts],
        ["sft", "--base", str(other), "--run", f"{tmp_path}/new"],
    ):
        assert main(["rlhf", *words]) == 2
        assert f"{other} is a run of ppo, not of a language model" in capsys.readouterr().err
    assert main(["rlhf", "score", f"{pipeline}/sft", "--texts", texts]) == 2
    assert "is a run of sft; scores need a run of `playout rlhf reward`" in capsys.readouterr().err
