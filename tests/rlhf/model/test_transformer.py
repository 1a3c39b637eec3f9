"""The Transformer against plain formulas: layers, gradients, masks, heads, adapters."""

import math

import pytest
import torch
from playout.errors import ConfigError
from playout.rlhf.model.adapters.lora import LoRAConfig, adapters_off, add_adapters, merge_adapters
from playout.rlhf.model.heads import MaskedTokenHead, ScalarHead, scores
from playout.rlhf.model.layers.attention import attention
from playout.rlhf.model.layers.elementwise import fold_gain, rms_normalize, rotary_heads, swiglu
from playout.rlhf.model.layers.lm_head import cross_entropy, token_logprobs
from playout.rlhf.model.transformer import Transformer, TransformerConfig, autocast, packed_mask
from torch.nn import functional as F


def small(**changes):
    fields = dict(  # noqa: C408
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=160,
    )
    return TransformerConfig(**{**fields, **changes})


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("threads", [1, 2])
def test_compiled_layers_equal_their_formulas_and_gradients(dtype, threads, monkeypatch):
    """Against float64, to the rounding of the type, alone and cut among threads."""
    monkeypatch.setattr("playout.rlhf.model.layers.elementwise.MIN_SHARED", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    angles = draw(2, 1, 5, 3, seed=3).detach()
    tables = {torch.float64: (angles.cos(), angles.sin())}
    tables[dtype] = tuple(table.float() for table in tables[torch.float64])

    def rotate(x):
        heads = rotary_heads(x, *tables[x.dtype], num_heads=4, num_kv_heads=2)
        return torch.cat([part.flatten() for part in heads])

    for function in (swiglu, rotate, lambda x: rms_normalize(x, 1e-5)):
        x = (3 * draw(2, 5, 48).detach()).to(dtype).requires_grad_()
        wide = x.detach().double().requires_grad_()
        ours, theirs = function(x), function(wide)
        grad = draw(*ours.shape, seed=1).detach().to(dtype)
        (mine,) = torch.autograd.grad(ours, x, grad)
        (right,) = torch.autograd.grad(theirs, wide, grad.double())
        close = 1e-5 if dtype == torch.float32 else 0.03
        torch.testing.assert_close(ours.double(), theirs, rtol=close, atol=close)
        torch.testing.assert_close(mine.double(), right, rtol=close, atol=close)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gain_folds_into_a_weight_with_the_gradients_of_both(dtype, monkeypatch):
    """Against float64; and to the bit the same however the rows are cut."""
    monkeypatch.setattr("playout.rlhf.model.layers.elementwise.MIN_SHARED", 1)
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        weight, gain = draw(150, 7).detach().float(), draw(7, seed=1).detach().float()
        grad = draw(150, 7, seed=2).detach().to(dtype)
        pair = weight.requires_grad_(), gain.requires_grad_()
        out = fold_gain(*pair, dtype)
        found.append((out, *torch.autograd.grad(out, pair, grad)))
    wide = weight.detach().double().requires_grad_(), gain.detach().double().requires_grad_()
    right = fold_gain(*wide, torch.float64)
    right = right, *torch.autograd.grad(right, wide, grad.double())
    for place, (mine, theirs) in enumerate(zip(found[0], right, strict=True)):
        close = 0.01 if place == 0 and dtype == torch.bfloat16 else 1e-5
        torch.testing.assert_close(mine.double(), theirs, rtol=close, atol=close)
        assert torch.equal(mine, found[1][place]) and torch.equal(mine, found[2][place])


def test_compiled_layers_take_extreme_numbers_as_torch_does():
    inf, nan = float("inf"), float("nan")
    gate = torch.tensor([-1e4, -90.0, -1.0, 0.0, 1.0, 90.0, 1e4, nan])
    x = torch.cat([gate, torch.ones(8)])[None]
    torch.testing.assert_close(
        swiglu(x)[0], torch.nn.functional.silu(gate), equal_nan=True, rtol=1e-6, atol=1e-30
    )
    assert torch.isnan(swiglu(x.bfloat16())[0, -1])
    assert torch.isnan(rms_normalize(torch.tensor([[1.0, nan]]), 1e-5)).all()
    assert torch.isnan(rms_normalize(torch.tensor([[1.0, inf]]), 1e-5)).any()
    assert torch.equal(rms_normalize(torch.zeros(2, 3), 1e-5), torch.zeros(2, 3))


def test_normalising_rounds_to_bfloat16_as_torch_does():
    x = draw(64, 256, dtype=torch.float32).detach()
    ours = rms_normalize(x, 1e-5, torch.bfloat16)
    plain = (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)).bfloat16()
    assert (ours != plain).float().mean() < 1e-3


