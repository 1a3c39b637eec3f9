"""Adapters: where they are, what they add, dropout, and activations that are computed twice."""

from dataclasses import replace

import pytest
import torch
from playout.errors import ConfigError
from playout.rlhf.model.adapters.held import QuantizedProjection, hold_weights
from playout.rlhf.model.adapters.lora import (
    ALL_LINEAR,
    LoRAConfig,
    adapters_off,
    add_adapters,
    dropout_at,
    linear_layers,
    merge_adapters,
    parse_targets,
)
from playout.rlhf.model.layers.lm_head import cross_entropy
from playout.rlhf.model.transformer import Transformer, TransformerConfig

IDS = torch.arange(2 * 20).view(2, 20)


SHAPE = TransformerConfig(50, 48, 80, 3, 6, 2, max_position_embeddings=64)
MIXTURE = {"num_experts": 3, "num_experts_per_tok": 2, "model_type": "mixtral"}
MIXED = replace(SHAPE, tie_word_embeddings=False, **MIXTURE)


def model_with(shape=SHAPE, **settings):
    """A model with moved adapters, and their parameters."""
    model = Transformer(shape)
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
        ({"targets": ("embed_tokens",)}, "LoRA targets are qkv_proj"),
        ({"targets": ("router", "q_proj"), "dropout": 0.1}, "adapters on router drop no inputs"),
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


@pytest.mark.parametrize(
    ("targets", "count"),
    [("lm_head", 1), ("router", 3), ("experts", 3 * 9), ("q_proj,experts,router,lm_head", 34)],
)
def test_experts_their_router_and_the_output_matrix_take_adapters_by_name(targets, count):
    """They learn, may be switched off, and merge into the weights that they stand above."""
    model, trained = model_with(MIXED, targets=parse_targets(targets))
    assert len(trained) == 2 * count
    model.logits(model(IDS)).square().mean().backward()
    assert all(one.grad is not None and one.grad.abs().max() > 0 for one in trained)
    assert {p for p in model.parameters() if p.requires_grad} == set(trained)
    with torch.no_grad():
        moved = model.logits(model(IDS))
        with adapters_off(model):
            torch.testing.assert_close(
                model.logits(model(IDS)), (base := Transformer(MIXED)).logits(base(IDS))
            )
        merge_adapters(model)
        assert isinstance(model.lm_head, torch.nn.Parameter)
        assert [name for name, _ in model.named_parameters()] == [
            name for name, _ in base.named_parameters()
        ]
        torch.testing.assert_close(model.logits(model(IDS)), moved, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(moved, base.logits(base(IDS)))


def test_an_adapter_of_the_output_matrix_has_the_gradient_of_its_product():
    model, (a, b) = model_with(MIXED, targets=("lm_head",))
    hidden = model(IDS).detach()
    found = []
    for weight in (
        model.head_weight(torch.float32),
        (model.lm_head.base.weight + 8 * b @ a) * model.norm,
    ):
        a.grad = b.grad = None
        cross_entropy(hidden, weight, IDS)[0].backward()
        found.append((a.grad, b.grad))
    torch.testing.assert_close(found[0], found[1])


def test_what_a_model_does_not_have_takes_no_adapters():
    for shape, targets, said in (
        (SHAPE, ("q_proj", "lm_head"), "lm_head is tied"),
        (SHAPE, ("q_proj", "experts"), "the model has no experts"),
        (MIXED, ("up_proj",), "name them experts"),
    ):
        model = Transformer(shape)
        with pytest.raises(ConfigError, match=said):
            add_adapters(model, LoRAConfig(targets=targets))
        assert all(p.requires_grad for p in model.parameters())  # as it was


def test_an_adapted_router_and_output_matrix_stay_plain_below_few_bits():
    model, _ = model_with(MIXED, targets=("experts", "router", "lm_head"))
    hold_weights(model, torch.int8)
    experts = model.blocks[0].experts
    assert isinstance(experts.gate_up_proj.base, QuantizedProjection)
    for plain in (experts.router.base, model.lm_head.base):
        assert not isinstance(plain, QuantizedProjection)
