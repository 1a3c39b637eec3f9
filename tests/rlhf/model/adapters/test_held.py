"""Frozen weights in few bits, and checkpoints without them."""

import copy

import pytest
import torch
from playout.agents.networks.precision.codes import nf4_values
from playout.errors import CheckpointError, ConfigError
from playout.rlhf.model.adapters.held import (
    HELD,
    QuantizedProjection,
    held_type,
    hold_weights,
    learned_state,
    learning_copy,
    load_learned,
)
from playout.rlhf.model.adapters.lora import LoRAConfig, add_adapters
from playout.rlhf.model.huggingface import to_hugging_face
from playout.rlhf.model.reference import Reference
from playout.rlhf.model.transformer import Projection, Transformer, TransformerConfig

IDS = torch.arange(2 * 20).view(2, 20)


def fresh(**changes):
    return Transformer(
        TransformerConfig(50, 64, 128, 2, 4, 2, max_position_embeddings=64, **changes)
    )


def test_nf4_has_the_sixteen_values_of_its_paper():
    # Dettmers et al. 2023, appendix E, to four digits.
    published = [-1.0, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0.0]
    published += [0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1.0]
    torch.testing.assert_close(nf4_values(), torch.tensor(published), rtol=0, atol=1e-4)


def test_every_weight_takes_the_nearest_value_of_its_block():
    base = Projection(64, 8)
    with torch.no_grad():
        base.weight.normal_(generator=torch.Generator().manual_seed(0))
    found = QuantizedProjection(base, HELD["nf4"]).dense()
    for row, plain in zip(found, base.weight.detach(), strict=True):
        scale = plain.abs().max()
        choices = nf4_values() * scale
        nearest = choices[(plain[:, None] - choices).abs().argmin(1)]
        torch.testing.assert_close(row, nearest, rtol=1e-6, atol=1e-6)
    eight = QuantizedProjection(base, HELD["int8"]).dense()
    step = base.weight.detach().abs().amax(1, keepdim=True) / 127
    assert ((eight - base.weight).abs() <= step / 2 + 1e-7).all()


@pytest.mark.parametrize(("kind", "bytes_a_weight"), [("int8", 1.1), ("nf4", 0.6)])
def test_a_quantised_base_learns_like_the_numbers_that_it_stands_for(kind, bytes_a_weight):
    """Gradients of the adapters equal those above the plain numbers, and the codes are small."""
    held, plain = fresh(), fresh()
    for model in (held, plain):
        trained = add_adapters(model, LoRAConfig(rank=2), seed=1)
        with torch.no_grad():
            for parameter in trained:
                parameter.add_(0.05)
    hold_weights(held, HELD[kind])
    for block, other in zip(held.blocks, plain.blocks, strict=True):
        for name, layer in block.named_children():
            getattr(other, name).base.weight.data = layer.base.dense()
    hold_weights(plain, torch.bfloat16)  # what is not a projection is bfloat16 beside codes
    for block, other in zip(held.blocks, plain.blocks, strict=True):
        for name, layer in block.named_children():
            getattr(other, name).base.weight.data = layer.base.dense()
    sizes = [(b.numel() * b.element_size(), b.shape) for n, b in held.named_buffers() if "." in n]
    weights = sum(p.base.shape[0] * p.base.shape[1] for b in held.blocks for p in b.children())
    assert sum(size for size, _ in sizes) < bytes_a_weight * weights
    grads = []
    for model in (held, plain):
        model(IDS).square().mean().backward()
        grads.append([p.grad for p in model.parameters() if p.requires_grad])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_quantised_base_is_its_own_reference_and_is_written_as_plain_numbers():
    model = fresh()
    trained = add_adapters(model, LoRAConfig(rank=2))
    hold_weights(model, HELD["int8"])
    before = model(IDS).detach()
    with torch.no_grad():
        trained[1].add_(0.1)
    with Reference(model).off():
        assert torch.equal(model(IDS), before)
    assert not torch.allclose(model(IDS), before)
    written = to_hugging_face(model)
    first = model.blocks[0].qkv_proj
    assert torch.equal(
        written["model.layers.0.self_attn.q_proj.weight"], first.dense()[:64].detach()
    )


def test_a_reference_and_a_critic_of_few_bits():
    model = fresh()
    held = Reference(model, weights=HELD["nf4"]).model
    exact, rounded = model(IDS), held(IDS)
    assert torch.corrcoef(torch.stack([exact.flatten(), rounded.flatten()]))[0, 1] > 0.98
    critic = learning_copy(held)
    assert all(p.requires_grad and p.dtype == torch.float32 for p in critic.parameters())
    torch.testing.assert_close(critic(IDS), rounded, rtol=1e-3, atol=1e-3)


def test_a_matrix_that_nf4_cannot_cut_and_an_unknown_type_are_refused():
    with pytest.raises(ConfigError, match="NF4 holds weights by 64"):
        QuantizedProjection(Projection(30, 3), HELD["nf4"])
    with pytest.raises(ConfigError, match="held as float32, bfloat16, int8, nf4"):
        held_type("int3")


def test_a_checkpoint_holds_what_learns_and_old_ones_with_all_weights_are_read():
    model = fresh()
    add_adapters(model, LoRAConfig(rank=2), seed=1)
    state = learned_state(model)
    assert all("lora_" in name for name in state) and len(state) == 2 * 2 * 4
    other = fresh()
    add_adapters(other, LoRAConfig(rank=2), seed=5)
    load_learned(other, {**state, "layers.0.qkv_proj.weight": torch.zeros(3)})
    assert torch.equal(other(IDS), model(IDS))
    with pytest.raises(CheckpointError, match="lacks layers"):
        load_learned(other, dict(list(state.items())[1:]))
    wrong = copy.deepcopy(state)
    name = next(iter(wrong))
    wrong[name] = wrong[name][:1]
    with pytest.raises(CheckpointError, match=r"has shape \[1, 64\] in the checkpoint"):
        load_learned(other, wrong)
