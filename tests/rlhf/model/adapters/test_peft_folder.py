"""Adapter folders: round trips, PEFT's own reading and writing, what is refused."""

import json
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from playout.errors import CheckpointError
from playout.rlhf.model.adapters import peft_folder
from playout.rlhf.model.adapters.lora import LoRAConfig, add_adapters, merge_adapters, parse_targets
from playout.rlhf.model.adapters.peft_folder import (
    load_adapter,
    named_base,
    read_adapter,
    save_adapter,
)
from playout.rlhf.model.huggingface import from_pretrained, save_pretrained
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from safetensors.torch import load_file, save_file

CONFIG = TransformerConfig(50, 48, 80, 2, 6, 2, max_position_embeddings=64, eos_token_id=0)
IDS = torch.arange(2 * 20).view(2, 20)


UNTIED = replace(CONFIG, tie_word_embeddings=False)
MIXTURES = {
    name: replace(UNTIED, num_experts=3, num_experts_per_tok=2, model_type=name, **more)
    for name, more in (("mixtral", {}), ("qwen3_moe", {"qk_norm": True}))
}


def adapted(targets="", rank=3, shape=CONFIG):
    model = Transformer(shape)
    config = LoRAConfig(rank=rank, alpha=12, targets=parse_targets(targets))
    generator = torch.Generator().manual_seed(2)
    for parameter in add_adapters(model, config, seed=1):
        parameter.data.normal_(0, 0.1, generator=generator)
    return model


