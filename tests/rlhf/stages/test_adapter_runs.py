"""Runs with adapters: small checkpoints, resuming, PEFT folders in and out."""

import json
import shutil
from pathlib import Path

import playout
import pytest
import torch
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.errors import CheckpointError
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.lora import LoRAConfig, add_adapters
from playout.rlhf.model.adapters.peft_folder import read_adapter, save_adapter
from playout.rlhf.model.folder import export_model, load_model, model_digest
from playout.rlhf.model.huggingface import from_pretrained, save_pretrained
from small_language import chat_tokenizer, small_model

BASE = Path(__file__).parents[2] / "fixtures" / "runs" / "pretrain"
ROWS = [{"prompt": f"film {i}", "response": f" was number {i}"} for i in range(40)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A base and a run of adapters above it."""
    root = tmp_path_factory.mktemp("adapters")
    shutil.copytree(BASE / "model", root / "base")
    (root / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    assert main([*command(root), "--run", f"{root}/run"]) == 0
    return root


def command(root):
    return [
        *("rlhf", "sft", "--base", f"{root}/base", "--data", f"{root}/rows.jsonl", "--quiet"),
        *("--steps", "4", "--batch", "6", "--size", "tiny", "--lora-rank", "3", "--seed", "2"),
        *("--lora-targets", "q_proj,up_proj", "--lora-dropout", "0.2", "--weights", "int8"),
        *("--microbatch", "2", "--checkpoint-activations", "--dtype", "float32"),
    ]


def weights(folder):
    return {name: p.detach() for name, p in from_pretrained(folder).named_parameters()}


def test_a_checkpoint_holds_the_adapters_alone(trained):
    run = RunDir.open(trained / "run")
    _, state = run.load("latest")
    assert state["model"] and all("lora_" in name for name in state["model"])
    base = sum(p.numel() for p in from_pretrained(trained / "base").parameters())
    learned = sum(tensor.numel() for tensor in state["model"].values())
    assert learned < base / 10 and len(state["optimizer"]["exp_avg"]) == learned


def test_adapters_that_learned_to_talk_bring_their_template_and_the_end_of_their_turns(tmp_path):
    """As a folder of PEFT does that taught a plain model conversations."""
    chat = chat_tokenizer("chatml")
    plain = Tokenizer(chat.inner, end="<|endoftext|>")
    model = small_model(plain)
    export_model(tmp_path / "base", model, plain)
    add_adapters(model, LoRAConfig(rank=2, alpha=4), seed=0)
    save_adapter(model, tmp_path / "adapter", base=str(tmp_path / "base"))
    assert load_model(tmp_path / "adapter")[1].template is None
    chat.save(tmp_path / "adapter")
    _, found = load_model(tmp_path / "adapter")
    assert found.template.source == chat.template.source
    assert set(found.stop_ids) == {chat.end_id, plain.end_id} and found.pad_id == plain.pad_id
    player = playout.load(tmp_path / "adapter")
    player.max_new_tokens = 3
    assert player.answer([[{"role": "user", "content": "the cat"}]])[0].tokens
    out = ["rlhf", "import-model", str(tmp_path / "adapter"), "--base", str(tmp_path / "base")]
    assert main([*out, "--out", str(tmp_path / "whole")]) == 0
    assert Tokenizer.load(tmp_path / "whole").stop_ids == found.stop_ids


def test_a_resumed_run_equals_one_that_was_not_stopped(trained, tmp_path):
    whole = weights(trained / "run" / "model")
    shutil.copytree(trained / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    assert main(["rlhf", "sft", "--resume", f"{tmp_path}/run", "--from-step", "2", "--quiet"]) == 0
    again = weights(tmp_path / "run" / "model")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_base_that_has_changed_is_refused(trained, tmp_path, capsys):
    shutil.copytree(trained / "run", tmp_path / "run")
    before = model_digest(trained / "base")
    assert RunDir.open(tmp_path / "run").record["base_sha256"] == before
    shutil.copytree(trained / "base", tmp_path / "base")
    model = from_pretrained(trained / "base")
    with torch.no_grad():
        model.norm[0] += 1e-3
    save_pretrained(model, tmp_path / "base")
    changed = model_digest(tmp_path / "base")
    assert changed != before
    run = RunDir.open(tmp_path / "run")
    with run.lock():
        run.update(base_sha256=changed)  # as if that had been its base
    assert main(["rlhf", "sft", "--resume", f"{tmp_path}/run", "--from-step", "2"]) == 2
    assert "is no longer the model" in capsys.readouterr().err


def test_the_adapter_folder_is_a_model_above_its_base(trained):
    merged, _ = load_model(trained / "run" / "model")
    above, _ = load_model(trained / "run" / "adapter")
    ids = torch.arange(5, 25)[None]
    # The merged one stands on the weights of int8 below which it learned, the other on the base's.
    exact, rounded = above(ids), merged(ids)
    assert torch.corrcoef(torch.stack([exact.flatten(), rounded.flatten()]))[0, 1] > 0.99
    assert {part.name for part in read_adapter(trained / "run" / "adapter")} == {
        "q_proj",
        "up_proj",
    }


def test_adapters_are_exported_and_come_in_again(trained, tmp_path, capsys):
    out, merged = tmp_path / "peft", tmp_path / "merged"
    run = str(trained / "run")
    assert main(["export", run, "--format", "peft", "--out", str(out)]) == 0
    assert "adapter_model.safetensors" in capsys.readouterr().out
    settings = json.loads((out / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "somebody/model"
    (out / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="adapters for somebody/model, which is no folder"):
        load_model(out)
    words = ["rlhf", "import-model", str(out), "--out", str(merged)]
    assert main([*words, "--base", str(trained / "base")]) == 0
    above, _ = load_model(trained / "run" / "adapter")
    for name, tensor in weights(merged).items():
        torch.testing.assert_close(tensor, above.get_parameter(name))
    assert main(["export", str(BASE), "--format", "peft"]) == 2
    assert "has no adapters" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lora-rank", "0"], "--lora-targets needs --lora-rank"),
        (["--lora-targets", "head"], "LoRA targets are"),
        (["--lora-rank", "0", "--lora-targets", "", "--lora-dropout", "0"], "cannot learn"),
        (["--microbatch", "-1"], "--microbatch must be at least 0"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(trained, tmp_path, capsys, words, message):
    assert main([*command(trained), *words, "--run", f"{tmp_path}/run"]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()
