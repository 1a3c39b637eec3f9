"""Every architecture of the Llama family: whole pass, cached and compiled decoding, files.

The numbers of fixtures/architectures.json are those of transformers 5.24 for the weights that
architectures.py makes from a formula; where transformers is installed, it reads our files again.
"""

import json

import pytest
import torch
from architectures import CASES, EXPECTED, IDS, SHAPE, made, weight
from playout.errors import CheckpointError, ConfigError
from playout.rlhf.generation.decoder import Decoder
from playout.rlhf.model.adapters.lora import LoRAConfig, add_adapters, merge_adapters
from playout.rlhf.model.checkpoints.configs import config_from_json, config_to_json
from playout.rlhf.model.huggingface import from_pretrained, save_pretrained
from playout.rlhf.model.layers.attention import attention
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

PLACES = ((0, 5), (0, 40), (1, 79))


@pytest.fixture(scope="module")
def models():
    return {name: made(name) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_that_transformers_computes(models, name):
    model = models[name]
    with torch.no_grad():
        logits = model.logits(model(IDS))
    expected = torch.tensor(EXPECTED[name]["logits"])
    found = torch.stack([logits[row, place, :6] for row, place in PLACES])
    assert (found - expected).abs().max() < 1e-4


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_cached_decoding_equals_the_whole_pass_far_beyond_a_window(models, name, compiled):
    model = models[name]
    with torch.no_grad():
        whole = model.logits(model(IDS))
    lengths, rows = torch.tensor([20, 13]), torch.arange(2)
    decoder = Decoder(model, dtype=torch.float32)
    decoder.allocate(2, 80)
    decoder.compiled = compiled
    found = decoder.prefill(IDS[:, :20], lengths)
    assert (found - whole[rows, lengths - 1]).abs().max() < 1e-4
    for step in range(59):
        if step == 30:
            decoder.arrange(torch.tensor([1, 0]), lengths.flip(0) + step, 2)
            rows, lengths = rows.flip(0), lengths.flip(0)
        found = decoder.step(IDS[rows, lengths + step])
        assert (found - whole[rows, lengths + step]).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["mistral", "qwen2", "qwen3, biases", "smollm3, all"])
def test_further_turns_are_appended_as_if_all_had_been_read_at_once(models, name):
    model = models[name]
    with torch.no_grad():
        whole = model.logits(model(IDS))
    decoder = Decoder(model, dtype=torch.float32)
    decoder.allocate(2, 80)
    decoder.prefill(IDS[:, :12], torch.tensor([12, 7]))
    rows = torch.arange(2)
    for counts in ([3, 15], [20, 1], [30, 40]):
        starts, counts = decoder.lengths.clone(), torch.tensor(counts)
        ids = torch.zeros(2, int(counts.max()), dtype=torch.long)
        for row in range(2):
            ids[row, : counts[row]] = IDS[row, starts[row] : starts[row] + counts[row]]
        found = decoder.extend(ids, counts)
        assert (found - whole[rows, starts + counts - 1]).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["mistral", "smollm3, all"])
def test_a_long_prompt_is_read_in_pieces_without_a_difference(models, name, monkeypatch):
    model = models[name]
    whole = Decoder(model, dtype=torch.float32)
    whole.allocate(2, 80)
    expected = whole.prefill(IDS, torch.tensor([80, 71]))
    monkeypatch.setattr("playout.rlhf.generation.decoder._SCORES", 6 * 80 * 11)
    parts = Decoder(model, dtype=torch.float32)
    parts.allocate(2, 80)
    torch.testing.assert_close(parts.prefill(IDS, torch.tensor([80, 71])), expected)


@pytest.mark.parametrize("name", CASES)
def test_what_is_saved_describes_and_holds_the_same_model(models, name, tmp_path):
    model = models[name]
    save_pretrained(model, tmp_path)
    again = from_pretrained(tmp_path)
    assert again.config == model.config
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["model_type"] == CASES[name][0]
    assert written["eos_token_id"] == [2, 5]
    for key, parameter in model.named_parameters():
        assert torch.equal(parameter, again.get_parameter(key))


