"""Adapters: where they are, what they add, dropout, and activations that are computed twice."""

import pytest
import torch
from playout.errors import ConfigError
from playout.rlhf.model.adapters.lora import (
    ALL_LINEAR,
    LoRAConfig,
    add_adapters,
    dropout_at,
    linear_layers,
    merge_adapters,
    parse_targets,
)
from playout.rlhf.model.transformer import Transformer, TransformerConfig

IDS = torch.arange(2 * 20).view(2, 20)


def model_with(**settings):
    """A model with moved adapters, and their parameters."""
    model = Transformer(TransformerConfig(50, 48, 80, 3, 6, 2, max_position_embeddings=64))
    trained = add_adapters(model, LoRAConfig(rank=2, **settings), seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in trained:
            parameter.normal_(0, 0.1, generator=generator)
    return model, trained


@pytest.mark.parametrize(
    "targets", ["", "all-linear", "q_proj,v_proj", "k_proj, down_proj", "qkv_proj,up_proj"]
)
def test_adapters_on_any_layers_equal_the_weights_that_they_merge_into(targets):
    model, _ = model_with(targets=parse_targets(targets))
    before = model(IDS)
    merge_adapters(model)
    torch.testing.assert_close(model(IDS), before, rtol=1e-4, atol=1e-5)


def test_a_named_linear_layer_alone_changes():
    plain = Transformer(TransformerConfig(50, 48, 80, 3, 6, 2, max_position_embeddings=64))
    model, _ = model_with(targets=("v_proj", "gate_proj"))
    for index, block in enumerate(model.blocks):
        for name, layers in linear_layers(block).items():
            change = getattr(block, name).dense() - getattr(plain.blocks[index], name).dense()
            for layer, rows in layers.items():
                assert bool(change[rows].any()) == (layer in ("v_proj", "gate_proj")), layer


def test_each_linear_layer_has_a_rank_of_its_own():
    model, trained = model_with(targets=ALL_LINEAR)
    assert len(trained) == 2 * 7 * 3
    block = model.blocks[0]
    change = (block.qkv_proj.dense() - block.qkv_proj.base.dense()).detach()
    ranks = {
        name: int(torch.linalg.matrix_rank(change[rows], rtol=1e-4))
        for name, rows in linear_layers(block)["qkv_proj"].items()
    }
    assert ranks == {"q_proj": 2, "k_proj": 2, "v_proj": 2}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"targets": ("lm_head",)}, "LoRA targets are qkv_proj"),
        ({"targets": ()}, "LoRA targets are"),
        ({"targets": ("qkv_proj", "v_proj")}, "name v_proj twice"),
        ({"alpha": 0.0}, "alpha must be above 0"),
        ({"dropout": 1.0}, "dropout must be from 0 to below 1"),
        ({"rank": 0}, "rank must be at least 1"),
    ],
)
def test_adapters_that_cannot_be_are_refused_in_a_line(settings, message):
    with pytest.raises(ConfigError, match=message):
        LoRAConfig(**settings)


def test_dropout_is_there_in_training_steps_only_and_repeats_by_their_numbers():
    model, _ = model_with(dropout=0.5)
    plain = model(IDS)
    with torch.no_grad(), dropout_at([model], [3, 7]):
        first = model(IDS)
    state = torch.random.get_rng_state()
    with dropout_at([model], [3, 7]):
        again = model(IDS)
    assert torch.equal(torch.random.get_rng_state(), state)
    with dropout_at([model], [3, 8]):
        other = model(IDS)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other) and not torch.allclose(first, plain)
    assert torch.equal(model(IDS), plain)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_activations_computed_twice_give_the_same_gradients(dropout):
    """And less is kept: the tensors that the forward pass saves are counted."""
    model, trained = model_with(dropout=dropout)
    found, kept = [], []
    for model.recompute in (False, True):
        saved = []

        def pack(x, saved=saved):
            saved.append(x.numel())
            return x

        for parameter in trained:
            parameter.grad = None
        with dropout_at([model], [1, 1]):
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
                loss = model(IDS).square().mean()
            kept.append(sum(saved))
            loss.backward()
        found.append([parameter.grad.clone() for parameter in trained])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert kept[1] < 0.5 * kept[0]
