"""int8 and NF4 in files: bit for bit, in bitsandbytes' layout, as ordinary bases and runs."""

import json

import pytest
import torch
from playout.cli import main
from playout.errors import CheckpointError, ConfigError
from playout.rlhf.generation.decoder import Decoder
from playout.rlhf.model.adapters.held import HELD, QuantizedProjection, hold_weights, is_quantised
from playout.rlhf.model.adapters.lora import LoRAConfig, add_adapters, merge_adapters
from playout.rlhf.model.adapters.narrowed import narrowed
from playout.rlhf.model.checkpoints.quantised import join_codes, quantisation_of
from playout.rlhf.model.folder import load_model
from playout.rlhf.model.huggingface import from_pretrained, save_pretrained
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from safetensors.torch import load_file, save_file

IDS = torch.arange(2 * 20).view(2, 20)
SHAPES = {
    "llama": {},
    "qwen2": {"model_type": "qwen2", "attention_bias": True, "tie_word_embeddings": False},
    "mixtral": {"model_type": "mixtral", "num_experts": 3, "num_experts_per_tok": 2},
}


def fresh(**changes):
    model = Transformer(
        TransformerConfig(50, 64, 128, 2, 4, 2, max_position_embeddings=64, **changes), seed=3
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.dim() > 1 else 1.0)
    return model


def held(kind, **changes):
    return hold_weights(fresh(**changes).requires_grad_(False), HELD[kind])


@pytest.mark.parametrize("kind", ["int8", "nf4"])
@pytest.mark.parametrize("shape", SHAPES)
def test_codes_come_back_bit_for_bit_and_take_their_few_bits_on_disk(kind, shape, tmp_path):
    model = held(kind, **SHAPES[shape])
    save_pretrained(model, tmp_path / "codes")
    again = from_pretrained(tmp_path / "codes")
    assert is_quantised(again) and not any(p.requires_grad for p in again.parameters())
    assert torch.equal(model(IDS), again(IDS))
    save_pretrained(again, tmp_path / "again")
    first, second = (load_file(tmp_path / n / "model.safetensors") for n in ("codes", "again"))
    assert first.keys() == second.keys()
    # Row scales are written times 127, and the division may round the last bit.
    assert all(torch.allclose(first[n].float(), second[n].float(), rtol=1e-6) for n in first)
    save_pretrained(fresh(**SHAPES[shape]), tmp_path / "plain")
    sizes = [
        sum(t.numel() * t.element_size() for n, t in tensors.items() if "_proj" in n or ".w" in n)
        for tensors in (first, load_file(tmp_path / "plain" / "model.safetensors"))
    ]
    assert sizes[0] < {"int8": 0.36, "nf4": 0.36}[kind] * sizes[1]
    words = json.loads((tmp_path / "codes" / "config.json").read_text())["quantization_config"]
    assert words["quant_method"] == "bitsandbytes"
    assert (words["load_in_8bit"], words["load_in_4bit"]) == (kind == "int8", kind == "nf4")


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_what_few_bits_cost_is_within_the_step_between_codes(kind):
    """Every weight moves by at most half the widest gap of its row's, or its block's, values."""
    plain, few = fresh(), held(kind)
    for block, other in zip(plain.blocks, few.blocks, strict=True):
        weight, near = block.down_proj.weight.detach(), other.down_proj.dense()
        if kind == "int8":
            bound = weight.abs().amax(1, keepdim=True) / 127 / 2
        else:  # the widest gap of NF4 is that from -1 to -0.6962
            blocks = weight.view(-1, 64).abs().amax(1, keepdim=True)
            bound = (blocks * 0.304 / 2).expand(-1, 64).reshape(weight.shape)
        assert ((weight - near).abs() <= bound * 1.0001).all()


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_quantised_folder_decodes_and_learns_by_adapters_that_merge_into_plain_numbers(
    kind, tmp_path
):
    save_pretrained(held(kind), tmp_path)
    model = from_pretrained(tmp_path)
    with torch.no_grad():
        whole = model.logits(model(IDS))
    decoder = Decoder(model, dtype=torch.float32)
    decoder.allocate(2, 20)
    found = decoder.prefill(IDS[:, :10], torch.tensor([10, 10]))
    torch.testing.assert_close(found, whole[:, 9], atol=2e-3, rtol=2e-3)
    learned = add_adapters(model, LoRAConfig(rank=2))
    with torch.no_grad():
        learned[1].add_(0.1)
        adapted = model(IDS)
        merge_adapters(model)
        save_pretrained(model, tmp_path / "merged")
        torch.testing.assert_close(
            from_pretrained(tmp_path / "merged")(IDS), adapted, atol=1e-3, rtol=1e-3
        )