@pytest.mark.peer
@pytest.mark.parametrize("name", CASES)
def test_transformers_reads_our_files_as_the_same_model(models, name, tmp_path):
    transformers = pytest.importorskip("transformers")
    model = models[name]
    save_pretrained(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert theirs.config.model_type == CASES[name][0]
    assert theirs.generation_config.eos_token_id == [2, 5]
    with torch.no_grad():
        assert (theirs(IDS).logits - model.logits(model(IDS))).abs().max() < 1e-4


@pytest.mark.peer
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_folders_of_transformers_in_half_precision_and_many_shards_are_read(dtype, tmp_path):
    transformers = pytest.importorskip("transformers")
    kind, extra = CASES["qwen2"]
    config = transformers.AutoConfig.for_model(kind, **SHAPE, **extra)
    theirs = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.copy_(weight(name, parameter.shape))
    theirs.to(getattr(torch, dtype)).save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    ours = from_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.no_grad():
        expected = again(IDS).logits
        assert (ours.logits(ours(IDS)) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("length", [80, 600])
def test_a_window_means_a_band_of_keys_forwards_and_backwards(length):
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 4, length, 8), (2, 2, length, 8), (2, 2, length, 8)
    inputs = [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]
    place = torch.arange(length)
    band = (place <= place[:, None]) & (place > place[:, None] - 7)
    segments = torch.ones(2, 1, length, length, dtype=torch.bool)
    segments[1, :, 30:, :30] = False
    found, expected = (
        attention(*inputs, causal=True, mask=segments, window=7),
        F.scaled_dot_product_attention(*inputs, attn_mask=band & segments, enable_gqa=True),
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    push = torch.randn(found.shape, generator=generator)
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, push),
        torch.autograd.grad(expected, inputs, push),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "name", ["llama, llama3", "mistral", "qwen3, biases", "smollm3, all", "mixtral"]
)
def test_another_device_computes_and_decodes_the_same(name, second):
    model, other = made(name), made(name).to(second)
    with torch.no_grad():
        whole = model.logits(model(IDS))
        found = other.logits(other(IDS.to(second))).cpu()
    torch.testing.assert_close(found, whole, atol=1e-4, rtol=1e-3)
    decoder = Decoder(other, dtype=torch.float32)
    decoder.allocate(2, 80)
    rows, lengths = torch.arange(2), torch.tensor([20, 13])
    found = decoder.prefill(IDS[:, :20], lengths).cpu()
    torch.testing.assert_close(found, whole[rows, lengths - 1], atol=1e-4, rtol=1e-3)
    for step in range(12):
        found = decoder.step(IDS[rows, lengths + step].to(second)).cpu()
        torch.testing.assert_close(found, whole[rows, lengths + step], atol=1e-4, rtol=1e-3)


def test_every_weight_of_every_architecture_learns(models):
    for name in ("llama tied, with biases", "qwen2", "qwen3, biases", "smollm3, all", "mixtral"):
        model = models[name]
        with torch.enable_grad():
            F.cross_entropy(model.logits(model(IDS)).flatten(0, 1), IDS.flatten()).backward()
        for key, parameter in model.named_parameters():
            # A bias of all keys moves no attention where they are not rotated or normalised.
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, (name, key)
        model.zero_grad()


def test_adapters_stand_on_projections_with_a_bias_and_are_merged(tmp_path):
    model = made("qwen3, biases")
    for parameter in add_adapters(model, LoRAConfig(rank=2)):
        parameter.data.add_(0.02)
    with torch.no_grad():
        adapted = model.logits(model(IDS))
        decoder = Decoder(model, dtype=torch.float32)
        decoder.allocate(2, 80)
        torch.testing.assert_close(
            decoder.prefill(IDS, torch.tensor([80, 80])), adapted[:, -1], atol=1e-4, rtol=1e-4
        )
        save_pretrained(model, tmp_path)
        merge_adapters(model)
        for other in (model, from_pretrained(tmp_path)):
            found = other.logits(other(IDS))
            torch.testing.assert_close(found, adapted, atol=1e-4, rtol=1e-4)


