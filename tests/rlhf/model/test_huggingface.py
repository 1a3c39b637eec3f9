"""Hugging Face folders: round trips, agreement with transformers, files that must be refused."""

import json
import os

import pytest
import torch
from playout.agents.runs.directory import RunDir
from playout.cli import main
from playout.errors import CheckpointError
from playout.rlhf.generation.tokenizer import Tokenizer
from playout.rlhf.model.adapters.lora import LoRAConfig, add_adapters
from playout.rlhf.model.folder import export_model, load_model
from playout.rlhf.model.heads import ScalarHead
from playout.rlhf.model.huggingface import from_pretrained, load_heads, read_config, save_pretrained
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from safetensors.torch import load_file, save_file

CONFIG = TransformerConfig(
    vocab_size=131,
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    max_position_embeddings=64,
    rope_theta=50000.0,
    pad_token_id=0,
    eos_token_id=2,
)
IDS = torch.arange(2 * 40).view(2, 40) % 131


def fresh(config=CONFIG, seed=0):
    model = Transformer(config, seed=seed)
    generator = torch.Generator().manual_seed(9)
    for parameter in model.parameters():
        if parameter.dim() == 1:  # gains other than one
            parameter.data.normal_(1.0, 0.2, generator=generator)
    return model


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False}, {"causal": False}])
def test_a_saved_model_comes_back_bit_for_bit(tmp_path, changes):
    fields = {name: getattr(CONFIG, name) for name in CONFIG.__slots__}
    model = fresh(TransformerConfig(**{**fields, **changes}))
    save_pretrained(model, tmp_path / "out")
    again = from_pretrained(tmp_path / "out")
    assert again.config == model.config
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_others_may_read_what_is_written(tmp_path):
    before = os.umask(0o022)
    try:
        save_pretrained(Transformer(CONFIG), tmp_path)
    finally:
        os.umask(before)
    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {"0o644"}


def test_heads_are_stored_beside_the_model(tmp_path):
    model, head = fresh(), ScalarHead(CONFIG, seed=4)
    save_pretrained(model, tmp_path, heads={"score": head})
    from_pretrained(tmp_path)
    other = ScalarHead(CONFIG, seed=5)
    load_heads(tmp_path, {"score": other})
    assert torch.equal(head.weight, other.weight)
    with pytest.raises(CheckpointError, match=r"lacks v_head\.weight"):
        load_heads(tmp_path, {"v_head": other})


def test_adapters_are_merged_into_what_is_written(tmp_path):
    model = fresh()
    for parameter in add_adapters(model, LoRAConfig(rank=2)):
        parameter.data.add_(0.05)
    save_pretrained(model, tmp_path)
    torch.testing.assert_close(from_pretrained(tmp_path)(IDS), model(IDS), atol=1e-4, rtol=1e-4)


@pytest.mark.peer
def test_transformers_computes_the_same_logits_from_our_files(tmp_path):
    transformers = pytest.importorskip("transformers")
    for name, tied in (("tied", True), ("free", False)):
        fields = {name: getattr(CONFIG, name) for name in CONFIG.__slots__}
        model = fresh(TransformerConfig(**{**fields, "tie_word_embeddings": tied}))
        save_pretrained(model, tmp_path / name)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / name)
        assert type(theirs).__name__ == "LlamaForCausalLM"
        with torch.no_grad():
            logits = theirs(IDS).logits
            assert (logits - model.logits(model(IDS))).abs().max() < 1e-4
            assert logits.std() > 0.05


@pytest.mark.peer
def test_we_compute_the_same_logits_from_files_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=131,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=3,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    theirs = transformers.LlamaForCausalLM(config)
    theirs.save_pretrained(tmp_path)
    ours = from_pretrained(tmp_path)
    with torch.no_grad():
        logits = theirs(IDS).logits
        assert logits.std() > 0.5
        torch.testing.assert_close(ours.logits(ours(IDS)), logits, atol=1e-4, rtol=1e-4)


