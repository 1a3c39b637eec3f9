"""Models and files that a run names: by whole paths, the same ever after, found where it is now."""

import shutil
from pathlib import Path

import playout
import pytest
import torch
from playout.agents.runs.directory import RunDir
from playout.agents.runs.options import resumed
from playout.cli import main
from playout.errors import RunError
from playout.rlhf.commands.learn import pretrain, sft
from playout.rlhf.evaluation.comparison import comparison_of
from playout.rlhf.model.huggingface import from_pretrained, save_pretrained
from playout.rlhf.stages.paths import whole
from playout.rlhf.stages.run import open_stage

BASE = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"
FEW = {"size": "tiny", "dtype": "float32", "quiet": True, "seed": 1}
VOTES = [{"prompt": "the film", "chosen": f" was {w} .", "rejected": " ."} for w in "abcdef"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A base, a reward model and a policy that learned from it, all named from their folder."""
    root = tmp_path_factory.mktemp("made")
    shutil.copytree(BASE, root / "pre")
    (root / "prompts.txt").write_text("".join(f"the film {n}\n" for n in range(40)))
    with pytest.MonkeyPatch.context() as here:
        here.chdir(root)
        playout.reward("pre", VOTES, run="rew", steps=2, batch=4, **FEW)
        online = {"updates": 1, "batch": 4, "group": 2, "max_new_tokens": 3, **FEW}
        playout.grpo("pre", "prompts.txt", reward="rew", run="gr", **online)
    return root


def moved(made, tmp_path, *names):
    for name in names:
        copy = shutil.copytree if (made / name).is_dir() else shutil.copyfile
        copy(made / name, tmp_path / name)
    return tmp_path


@pytest.mark.slow
def test_a_run_is_used_and_resumed_from_any_folder(made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = RunDir.open(made / "gr").config
    kept = {name: config[name] for name in ("base", "reward", "prompts")}
    wanted = {"base": "pre", "reward": "rew", "prompts": "prompts.txt"}
    assert kept == {name: str(made / path) for name, path in wanted.items()}
    assert comparison_of(made / "gr", num_prompts=2).evaluator.prompts
    words = ["rlhf", "grpo", "--resume", str(made / "gr"), "--quiet"]
    monkeypatch.chdir(made / "rew")
    assert main([*words, "--base", "../pre", "--reward", "../rew"]) == 0
    assert RunDir.open(made / "gr").config == config
    assert main([*words, "--base", "../gr"]) == 2
    assert "base (was" in capsys.readouterr().err


@pytest.mark.slow
def test_a_resumed_run_does_not_take_another_reward(made, tmp_path, capsys):
    run = RunDir.open(moved(made, tmp_path, "gr") / "gr")
    words = ["rlhf", "grpo", "--resume", str(run.path), "--quiet"]
    assert main(words) == 0
    with run.lock():
        run.update(reward_sha256="0" * 64)  # as if another had been its reward
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "rew/model is no longer the model" in error and "put that back" in error
    with pytest.raises(RunError, match=r"put that back, or name another: playout rlhf judge"):
        comparison_of(run.path)
    with run.lock():
        run.update(reward_sha256=None)  # as earlier versions left it
    assert main(words) == 0 and comparison_of(run.path, num_prompts=2)


@pytest.mark.slow
def test_runs_that_were_moved_together_find_each_other(made, tmp_path, monkeypatch):
    root = moved(made, tmp_path, "gr", "rew", "pre")
    monkeypatch.setattr("os.path.exists", hidden(made))
    assert comparison_of(root / "gr", prompts=str(made / "prompts.txt"), num_prompts=2)
    model = from_pretrained(root / "pre" / "model")
    with torch.no_grad():
        model.norm[0] += 1e-3
    save_pretrained(model, root / "pre" / "model")
    with pytest.raises(RunError, match="is no longer the model that"):
        comparison_of(root / "gr", prompts=str(made / "prompts.txt"))


@pytest.mark.slow
def test_what_a_run_names_and_nobody_has_is_said_with_what_to_do(
    made, tmp_path, monkeypatch, capsys
):
    root = moved(made, tmp_path, "gr")
    monkeypatch.setattr("os.path.exists", hidden(made))
    assert main(["rlhf", "judge", str(root / "gr")]) == 2
    error = capsys.readouterr().err
    assert f"is not there; name another: playout rlhf judge {root}/gr OPPONENT" in error
    assert main(["rlhf", "grpo", "--resume", str(root / "gr")]) == 2
    error = capsys.readouterr().err
    assert "put it back there" in error and error.count("\n") == 1


def hidden(folder):
    """Whether a path is there, for one who has not got that folder."""
    from os.path import exists

    return lambda path: not str(path).startswith(f"{folder}/") and exists(path)


def test_paths_are_kept_whole_and_words_and_functions_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("real", "llmfao", "a", "b.txt", "hub"):
        (tmp_path / name).mkdir()
    for name, value in (
        ("data", "real"), ("preferences", "llmfao"), ("data", "hub:x/y"), ("reward", "a.b:f"),
        ("corpus", "shakespeare:0.5,milton:0.5"), ("base", ""), ("size", "a"), ("text", []),
    ):  # fmt: skip
        assert whole(name, value) == value
    here = str(tmp_path)
    assert whole("base", "./a") == f"{here}/a" and whole("text", ["a"]) == [f"{here}/a"]
    assert whole("reward", "a,m:f, b.txt") == f"{here}/a,m:f,{here}/b.txt"
    assert whole("corpus", "b.txt:0.7,milton:0.3") == f"{here}/b.txt:0.7,milton:0.3"


def test_a_run_of_an_earlier_version_goes_on_with_the_same_path_written_otherwise(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(BASE, tmp_path / "pre")
    settings = {"base": "pre", "size": "tiny", "truncate": "right"}
    RunDir.create(tmp_path / "old", kind="rlhf.sft", config=settings, seed=0)
    before = (tmp_path / "old" / "run.json").read_bytes()
    for base in ("pre", "./pre", str(tmp_path / "pre")):
        command = resumed(sft.Command, "old", by="playout rlhf sft", base=base)
        assert open_stage(command, "sft", dict).config["base"] == "pre"
    assert (tmp_path / "old" / "run.json").read_bytes() == before
    monkeypatch.chdir("/")
    assert resumed(sft.Command, tmp_path / "old").base == str(tmp_path / "pre")
    shutil.rmtree(tmp_path / "pre")
    RunDir.create(tmp_path / "text", kind="rlhf.pretrain", config={"data": "no/x.txt"}, seed=0)
    with pytest.raises(RunError, match="go on in the folder where the run was begun"):
        resumed(pretrain.Command, tmp_path / "text", by="playout rlhf pretrain")
