"""Pruning language models: heads and channels removed, zeros that stay zero, runs that resume."""

import shutil
from dataclasses import replace

import pytest
import torch
from playout.cli import main
from playout.errors import ConfigError
from playout.rlhf.model.adapters.narrowed import narrowed
from playout.rlhf.model.folder import load_model
from playout.rlhf.model.transformer import Transformer, TransformerConfig

IDS = torch.arange(2 * 20).view(2, 20)
SHAPE = TransformerConfig(50, 48, 64, 2, 6, 3, max_position_embeddings=64)
SHAPES = {
    "plain": SHAPE,
    "biases": replace(SHAPE, attention_bias=True, output_bias=True, mlp_bias=True),
    "normalised": replace(SHAPE, qk_norm=True, model_type="qwen3", tie_word_embeddings=False),
    "experts": replace(SHAPE, num_experts=3, num_experts_per_tok=2, model_type="mixtral"),
}


def fresh(config=SHAPE, seed=0):
    model = Transformer(config, seed=seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(6.0 if parameter.dim() > 1 else 1.0)
            if name.endswith("bias"):
                parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(len(name)))
    return model


@pytest.mark.parametrize("name", SHAPES)
def test_heads_and_channels_that_do_nothing_are_the_ones_that_go(name):
    """Their outputs are made zero first, so that nothing may change when they are gone."""
    for what in ("heads", "channels"):
        if what == "channels" and name == "biases":
            continue  # a bias acts through the channel that it belongs to
        model = fresh(SHAPES[name])
        with torch.no_grad():
            for number, block in enumerate(model.blocks):
                if what == "heads":  # two query heads of eight numbers share a key head
                    gone = slice(16 * number, 16 * number + 16)
                    block.o_proj.weight[:, gone] = 0
                elif block.experts is None:
                    block.down_proj.weight[:, number : number + 32] = 0
                else:
                    down = block.experts.down_proj.weight.view(3, 48, 64)
                    for expert in range(3):
                        down[expert, :, expert * 9 : expert * 9 + 32] = 0
        small = narrowed(model, 1 / 3 if what == "heads" else 0.5, what)
        config = small.config
        sizes = config.num_attention_heads, config.num_key_value_heads, config.intermediate_size
        assert sizes == ((4, 2, 64) if what == "heads" else (6, 3, 32))
        assert config.head_dim == 8
        torch.testing.assert_close(small(IDS), model(IDS), atol=1e-4, rtol=1e-4)
        assert all(p.requires_grad for p in small.parameters())


def test_the_least_heads_go_first_and_at_least_one_stays():
    model = fresh()
    with torch.no_grad():
        for block in model.blocks:
            block.o_proj.weight.view(48, 3, 16)[:, 1] *= 0.01
    small = narrowed(model, 0.01, "heads")
    assert small.config.num_key_value_heads == 2
    kept = torch.cat(
        [model.blocks[0].o_proj.weight[:, :16], model.blocks[0].o_proj.weight[:, 32:]], 1
    )
    assert torch.equal(small.blocks[0].o_proj.weight, kept)
    assert narrowed(model, 0.99, "heads").config.num_key_value_heads == 1
    assert narrowed(model, 0.99, "channels").config.intermediate_size == 1
    with pytest.raises(ConfigError, match="one key head has none to lose"):
        narrowed(narrowed(model, 0.99, "heads"), 0.5, "heads")
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        narrowed(model, 1.0, "heads")
    with pytest.raises(ConfigError, match="can be removed, not 'layers'"):
        narrowed(model, 0.5, "layers")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("pruning") / "base"
    shape = ["--hidden-size", "32", "--heads", "4", "--kv-heads", "2", "--layers", "2"]
    common = ["--size", "tiny", "--data", "synthetic", "--quiet", "--steps", "3"]
    assert (
        main(["rlhf", "pretrain", "--run", str(path), *shape, "--vocab-size", "300", *common]) == 0
    )
    return path


COMMON = ["--size", "tiny", "--data", "synthetic", "--quiet", "--dtype", "float32", "--steps", "3"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "pattern", "share"),
    [
        ("pretrain", "unstructured", 0.6),
        ("pretrain", "2:4", 0.5),
        ("sft", "heads", 0.5),
        ("pretrain", "channels", 0.25),
    ],
)
def test_a_pruned_model_learns_on_and_resumes_as_if_it_had_not_stopped(
    base, stage, pattern, share, tmp_path, capsys
):
    command = ["rlhf", stage, "--base", str(base), *COMMON]
    command += ["--sparsity", str(share), "--pattern", pattern]
    assert main([*command, "--run", f"{tmp_path}/whole"]) == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "model")
    assert capsys.readouterr().out == ""
    assert main(["rlhf", stage, "--resume", f"{tmp_path}/parts", "--from-step", "1"]) == 0
    said = capsys.readouterr().out
    (before, _), (whole, _), (parts, _) = (
        load_model(path) for path in (base, tmp_path / "whole", tmp_path / "parts")
    )
    for ours, again in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(ours, again)
    left = {
        "heads": "each layer has 2 heads, key heads 1",
        "channels": f"feed-forward networks are {whole.config.intermediate_size} wide",
    }.get(pattern, f"{100 * share:.1f} % of the layers' weights are zero")
    assert f"\npruned ({pattern}): {left}\n" in said
    count = sum(p.numel() for p in before.parameters())
    if pattern == "heads":
        assert (whole.config.num_attention_heads, whole.config.num_key_value_heads) == (2, 1)
    elif pattern == "channels":
        assert whole.config.intermediate_size == before.config.intermediate_size * 3 // 4 // 8 * 8
    else:
        assert sum(p.numel() for p in whole.parameters()) == count
        for name, parameter in whole.layers.named_parameters():
            zeros = float((parameter == 0).float().mean())
            assert zeros == pytest.approx(share if parameter.dim() > 1 else 0.0, abs=0.01), name
        moved = whole.blocks[0].down_proj.weight - before.blocks[0].down_proj.weight
        kept = whole.blocks[0].down_proj.weight != 0
        assert moved[kept].abs().max() > 0
        assert not (whole.embed_tokens == 0).all(1).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sparsity", "0.3", "--pattern", "2:4"], "0.5 for the pattern 2:4"),
        (["--sparsity", "1.5"], "above 0 and below 1"),
        (["--pattern", "heads"], "--pattern heads needs --sparsity"),
        (["--sparsity", "0.5", "--lora-rank", "2"], "prune without --lora-rank"),
    ],
)
def test_pruning_that_means_nothing_is_refused_in_one_line(
    base, options, message, tmp_path, capsys
):
    command = ["rlhf", "sft", "--base", str(base), *COMMON, "--run", f"{tmp_path}/run", *options]
    assert main(command) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_new_model_has_nothing_to_prune(tmp_path, capsys):
    command = ["rlhf", "pretrain", *COMMON, "--sparsity", "0.5", "--run", f"{tmp_path}/run"]
    assert main(command) == 2
    assert "nothing to prune in a new model" in capsys.readouterr().err
