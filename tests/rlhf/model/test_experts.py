"""Mixtures of experts: routing against a loop, gradients, balance, runs, files, adapters."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from playout.cli import main
from playout.errors import ConfigError
from playout.rlhf.generation._decode import SmallDecoder
from playout.rlhf.generation.decoder import Decoder
from playout.rlhf.model.adapters.folded import fold, step_arrays
from playout.rlhf.model.adapters.held import QuantizedProjection, hold_weights
from playout.rlhf.model.adapters.lora import LoRAConfig, add_adapters
from playout.rlhf.model.experts.layer import routes_of
from playout.rlhf.model.experts.mixing import _rooms, mix
from playout.rlhf.model.experts.routing import route, router_losses, with_balance
from playout.rlhf.model.folder import load_model
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from torch.nn import functional as F

SHAPE = TransformerConfig(
    vocab_size=97,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    max_position_embeddings=48,
    model_type="mixtral",
    num_experts=5,
    num_experts_per_tok=2,
)
IDS = torch.arange(80).view(2, 40) * 7 % 97


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def loud(config=SHAPE, seed=0):
    """A model whose router has opinions."""
    model = Transformer(config, seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8.0 if parameter.dim() > 1 else 1.0)
    return model


def by_loop(x, logits, gate_up, down, count, normalise):
    """One token after the other, one expert after the other."""
    rows = []
    for token, scores in zip(x, logits, strict=True):
        probabilities = torch.exp(scores - scores.max()) / torch.exp(scores - scores.max()).sum()
        best = sorted(range(len(scores)), key=lambda e: -float(scores[e].detach()))[:count]
        total = sum(probabilities[e] for e in best) if normalise else 1.0
        row = torch.zeros_like(token)
        for expert in best:
            gate, up = (gate_up[expert] @ token).chunk(2)
            inner = gate * torch.sigmoid(gate) * up
            row = row + probabilities[expert] / total * (down[expert] @ inner)
        rows.append(row)
    return torch.stack(rows)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(("experts", "count"), [(6, 2), (3, 3), (4, 1)])
def test_tokens_sorted_by_expert_give_what_a_loop_gives_forwards_and_backwards(
    experts, count, normalise, dtype, monkeypatch
):
    monkeypatch.setattr("playout.rlhf.model.layers.elementwise.MIN_SHARED", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    x, logits = draw(23, 40), draw(23, experts, seed=1)
    gate_up, down = draw(experts, 12, 40, seed=2), draw(experts, 40, 6, seed=3)
    if experts == 6:  # one that nobody chooses
        logits = logits - 50 * F.one_hot(torch.tensor(4), 6)
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    kinds = (dtype, exact, dtype, dtype)
    ours = [
        part.detach().to(kind).requires_grad_()
        for part, kind in zip((x, logits, gate_up, down), kinds, strict=True)
    ]
    theirs = [part.detach().double().requires_grad_() for part in ours]
    push = draw(23, 40, seed=4).detach().to(dtype)
    expected = by_loop(*theirs, count, normalise)
    right = torch.autograd.grad(expected, theirs, push.double(), allow_unused=True)
    close = {torch.float64: 1e-7, torch.float32: 2e-5, torch.bfloat16: 0.03}[dtype]
    # All experts as one product with equal room, and each by itself.
    for alone in (1 << 40, 0):
        monkeypatch.setattr("playout.rlhf.model.experts.mixing.ALONE", alone)
        weights, chosen = route(ours[1], count, normalise=normalise)
        found = mix(ours[0], weights, chosen, *ours[2:])
        mine = torch.autograd.grad(found, ours, push)
        for got, wanted in zip((found, *mine), (expected, *right), strict=True):
            wanted = torch.zeros_like(got) if wanted is None else wanted
            apart = (got.double() - wanted.double()).abs().max()
            assert apart <= close * max(1.0, float(wanted.detach().abs().max()))


def test_the_compiled_choice_of_experts_has_the_gradients_of_its_formulas():
    push, found = draw(9, 3, seed=2).detach(), []
    for dtype in (torch.float64, torch.float32):
        logits = (3 * draw(9, 7)).detach().to(dtype).requires_grad_()
        weights, chosen = route(logits, 3)
        losses = router_losses([logits], 3)
        total = (weights * push.to(dtype)).sum() + losses.balance + 0.1 * losses.z
        (by_logits,) = torch.autograd.grad(total, logits)
        found.append([weights, chosen, losses.balance, losses.z, losses.busiest, by_logits])
    for exact, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled.to(exact.dtype), exact, rtol=1e-5, atol=1e-6)


def test_experts_are_chosen_where_logits_are_equal_or_no_numbers():
    nan, inf = float("nan"), float("inf")
    rows = [[1.0, 2.0, 2.0, 2.0], [nan, 1.0, 2.0, 3.0], [inf, 0.0, 0.0, 0.0], [-inf] * 4]
    weights, chosen = route(torch.tensor(rows), 3)
    assert chosen.tolist() == [[1, 2, 3], [0, 1, 2], [0, 1, 2], [0, 1, 2]]
    torch.testing.assert_close(weights[0], torch.full((3,), 1 / 3))
    assert weights[1:].isnan().all()


def test_a_step_in_bfloat16_meets_few_sizes_of_products():
    """For each new size of rows the library compiles a kernel, which takes milliseconds."""
    spread, alike = [], []
    for seed in range(40):
        sizes = torch.randint(1, 900, (8,), generator=torch.Generator().manual_seed(seed))
        for numbers, found in ((1 << 30, spread), (1, alike)):
            rooms = _rooms(sizes.tolist(), torch.empty(0, dtype=torch.bfloat16), numbers)
            assert all(room >= size for room, size in zip(rooms, sizes.tolist(), strict=True))
            assert sum(rooms) <= 1.13 * float(sizes.sum()) + 8 * 16 or numbers == 1
            found.append(rooms)
    assert len({room for rooms in spread for room in rooms}) < 32
    assert all(len(set(rooms)) == 1 for rooms in alike)
    assert _rooms([3, 0, 7], torch.empty(0), 1) == [3, 0, 7]


def test_a_few_tokens_without_a_gradient_go_another_way_to_the_same_result():
    x, logits = draw(2, 8).detach(), draw(2, 9, seed=1).detach()
    gate_up, down = draw(9, 12, 8, seed=2).detach(), draw(9, 8, 6, seed=3).detach()
    weights, chosen = route(logits, 2)
    with torch.no_grad():
        found = mix(x, weights, chosen, gate_up, down)
    torch.testing.assert_close(found, by_loop(x, logits, gate_up, down, 2, True))


def test_the_gradient_of_a_mixture_and_its_losses_is_that_of_finite_differences():
    mixture = loud().double().blocks[0].experts
    names = ["router.weight", "gate_up_proj.weight", "down_proj.weight"]
    gain = 1 + 0.1 * draw(16, seed=5).detach()

    def total(x, *values):
        with routes_of(mixture) as routes:
            out = torch.func.functional_call(
                mixture, dict(zip(names, values, strict=True)), (x[None], gain)
            )
        return with_balance(out.square().mean(), routes, SHAPE)[0]

    inputs = [dict(mixture.named_parameters())[name].detach().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(total, (draw(7, 16), *inputs), fast_mode=True)


def test_the_balance_is_one_where_experts_are_used_alike_and_grows_to_the_worst():
    even = torch.eye(4).repeat(3, 1) * 1e-4
    assert float(router_losses([even], 1).balance) == pytest.approx(1.0, abs=1e-4)
    assert float(router_losses([even], 1).busiest) == pytest.approx(1.0)
    worst = torch.tensor([[30.0, 29.0, 0.0, 0.0]]).repeat(12, 1)
    found = router_losses([worst], 2)
    assert float(found.balance) == pytest.approx(2.0, abs=1e-4)
    assert float(found.busiest) == pytest.approx(2.0)
    assert float(found.z) == pytest.approx(float(torch.logsumexp(worst[0], 0)) ** 2)
    keep = torch.tensor([[True] * 12, [False] * 12])
    padded = torch.cat([even, worst])
    assert float(router_losses([padded], 1, keep=keep).balance) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.peer
def test_the_balance_is_that_of_transformers_but_for_the_number_of_experts_a_token():
    mixtral = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")
    logits = draw(60, 5).detach().float()
    theirs = mixtral.load_balancing_loss_func((logits,), num_experts=5, top_k=2)
    torch.testing.assert_close(2 * router_losses([logits], 2).balance, theirs)


def test_the_balancing_loss_spreads_tokens_that_all_went_to_one_expert():
    model = loud()
    with torch.no_grad():
        model.embed_tokens.add_(2.0)  # what all tokens share, the router's first two rows look for
        for block in model.blocks:
            block.experts.router.weight.mul_(0.05)[:2] += 0.2
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    config = TransformerConfig(
        **{n: getattr(SHAPE, n) for n in SHAPE.__slots__} | {"router_aux_loss_coef": 1.0}
    )
    seen = []
    for _ in range(40):
        with routes_of(model) as routes:
            logits = model.logits(model(IDS))
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())
        total, metrics = with_balance(loss, routes, config)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        seen.append(float(metrics["train/router_balance"]))
    assert seen[0] > 1.5 and seen[-1] < 1.05


def test_nothing_is_noted_where_layers_compute_again_for_the_backward_pass():
    model = loud()
    gradients = []
    for recompute in (False, True):
        model.recompute = recompute
        model.zero_grad()
        with routes_of(model) as routes:
            loss = model(IDS).square().mean()
        total, _ = with_balance(loss, routes, SHAPE)
        total.backward()
        assert len(routes) == 2
        gradients.append([p.grad.clone() for p in model.layers.parameters()])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


def test_the_router_stays_exact_where_experts_are_held_in_few_bits():
    model = loud()
    with torch.no_grad():
        before = model.logits(model(IDS))
        held = hold_weights(model.requires_grad_(False), torch.int8)
        kinds = [type(part).__name__ for part in held.blocks[0].experts.children()]
        assert kinds == ["Projection", "QuantizedProjection", "QuantizedProjection"]
        after = held.logits(held(IDS))
        assert isinstance(held.blocks[0].qkv_proj, QuantizedProjection)
    # The experts of a token may change where two were nearly equal, for a few tokens.
    assert (after - before).abs().median() < 0.03 * before.std()


def test_adapters_stand_on_the_attention_alone_where_experts_are_not_named():
    model = loud()
    learned = add_adapters(model, LoRAConfig(rank=2))
    assert len(learned) == 2 * 2 * 2
    assert {name.split(".")[2] for name, p in model.named_parameters() if p.requires_grad} == {
        "qkv_proj",
        "o_proj",
    }
    with pytest.raises(ConfigError, match="name them experts"):
        add_adapters(loud(), LoRAConfig(rank=2, targets=("up_proj",)))


def test_a_step_of_one_token_reads_its_own_experts_and_gives_what_the_whole_pass_gives():
    model = loud(
        TransformerConfig(**{n: getattr(SHAPE, n) for n in SHAPE.__slots__} | {"num_experts": 12})
    )
    with torch.no_grad():
        whole = model.logits(model(IDS[:1]))
    decoder = Decoder(model, dtype=torch.float32)
    decoder.allocate(1, 40)
    found = decoder.prefill(IDS[:1, :9], torch.tensor([9]))
    for place in range(9, 40):
        torch.testing.assert_close(found, whole[:, place - 1], atol=1e-4, rtol=1e-4)
        found = decoder.step(IDS[:1, place])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("experts", "count", "normalise"), [(12, 3, True), (5, 2, False)])
def test_the_compiled_step_of_a_mixture_equals_that_of_torch(dtype, experts, count, normalise):
    changes = {"num_experts": experts, "num_experts_per_tok": count, "norm_topk_prob": normalise}
    model = loud(replace(SHAPE, **changes))
    ids, lengths = IDS.flatten()[:33].view(3, 11), torch.tensor([11, 2, 7])
    following = IDS.flatten()[40:70].view(10, 3)
    found = []
    for compiled in (False, True):
        decoder = Decoder(model, dtype=dtype)
        decoder.allocate(3, 40)
        decoder.compiled = compiled
        logits = [decoder.prefill(ids, lengths), *(decoder.step(row) for row in following)]
        assert (decoder._small is not None) == compiled
        found.append(torch.stack(logits))
    apart, most = (found[0] - found[1]).abs(), found[0].abs().max()
    if dtype == torch.float32:
        assert apart.max() < 1e-5 * most
    else:  # of two experts that are nearly equal, rounding picks one
        assert apart.median() < 0.01 * most
    # A row's numbers do not depend on which experts the rows beside it go to.
    alone = Decoder(model, dtype=dtype)
    alone.allocate(3, 40)
    alone.compiled = True
    alone.prefill(ids, lengths)
    alone.arrange(torch.tensor([1]), lengths[1:2], 1)
    for row, logits in zip(following, found[1][1:], strict=True):
        assert torch.equal(alone.step(row[1:2])[0], logits[1])


def test_of_equally_likely_experts_the_compiled_step_takes_as_many_as_it_should():
    model = loud(replace(SHAPE, num_experts=4))
    with torch.no_grad():
        for block in model.blocks:
            block.experts.router.weight.zero_()
            rows = block.experts.gate_up_proj.weight.unflatten(0, (4, -1))
            rows[1:] = rows[0]  # then it does not matter which
            rows = block.experts.down_proj.weight.unflatten(0, (4, -1))
            rows[1:] = rows[0]
        whole = model.logits(model(IDS[:1]))
    decoder = Decoder(model, dtype=torch.float32)
    decoder.allocate(1, 40)
    decoder.compiled = True
    decoder.prefill(IDS[:1, :9], torch.tensor([9]))
    torch.testing.assert_close(decoder.step(IDS[:1, 9]), whole[:, 9], atol=1e-4, rtol=1e-4)


def test_weights_that_are_no_numbers_give_logits_that_are_none():
    model = loud()
    with torch.no_grad():
        model.blocks[0].experts.router.weight.fill_(float("nan"))
    decoder = Decoder(model, dtype=torch.float32)
    decoder.allocate(1, 40)
    decoder.compiled = True
    decoder.prefill(IDS[:1, :9], torch.tensor([9]))
    assert decoder.step(IDS[:1, 9]).isnan().all()


def test_the_compiled_step_refuses_experts_that_do_not_fit():
    with torch.no_grad():
        layer = step_arrays(fold(loud().blocks[0], torch.float32))
    head, angles = np.zeros((97, 16), np.float32), np.zeros((48, 4, 2), np.float32)

    def made(layer, active):
        SmallDecoder([layer], head, head, angles, heads=2, kv_heads=2, eps=1e-6, active=active)

    made(layer, 2)
    for active in (0, 6):
        with pytest.raises(ValueError, match=f"cannot go to {active} of 5 experts"):
            made(layer, active)
    with pytest.raises(ValueError, match="of shape"):
        made(layer | {"down": layer["down"][:4].copy()}, 2)
    with pytest.raises(ValueError, match="cannot go to 2 of 0 experts"):
        made(layer | {"router": None, "down": layer["down"][0]}, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--active", "2"], "say how many there are"),
        (["--experts", "3", "--active", "4"], "cannot go to 4 of 3 experts"),
        (["--experts", "4", "--encoder"], "a mixture of experts is a decoder"),
        (["--experts", "4", "--base", "somewhere"], "--experts shapes a new model"),
    ],
)
def test_mixtures_that_cannot_be_are_refused_in_one_line(options, message, tmp_path, capsys):
    command = ["rlhf", "pretrain", "--size", "tiny", "--data", "synthetic", "--quiet"]
    assert main([*command, "--run", f"{tmp_path}/run", *options]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_mixture_is_pretrained_fine_tuned_resumed_and_generates(tmp_path):
    common = ["--size", "tiny", "--data", "synthetic", "--quiet", "--dtype", "float32"]
    shape = ["--experts", "4", "--active", "2", "--hidden-size", "32", "--heads", "2"]
    shape += ["--layers", "1", "--vocab-size", "300"]
    command = ["rlhf", "pretrain", *common, *shape, "--rows", "4", "--run"]
    assert main([*command, f"{tmp_path}/whole", "--steps", "6"]) == 0
    model, _ = load_model(tmp_path / "whole")
    config = model.config
    assert (config.model_type, config.num_experts, config.num_experts_per_tok) == ("mixtral", 4, 2)
    assert config.intermediate_size == 48  # two of them are as wide as one of 8/3 times 32
    rows = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    assert all(json.loads(row)["train/busiest_expert"] >= 1.0 for row in rows if "train/" in row)
    base = ["--base", f"{tmp_path}/whole"]
    assert main(["rlhf", "sft", *base, *common, "--steps", "2", "--run", f"{tmp_path}/sft"]) == 0
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("the film\n")
    out = ["--prompts", str(prompts), "--json", f"{tmp_path}/out.json", "--max-new-tokens", "4"]
    assert main(["rlhf", "generate", f"{tmp_path}/sft", *out]) == 0
    assert json.loads((tmp_path / "out.json").read_text())[0]["prompt"] == "the film"