def _nested(tensors, name):
    """Scales quantised once more, as bitsandbytes does it with double quantisation."""
    absmax = tensors.pop(f"{name}.absmax")
    offset = absmax.mean()
    block = 256
    rest = absmax - offset
    scales = torch.stack([part.abs().max() for part in rest.split(block)])
    table = torch.linspace(-1, 1, 256)
    near = (rest / scales.repeat_interleave(block)[: len(rest)])[:, None] - table
    codes = near.abs().argmin(1).to(torch.uint8)
    state = json.loads(bytes(tensors[f"{name}.quant_state.bitsandbytes__nf4"].tolist()))
    state |= {"nested_blocksize": block, "nested_offset": float(offset), "nested_dtype": "float32"}
    tensors[f"{name}.quant_state.bitsandbytes__nf4"] = torch.tensor(
        list(json.dumps(state).encode()), dtype=torch.uint8
    )
    tensors |= {f"{name}.absmax": codes, f"{name}.nested_absmax": scales}
    tensors[f"{name}.nested_quant_map"] = table
    return table[codes.long()] * scales.repeat_interleave(block)[: len(rest)] + offset


def test_scales_that_were_quantised_once_more_are_read(tmp_path):
    save_pretrained(held("nf4"), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = "model.layers.1.self_attn.o_proj.weight"
    expected = _nested(tensors, name)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    found = from_pretrained(tmp_path).blocks[1].o_proj
    assert isinstance(found, QuantizedProjection)
    torch.testing.assert_close(found.scales, expected)


def test_layers_that_were_left_plain_stay_plain_and_learnable_numbers(tmp_path):
    """As published checkpoints of mixed precision have some."""
    model = held("int8")
    save_pretrained(model, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = "model.layers.0.mlp.down_proj"
    plain = tensors.pop(f"{name}.SCB")[:, None] / 127 * tensors.pop(f"{name}.weight")
    tensors[f"{name}.weight"] = plain
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    again = from_pretrained(tmp_path)
    assert not isinstance(again.blocks[0].down_proj, QuantizedProjection)
    torch.testing.assert_close(again(IDS), model(IDS), atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.pop("model.layers.0.self_attn.o_proj.weight.quant_map"), "does not say how"),
        (
            lambda t: t.update({"model.layers.0.self_attn.o_proj.weight.absmax": torch.ones(3)}),
            "has shape",
        ),
        (
            lambda t: t.update(
                {"model.layers.0.self_attn.o_proj.weight.quant_map": torch.arange(16.0)}
            ),
            "not that of NF4",
        ),
        (
            lambda t: t.update(
                {
                    "model.layers.0.self_attn.o_proj.weight.quant_state.bitsandbytes__nf4": (
                        torch.tensor(list(b'{"quant_type": "fp4"}'), dtype=torch.uint8)
                    )
                }
            ),
            "was quantised as",
        ),
        (lambda t: t.update({"model.layers.0.stranger": torch.ones(3)}), "unknown tensors"),
    ],
)
def test_files_of_few_bits_that_are_damaged_are_one_line(change, match, tmp_path):
    save_pretrained(held("nf4"), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=match) as caught:
        from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