@pytest.mark.parametrize("targets", ["", "q_proj,v_proj", "all-linear", "gate_up_proj"])
def test_adapters_come_back_from_their_folder(tmp_path, targets):
    model = adapted(targets)
    save_adapter(model, tmp_path, base="/somewhere/base")
    other = Transformer(CONFIG)
    load_adapter(other, tmp_path)
    torch.testing.assert_close(other(IDS), model(IDS), rtol=1e-5, atol=1e-5)
    assert named_base(tmp_path) == "/somewhere/base"
    merge_adapters(other)
    torch.testing.assert_close(other(IDS), model(IDS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", MIXTURES)
def test_adapters_of_experts_router_and_output_matrix_come_back(tmp_path, kind):
    model = adapted("q_proj,experts,router,lm_head", shape=MIXTURES[kind])
    save_adapter(model, tmp_path, base="b")
    names = {"mixtral": ["w1", "w2", "w3"], "qwen3_moe": ["down_proj", "gate_proj", "up_proj"]}
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(["q_proj", "gate", "lm_head", *names[kind]])
    keys = load_file(tmp_path / "adapter_model.safetensors")
    room = {"mixtral": "block_sparse_moe", "qwen3_moe": "mlp"}[kind]
    place = f"base_model.model.model.layers.1.{room}.experts.2.{names[kind][0]}"
    assert f"{place}.lora_A.weight" in keys
    assert "base_model.model.lm_head.lora_B.weight" in keys
    other = Transformer(MIXTURES[kind])
    load_adapter(other, tmp_path)
    torch.testing.assert_close(logits(other), logits(model), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(logits(other), logits(Transformer(MIXTURES[kind])))
    save_pretrained(other, tmp_path / "merged")
    torch.testing.assert_close(
        logits(from_pretrained(tmp_path / "merged")), logits(model), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(CheckpointError, match=r"0\.down_proj: the model has no such layer"):
        load_adapter(Transformer(UNTIED), tmp_path)
    save_adapter(adapted("lm_head", shape=UNTIED), tmp_path, base="b")
    with pytest.raises(CheckpointError, match="lm_head: the model's output matrix is that of its"):
        load_adapter(Transformer(CONFIG), tmp_path)


def logits(model):
    with torch.no_grad():
        return model.logits(model(IDS))


def test_adapters_of_all_experts_in_one_matrix_are_taken_apart(tmp_path, monkeypatch):
    """As PEFT writes them since transformers 5: ranks beside each other, by expert below them."""
    shape, rank = MIXTURES["mixtral"], 2
    save_adapter(adapted("q_proj", shape=shape), tmp_path, base="b")
    count, inner, hidden = shape.num_experts, shape.intermediate_size, shape.hidden_size
    torch.manual_seed(0)
    sides = {}
    for place, rows, columns in (("", hidden, inner), (".base_layer", 2 * inner, hidden)):
        key = f"base_model.model.model.layers.1.mlp.experts{place}.lora"
        sides[f"{key}_A.weight"] = torch.randn(count * rank, columns)
        sides[f"{key}_B.weight"] = torch.randn(rows, rank * count)
    save_file(sides, tmp_path / "adapter_model.safetensors")
    pattern = {r".*\.gate_up_proj": 5}
    changed(tmp_path, lora_alpha=3, alpha_pattern=pattern, target_parameters=["mlp.experts"])
    model, plain = Transformer(shape), Transformer(shape)
    read, asked = peft_folder._read_config, []
    monkeypatch.setattr(peft_folder, "_read_config", lambda of: asked.append(of) or read(of))
    load_adapter(model, tmp_path)
    assert asked == [tmp_path]
    below, above, inward, outward = sides.values()
    experts, before = model.blocks[1].experts, plain.blocks[1].experts
    for expert in range(count):
        own = slice(expert * rank, (expert + 1) * rank)
        for name, alpha, (a, b) in (
            ("down_proj", 3, (below, above)),
            ("gate_up_proj", 5, (inward, outward)),
        ):
            size = len(b)
            rows = slice(expert * size, (expert + 1) * size)
            found = getattr(experts, name).dense() - getattr(before, name).dense()
            wanted = alpha / rank * b[:, expert::count] @ a[own]
            torch.testing.assert_close(found[rows], wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(CheckpointError, match="experts: the model has no 48 rows of 80"):
        load_adapter(Transformer(UNTIED), tmp_path)


@pytest.mark.peer
@pytest.mark.parametrize(
    ("targets", "shape"),
    [
        ("", CONFIG),
        ("q_proj,down_proj", CONFIG),
        ("q_proj,lm_head", UNTIED),
        ("q_proj,experts,router", MIXTURES["mixtral"]),
        ("experts,lm_head", MIXTURES["qwen3_moe"]),
    ],
)
def test_peft_computes_the_same_logits_from_our_adapters(tmp_path, targets, shape):
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    model = adapted(targets, shape=shape)
    save_pretrained(Transformer(shape), tmp_path / "base")
    save_adapter(model, tmp_path / "adapter", base=str(tmp_path / "base"))
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(theirs(IDS).logits, logits(model), rtol=1e-4, atol=1e-4)


@pytest.mark.peer
@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "v_proj"], "lora_alpha": 16},
        {"target_modules": "all-linear", "use_rslora": True, "lora_alpha": 5},
        {"target_modules": ["k_proj", "up_proj"], "rank_pattern": {"k_proj": 2},
         "alpha_pattern": {"layers.1.mlp.up_proj": 7}},
        {"target_modules": ["o_proj"], "layers_to_transform": [1]},
        {"target_modules": ["q_proj", "up_proj"],
         "alpha_pattern": {r"^model\.layers\.0\..*": 64, r"layers\.[01]\.mlp\.up_proj": 3}},
        {"target_modules": ["v_proj", "lm_head"], "shape": UNTIED},
        {"target_modules": ["w1", "w2", "w3", "gate"], "shape": MIXTURES["mixtral"]},
        {"target_modules": ["w1", "w3"], "use_rslora": True, "shape": MIXTURES["mixtral"]},
        {"target_modules": ["q_proj", "down_proj", "lm_head"], "alpha_pattern": {"lm_head": 3},
         "shape": MIXTURES["qwen3_moe"]},
    ],
)  # fmt: skip
def test_we_compute_the_same_logits_from_adapters_of_peft(tmp_path, settings):
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    settings = dict(settings)
    shape = settings.pop("shape", CONFIG)
    save_pretrained(Transformer(shape), tmp_path / "base")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    torch.manual_seed(0)
    theirs = peft.get_peft_model(base, peft.LoraConfig(r=4, task_type="CAUSAL_LM", **settings))
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, 0, 0.1)
    theirs.save_pretrained(tmp_path / "adapter")
    model = Transformer(shape)
    load_adapter(model, tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(theirs(IDS).logits, logits(model), rtol=1e-4, atol=1e-4)


def test_an_output_matrix_beside_its_adapters_is_that_of_the_model(tmp_path):
    """As PEFT writes it there."""
    model = adapted("lm_head", shape=UNTIED)
    save_adapter(model, tmp_path, base="b")
    file, key = tmp_path / "adapter_model.safetensors", "base_model.model.lm_head.base_layer.weight"
    tensors = load_file(file)
    for weight, fits in ((Transformer(UNTIED).lm_head, True), (torch.ones(50, 48), False)):
        save_file({**tensors, key: weight.detach()}, file)
        other = Transformer(UNTIED)
        with (
            nullcontext() if fits else pytest.raises(CheckpointError, match="a lm_head of its own")
        ):
            load_adapter(other, tmp_path)
            torch.testing.assert_close(logits(other), logits(model), rtol=1e-4, atol=1e-5)


def changed(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "'IA3' is no LoRA"),
        ({"use_dora": True}, "use_dora=True is not supported"),
        ({"bias": "all"}, "bias='all' is not supported"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"lora_alpha": "much"}, "lora_alpha='much' is not a number"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights='pissa_niter_4' is not"),
        ({"alpha_pattern": {"q_proj(": 4}}, r"'q_proj\(' is no regular expression"),
    ],
)
def test_adapters_of_another_kind_are_refused_by_name(tmp_path, changes, message):
    save_adapter(adapted(), tmp_path, base="b")
    changed(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_adapter(Transformer(CONFIG), tmp_path)


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ({r"layers\.[0]\.self_attn\.q_proj": 64}, {(0, "q_proj")}),
        ({r"^model\.layers\.1\..*": 64, "q_proj": 8}, {(1, "q_proj"), (1, "down_proj")}),
        ({"proj": 64}, set()),
        ({".*_proj": 64}, {(n, name) for n in (0, 1) for name in ("q_proj", "down_proj")}),
        ({"layers.1.mlp.down_proj": 64}, {(1, "down_proj")}),
    ],
)
def test_keys_of_alpha_pattern_are_regular_expressions_for_the_end_of_a_path(
    tmp_path, pattern, meant
):
    save_adapter(adapted("q_proj,down_proj"), tmp_path, base="b")
    plain = {(part.index, part.name): part.scale for part in read_adapter(tmp_path)}
    changed(tmp_path, alpha_pattern=pattern)
    found = {(part.index, part.name): part.scale for part in read_adapter(tmp_path)}
    changed_ones = {place for place in plain if found[place] == pytest.approx(64 / 3)}
    assert len(plain) == 4 and set(plain.values()) == {4.0} and changed_ones == meant


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("base_model.model.model.layers.0.mlp.down_proj.lora_B.weight"), "lacks"),
        (lambda t: t.update({"base_model.model.lm_head.lora_A.weight": torch.zeros(1)}), "lm_head"),
        (
            lambda t: t.update(
                {f"base_model.model.model.layers.9.mlp.up_proj.lora_{s}.weight": torch.zeros(3, 3)
                 for s in "AB"}
            ),
            "the model has 2 layers",
        ),
        (
            lambda t: t.update(
                {"base_model.model.model.layers.1.mlp.up_proj.lora_A.weight": torch.zeros(3, 5)}
            ),
            r"is for a matrix of \[80, 5\]",
        ),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_refused(tmp_path, change, message):
    save_adapter(adapted(), tmp_path, base="b")
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=message):
        load_adapter(Transformer(CONFIG), tmp_path)


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"adapter_config\.json cannot be read"):
        named_base(tmp_path)
    save_adapter(adapted(), tmp_path, base="b")
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="pickled weights"):
        load_adapter(Transformer(CONFIG), tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"abc")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_adapter(Transformer(CONFIG), tmp_path)