def test_bfloat16_decoding_with_biases_and_norms_agrees_with_float32(models):
    for name in ("qwen2", "qwen3", "mistral"):
        found = []
        for compiled in (False, True):
            decoder = Decoder(models[name], dtype=torch.bfloat16)
            decoder.allocate(2, 80)
            decoder.compiled = compiled
            decoder.prefill(IDS[:, :20], torch.tensor([20, 20]))
            found.append(decoder.step(IDS[:, 20].contiguous()))
        with torch.no_grad():
            exact = models[name].logits(models[name](IDS))[:, 20]
        for logits in found:
            assert (logits - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model_type": "gemma"}, "'gemma' model; those of the Llama layout .* qwen3, smollm3"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config=.* not supported"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "nf4"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu' is not supported"),
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"num_hidden_layers": 10**9}, "1000000000 layers are too many"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "rotary scaling 'longrope' is not"),
        ({"rope_parameters": {"rope_type": "linear", "factor": "8"}}, "factor='8' is not a number"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 0.5}}, "a factor of 0.5"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "rotary scaling"),
        ({"rope_parameters": {"rope_theta": -1}}, "rope_theta=-1 is not a number above 1"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5 is not supported"),
        ({"use_sliding_window": True, "sliding_window": -4}, "a sliding window holds at least 1"),
        ({"use_sliding_window": "yes"}, "use_sliding_window='yes' is neither"),
        ({"use_sliding_window": True, "sliding_window": 4, "layer_types": ["full_attention"]}, "4"),
        ({"eos_token_id": [2, "end"]}, "is not a number"),
        ({"model_type": "qwen3_moe", "mlp_only_layers": [2]}, r"mlp_only_layers=\[2\] is not"),
        ({"model_type": "qwen3_moe", "decoder_sparse_step": 2}, "decoder_sparse_step=2 is not"),
        ({"model_type": "qwen3_moe", "num_experts": 4}, "cannot go to 8 of 4 experts"),
        ({"model_type": "mixtral", "num_local_experts": "8"}, "num_experts='8' is not a number"),
        ({"model_type": "mixtral", "num_local_experts": 10**9}, "1000000000 experts are too many"),
    ],
)
def test_what_a_configuration_says_wrongly_or_we_do_not_do_is_one_line(changes, match):
    values = {**EXPECTED["qwen3"]["config"], **changes}
    with pytest.raises(CheckpointError, match=match) as caught:
        config_from_json(values, "config.json")
    assert "\n" not in str(caught.value)


def test_what_a_class_assumes_is_assumed_where_a_configuration_is_silent():
    values = {k: v for k, v in EXPECTED["qwen3"]["config"].items() if k in (*SHAPE, "model_type")}
    for name in ("num_key_value_heads", "rms_norm_eps", "max_position_embeddings"):
        del values[name]
    config = config_from_json({**values, "num_attention_heads": 32}, "config.json")
    assert (config.head_dim, config.num_key_value_heads) == (128, 32)
    assert (config.rms_norm_eps, config.max_position_embeddings) == (1e-6, 32768)
    assert not config.tie_word_embeddings
    values["num_key_value_heads"] = 2
    mistral = config_from_json({**values, "model_type": "mistral"}, "config.json")
    assert mistral.sliding_window == 4096 and mistral.sliding_layers == (0, 1, 2, 3)
    assert config_from_json({**values, "model_type": "smollm3"}, "config.json").nope_layers == (3,)


def test_a_shape_that_its_architecture_has_no_words_for_is_not_written(models):
    config = models["qwen3"].config
    for kind in ("llama", "mistral", "qwen2"):
        changed = {name: getattr(config, name) for name in config.__slots__} | {"model_type": kind}
        with pytest.raises(ConfigError, match=f"model_type '{kind}' cannot describe"):
            config_to_json(type(config)(**changed))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.pop("model.layers.1.self_attn.q_proj.bias"), "lacks .*q_proj.bias"),
        (lambda t: t.update({"model.layers.0.mlp.up_proj.bias": torch.zeros(80)}), "up_proj.bias"),
        (lambda t: t.update({"model.layers.0.self_attn.k_proj.bias": torch.zeros(3)}), "has shape"),
    ],
)
def test_missing_and_surplus_biases_are_named(models, tmp_path, change, match):
    save_pretrained(models["qwen2"], tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=match):
        from_pretrained(tmp_path)