def test_other_ways_to_quantise_are_refused_by_name():
    for words in ({"quant_method": "gptq"}, "awq", {"quant_method": "bitsandbytes"}):
        with pytest.raises(CheckpointError, match="int8 and nf4 of bitsandbytes are"):
            quantisation_of({"quantization_config": words}, "config.json")
    with pytest.raises(CheckpointError, match="no multiple of 64"):
        join_codes([("x.weight", (3, 5))], HELD["nf4"], lambda name: torch.zeros(1), ())
    with pytest.raises(ConfigError, match="prune what they were made from"):
        narrowed(held("int8"), 0.5, "heads")


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_transformers_reads_our_codes_with_bitsandbytes(kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("bitsandbytes")
    model = held(kind)
    save_pretrained(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    weight = theirs.model.layers[0].mlp.down_proj.weight
    assert weight.dtype in (torch.int8, torch.uint8)
    with torch.no_grad():
        ours = model.logits(model(IDS))
        found = theirs(IDS).logits
    # Theirs multiplies int8 by int8, and in the type of its own choice.
    assert torch.corrcoef(torch.stack([ours.flatten(), found.flatten().float()]))[0, 1] > 0.999


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    path = tmp_path_factory.mktemp("quantised") / "pre"
    shape = ["--hidden-size", "64", "--heads", "2", "--layers", "1", "--vocab-size", "300"]
    common = ["--size", "tiny", "--data", "synthetic", "--quiet", "--steps", "3"]
    assert main(["rlhf", "pretrain", "--run", str(path), *shape, *common]) == 0
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_an_exported_folder_of_few_bits_generates_and_is_a_base_for_adapters_alone(
    kind, pretrained, tmp_path, capsys
):
    folder = tmp_path / "few"
    assert main(["export", str(pretrained), "--quantise", kind, "--out", str(folder)]) == 0
    assert f"weights in {kind}" in capsys.readouterr().out
    model, _ = load_model(folder)
    assert is_quantised(model)
    answer = ["--prompt", "the film", "--max-new-tokens", "3", "--json", f"{tmp_path}/out.json"]
    assert main(["rlhf", "generate", str(folder), *answer]) == 0
    tune = ["rlhf", "sft", "--base", str(folder), "--data", "synthetic", "--size", "tiny"]
    tune += ["--steps", "1", "--quiet"]
    assert main([*tune, "--run", f"{tmp_path}/plain"]) == 2
    assert "add adapters: --lora-rank 16" in capsys.readouterr().err
    assert main([*tune, "--run", f"{tmp_path}/tuned", "--lora-rank", "2"]) == 0
    assert not is_quantised(load_model(tmp_path / "tuned")[0])


def test_quantising_is_a_stage_whose_run_is_evaluated_exported_and_asked(
    pretrained, tmp_path, capsys
):
    texts = tmp_path / "texts.txt"
    texts.write_text("the film was good .\n\nthe plot was bad .\n")
    run = tmp_path / "int8"
    command = ["rlhf", "quantise", "--base", str(pretrained), "--weights", "int8"]
    assert main([*command, "--texts", str(texts), "--run", str(run), "--quiet"]) == 0
    table = json.loads((run / "table.json").read_text())
    assert [row["weights"] for row in table] == ["float32", "int8"]
    assert table[0]["bits_per_byte"] == pytest.approx(table[1]["bits_per_byte"], rel=0.02)
    assert table[1]["bytes"] < 0.75 * table[0]["bytes"]  # embeddings are half of so small a model
    capsys.readouterr()
    assert main(["eval", str(run)]) == 0
    assert "bits_per_byte" in capsys.readouterr().out
    assert main(["rlhf", "quantise", "--resume", str(run)]) == 0
    goes_on = f"to train on, add adapters: playout rlhf sft --base {run} --lora-rank 16\n"
    assert f"{run} is finished; {goes_on}" in capsys.readouterr().out
    assert main(["export", str(run), "--out", f"{tmp_path}/out"]) == 0
    assert is_quantised(load_model(tmp_path / "out")[0])
    assert main([*command, "--run", f"{tmp_path}/again", "--base", str(run)]) == 2
    assert "is quantised already" in capsys.readouterr().err
    other = [str(run), "--weights", "nf4"]
    tune = ["sft", "--data", "synthetic", "--size", "tiny", "--steps", "1", "--quiet"]
    tune += ["--lora-rank", "2", "--run", f"{tmp_path}/tuned"]
    for words in (["perplexity", *other, "--texts", str(texts)], [*tune, "--base", *other]):
        assert main(["rlhf", *words]) == 2
        said = f"error: {run} holds its weights in int8 already, which --weights nf4 would not"
        assert capsys.readouterr().err == f"{said} change: leave it out\n"
    assert not (tmp_path / "tuned").exists()
    assert is_quantised(load_model(run, weights=HELD["int8"])[0])


@pytest.mark.slow
def test_bits_a_byte_are_those_that_perplexity_and_a_suite_tell(pretrained, tmp_path):
    texts, run = tmp_path / "texts.txt", tmp_path / "nf4"
    texts.write_text("the film was good .\n\n" + "the plot was bad . " * 40 + "\n\nso bad .\n")
    command = ["rlhf", "quantise", "--base", str(pretrained), "--weights", "nf4", "--quiet"]
    assert main([*command, "--texts", str(texts), "--run", str(run)]) == 0
    for path, row in zip(
        (pretrained, run), json.loads((run / "table.json").read_text()), strict=True
    ):
        out, bits = tmp_path / "out.json", pytest.approx(row["bits_per_byte"], rel=1e-5)
        assert (
            main(["rlhf", "perplexity", str(path), "--texts", str(texts), "--json", str(out)]) == 0
        )
        assert json.loads(out.read_text())["bits_per_byte"] == bits
        assert main(["eval", str(path), "--suite", f"bytes:{texts}", "--json", str(out)]) == 0
        assert json.loads(out.read_text())["suites"]["bytes"]["value"] == bits


def test_scales_of_each_batch_are_for_board_networks(pretrained, tmp_path, capsys):
    line = ["export", str(pretrained), "--quantise", "dynamic", "--out", f"{tmp_path}/out"]
    assert main(line) == 2
    assert "of a language model int8, nf4" in capsys.readouterr().err