@pytest.mark.peer
def test_transformers_scores_like_a_reward_model_of_ours(tmp_path):
    transformers = pytest.importorskip("transformers")
    model, head = fresh(), ScalarHead(CONFIG, seed=4)
    extra = {"num_labels": 1, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    save_pretrained(
        model,
        tmp_path,
        heads={"score": head},
        architecture="LlamaForSequenceClassification",
        extra=extra,
    )
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    ids = IDS.clamp(min=1)
    with torch.no_grad():
        ours = head(model(ids)[:, -1], model.norm)
        assert (theirs(ids).logits[:, 0] - ours).abs().max() < 1e-4


@pytest.mark.peer
def test_a_classifier_of_transformers_whose_output_matrix_is_not_tied_scores_alike(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    shape = transformers.LlamaConfig(
        vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, num_labels=1, pad_token_id=0,
        tie_word_embeddings=False,
    )  # fmt: skip
    theirs = transformers.LlamaForSequenceClassification(shape).eval()
    theirs.save_pretrained(tmp_path)
    ours, head = from_pretrained(tmp_path), ScalarHead(read_config(tmp_path))
    load_heads(tmp_path, {"score": head})
    ids = torch.randint(1, 97, (3, 11))
    with torch.no_grad():
        found = head(ours(ids)[:, -1], ours.norm)
        torch.testing.assert_close(found, theirs(ids).logits[:, 0], atol=1e-4, rtol=1e-4)


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model_type": "gpt2"}, "'gpt2' model"),
        ({"attention_bias": True}, "lacks model.layers.0.self_attn.k_proj.bias"),
        ({"rope_scaling": {"rope_type": "longrope"}, "rope_parameters": None}, "longrope"),
        ({"hidden_size": "wide"}, "hidden_size='wide' is not a number"),
        ({"vocab_size": None}, "lacks vocab_size"),
        ({"num_key_value_heads": 4}, "do not divide"),
        ({"vocab_size": 10**15}, r"shape \[131, 48\], config.json says \[1000000000000000, 48\]"),
        ({"num_hidden_layers": 4}, "lacks model.layers.3"),
        ({"num_hidden_layers": 2}, "unknown tensors: model.layers.2"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(tmp_path, changes, match):
    save_pretrained(fresh(), tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=match):
        from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.pop("model.norm.weight"), "lacks model.norm.weight"),
        (lambda t: t.update(extra=torch.zeros(2)), "unknown tensors: extra"),
        (lambda t: t.update({"model.norm.weight": torch.zeros(3)}), "model.norm.weight has shape"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tmp_path, change, match):
    save_pretrained(fresh(), tmp_path)
    edit_tensors(tmp_path, change)
    with pytest.raises(CheckpointError, match=match):
        from_pretrained(tmp_path)


def test_torn_and_absent_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"config.json is missing"):
        read_config(tmp_path)
    save_pretrained(fresh(), tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        from_pretrained(tmp_path)
    weights.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickled weights"):
        from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": []}, "weight_map should name a file for each tensor"),
        ({"weight_map": {"a": ["b"]}}, "weight_map should name a file for each tensor"),
        ({"weight_map": {"a": None}}, "weight_map should name a file for each tensor"),
        ({"weight_map": {"a": "../b.safetensors"}}, "names files outside its folder"),
        ({"weight_map": {"a": "b.safetensors"}}, r"b\.safetensors cannot be read"),
        ({}, "lack"),
    ],
)
def test_a_damaged_index_of_shards_is_refused_in_a_line(tmp_path, index, message):
    save_pretrained(fresh(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=message):
        from_pretrained(tmp_path)


def test_a_flipped_byte_in_a_written_folder_is_refused_and_seen(tmp_path, capsys):
    tokenizer = Tokenizer.train(["a text of some words", "and another"], vocab_size=270)
    ends = {"pad_token_id": tokenizer.pad_id, "eos_token_id": tokenizer.end_id}
    fields = {name: getattr(CONFIG, name) for name in CONFIG.__slots__}
    run = RunDir.create(tmp_path / "run", kind="rlhf.sft", config={}, seed=0)
    folder = run.path / "model"
    model = Transformer(TransformerConfig(**{**fields, **ends, "vocab_size": 270}))
    export_model(folder, model, tokenizer)
    load_model(folder)
    assert main(["inspect", str(run.path)]) == 0
    assert "model: sound" in capsys.readouterr().out
    for name in ("model.safetensors", "config.json", "tokenizer.json", "MANIFEST.json"):
        sound = (folder / name).read_bytes()
        place = len(sound) // 2
        (folder / name).write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        with pytest.raises(CheckpointError, match=name):
            load_model(folder)
        assert main(["inspect", str(run.path)]) == 1
        assert name in capsys.readouterr().out
        (folder / name).write_bytes(sound)
    # A folder of another program has no manifest, and a file that is none of ours is its owner's.
    (folder / "README.md").write_text("mine")
    load_model(folder)
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json is missing"):
        load_model(folder)
    (folder / "MANIFEST.json").unlink()
    load_model(folder)
    assert main(["inspect", str(run.path)]) == 0
    assert "model: without a manifest" in capsys.readouterr().out