def test_swiglu_and_rotation_have_the_gradients_of_finite_differences():
    assert torch.autograd.gradcheck(swiglu, (draw(4, 10),))
    angles = draw(3, 2, seed=3).detach()

    def rotate(qkv):
        return rotary_heads(qkv, angles.cos(), angles.sin(), num_heads=2, num_kv_heads=1)

    assert torch.autograd.gradcheck(rotate, (draw(2, 3, 16),))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("masked", ["none", "padding", "packed"])
def test_attention_in_float64_joins_masks_as_the_library_is_told(causal, masked):
    length = 130
    q, k, v = draw(2, 4, length, 8), draw(2, 2, length, 8, seed=1), draw(2, 2, length, 8, seed=2)
    mask = None
    if masked == "padding":
        mask = (torch.arange(length) < torch.tensor([[100], [130]]))[:, None, None]
    elif masked == "packed":
        mask = packed_mask((torch.arange(length) // 47 + 1).expand(2, -1))
    ours = attention(q, k, v, causal=causal, mask=mask)
    full = torch.ones(length, length, dtype=torch.bool)
    full = full.tril() if causal else full
    full = full if mask is None else full & mask
    theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=full, enable_gqa=True)
    torch.testing.assert_close(ours, theirs)
    grad = torch.ones_like(ours) * torch.arange(8.0)
    for a, b in zip(
        torch.autograd.grad(ours, (q, k, v), grad),
        torch.autograd.grad(theirs, (q, k, v), grad),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_chunked_cross_entropy_equals_the_whole_one_and_ignores_unlabelled_rows():
    hidden, weight = draw(2, 9, 6, dtype=torch.float32), draw(11, 6, seed=1, dtype=torch.float32)
    targets = torch.arange(18).view(2, 9) % 11
    targets[0, :4] = -100
    ours, count = cross_entropy(hidden, weight, targets, chunk=4)
    theirs = F.cross_entropy((hidden @ weight.T).flatten(0, 1), targets.flatten())
    assert count == 14
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(
        torch.autograd.grad(3 * ours, (hidden, weight)),
        torch.autograd.grad(3 * theirs, (hidden, weight)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_cross_entropy_of_an_impossible_target_is_finite():
    hidden = torch.tensor([[1000.0]])
    loss, _ = cross_entropy(hidden, torch.tensor([[1.0], [-1.0]]), torch.tensor([1]))
    assert loss == 2000.0


def test_token_logprobs_and_entropy_have_the_gradients_of_the_whole_softmax():
    hidden, weight = draw(9, 6, dtype=torch.float32), draw(11, 6, seed=1, dtype=torch.float32)
    targets, temperature = torch.arange(9), 0.7
    logprobs, entropy = token_logprobs(hidden, weight, targets, temperature=temperature, chunk=4)
    log_p = ((hidden @ weight.T) / temperature).log_softmax(-1)
    plain = log_p.gather(1, targets[:, None])[:, 0], -(log_p.exp() * log_p).sum(-1)
    torch.testing.assert_close((logprobs, entropy), plain)
    mix = torch.linspace(-1, 1, 9)
    for a, b in zip(
        torch.autograd.grad((logprobs * mix + entropy * mix.square()).sum(), (hidden, weight)),
        torch.autograd.grad((plain[0] * mix + plain[1] * mix.square()).sum(), (hidden, weight)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_initial_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    first = Transformer(small(), seed=3)
    torch.manual_seed(6)
    again, other = Transformer(small(), seed=3), Transformer(small(), seed=4)
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name))
    assert not torch.equal(first.embed_tokens, other.embed_tokens)


def test_padding_on_the_right_changes_nothing_before_it():
    model = Transformer(small())
    ids = torch.arange(24).view(2, 12)
    padded = torch.cat([ids, torch.zeros(2, 70, dtype=torch.long)], dim=1)
    torch.testing.assert_close(model(padded)[:, :12], model(ids))


def test_packed_texts_do_not_see_each_other():
    model = Transformer(small())
    a, b = torch.arange(7), torch.arange(20, 31)
    segments = torch.tensor([[1] * 7 + [2] * 11])
    positions = torch.cat([torch.arange(7), torch.arange(11)])[None]
    packed = model(torch.cat([a, b])[None], positions=positions, mask=packed_mask(segments))
    torch.testing.assert_close(packed[:, :7], model(a[None]))
    torch.testing.assert_close(packed[:, 7:], model(b[None]))


def test_an_encoder_sees_both_sides_and_a_decoder_only_the_past():
    ids = torch.arange(10)[None]
    changed = ids.clone()
    changed[0, 9] = 50
    decoder, encoder = Transformer(small()), Transformer(small(causal=False))
    assert torch.equal(decoder(ids)[:, :9], decoder(changed)[:, :9])
    assert not torch.allclose(encoder(ids)[:, :9], encoder(changed)[:, :9])


def test_scores_read_the_last_real_token():
    for causal in (True, False):
        model = Transformer(small(causal=causal))
        head = ScalarHead(model.config, seed=1)
        ids = torch.arange(12).view(1, 12)
        padded = torch.cat([ids, torch.full((1, 9), 3)], dim=1)
        lengths = torch.tensor([12])
        torch.testing.assert_close(
            scores(model, head, padded, lengths), scores(model, head, ids, lengths)
        )


def test_heads_begin_as_their_papers_say():
    config = small(hidden_size=64)
    assert not ScalarHead(config, zero=True).weight.any()
    weight = ScalarHead(config, 400).weight
    assert math.isclose(float(weight.detach().std()), 65**-0.5, rel_tol=0.05)
    states = MaskedTokenHead(config)(torch.ones(2, 3, 64), torch.ones(64))
    assert states.shape == (2, 3, 64)


def test_bfloat16_autocast_stays_near_float32():
    model = Transformer(small())
    ids = torch.arange(60).view(2, 30)
    with autocast(torch.bfloat16):
        low = model(ids)
    assert low.dtype == torch.bfloat16
    assert (low.float() - model(ids)).abs().max() < 0.1


def test_adapters_change_nothing_at_first_and_merge_into_equal_weights():
    model = Transformer(small())
    ids = torch.arange(20).view(2, 10)
    before = model(ids)
    trained = add_adapters(model, LoRAConfig(rank=2), seed=1)
    assert len(trained) == 2 * 2 * 4
    assert torch.equal(model(ids), before)
    assert sum(p.requires_grad for p in model.parameters()) == len(trained)
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.1)
    after = model(ids)
    assert not torch.allclose(after, before)
    with adapters_off(model):
        assert torch.equal(model(ids), before)
    assert torch.equal(model(ids), after)
    merge_adapters(model)
    torch.testing.assert_close(model(ids), after)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    "changes",
    [
        {"num_key_value_heads": 3},
        {"hidden_size": 30},
        {"num_hidden_layers": 0},
        {"max_position_embeddings": 0},
        {"max_position_embeddings": -5},
        {"max_position_embeddings": 10**12},
        {"hidden_size": 36, "num_attention_heads": 4},
    ],
)
def test_impossible_shapes_are_refused(changes):
    with pytest.raises(ConfigError):
        small(**changes)


def test_text_longer_than_the_context_is_refused():
    with pytest.raises(ConfigError, match="context of 160"):
        Transformer(small())(torch.zeros(1, 161, dtype=torch.long))
