"""Compiled attention is torch's, whatever the shape, the mask, the threads and the processor."""

import pytest
import torch
from playout.rlhf.model.layers import _attention as compiled
from playout.rlhf.model.layers import attention as module
from playout.rlhf.model.layers.attention import attention
from torch.nn import functional as F

needs_vectors = pytest.mark.skipif(not compiled.ISA, reason="torch's attention is used here")


def inputs(rows, heads, kv_heads, length, size, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    counts = heads, kv_heads, kv_heads, heads
    made = [torch.randn(rows, n, length, size, generator=generator).to(dtype) for n in counts]
    return [*(x.requires_grad_() for x in made[:3]), made[3]]


def seen(rows, length, causal, window, mask):
    """All that may be seen, as one mask [rows, 1, length, length]."""
    found = torch.ones(rows, 1, length, length, dtype=torch.bool)
    if causal:
        found = found.tril()
    if window:
        found = found.triu(1 - window)
    return found if mask is None else found & mask


def library(q, k, v, grad, where):
    """Result and gradients by the formula in float64."""
    wide = [x.detach().double().requires_grad_() for x in (q, k, v)]
    out = F.scaled_dot_product_attention(*wide, attn_mask=where, enable_gqa=True)
    out.backward(grad.double())
    return out, [x.grad for x in wide]


def random_mask(rows, length, kind):
    """None, padding of whole columns, or segments; every query sees itself."""
    generator = torch.Generator().manual_seed(5)
    if kind == "segments":
        number = torch.randint(0, 3, (rows, 1, length, 1), generator=generator)
        return number == number.transpose(2, 3)
    if kind == "columns":
        mask = torch.rand(rows, 1, 1, length, generator=generator) < 0.7
        mask[..., 0] = True
        return mask
    return None


@pytest.mark.parametrize("kind", ["", "columns", "segments"])
@pytest.mark.parametrize(("causal", "window"), [(True, 0), (True, 7), (False, 0)])
@pytest.mark.parametrize(
    "shape",
    [(2, 4, 2, 70, 16), (1, 3, 3, 1, 8), (3, 4, 1, 33, 20), (2, 2, 2, 128, 64), (1, 9, 3, 31, 80)],
)
def test_results_and_gradients_are_those_of_the_formula(shape, causal, window, kind):
    q, k, v, grad = inputs(*shape)
    mask = random_mask(shape[0], shape[3], kind)
    if window and kind == "columns":
        mask = mask | torch.eye(shape[3], dtype=torch.bool)  # nobody sees nothing
    ours = attention(q, k, v, causal=causal, mask=mask, window=window)
    ours.backward(grad)
    wanted, gradients = library(q, k, v, grad, seen(shape[0], shape[3], causal, window, mask))
    torch.testing.assert_close(ours.double(), wanted, atol=2e-6, rtol=2e-5)
    for x, gradient in zip((q, k, v), gradients, strict=True):
        torch.testing.assert_close(x.grad.double(), gradient, atol=5e-6, rtol=2e-5)


def test_in_bfloat16_only_what_goes_in_and_out_is_rounded():
    q, k, v, grad = inputs(2, 4, 2, 65, 32, torch.bfloat16)
    ours = attention(q, k, v, causal=True)
    ours.backward(grad)
    wanted, gradients = library(q, k, v, grad, seen(2, 65, True, 0, None))
    half_a_place = 2.0**-8
    for found, exact in zip((ours, q.grad, k.grad, v.grad), (wanted, *gradients), strict=True):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=half_a_place)


@needs_vectors
def test_a_query_that_sees_nothing_gets_zeros_and_moves_nothing():
    q, k, v, grad = inputs(2, 2, 1, 20, 8)
    mask = torch.ones(2, 1, 20, 20, dtype=torch.bool)
    mask[0, :, 5] = False
    out = attention(q, k, v, causal=True, mask=mask)
    assert torch.equal(out[0, :, 5], torch.zeros(2, 8))
    out.backward(grad)
    assert torch.equal(q.grad[0, :, 5], torch.zeros(2, 8))
    assert all(x.grad.isfinite().all() for x in (q, k, v))


def test_what_is_no_number_stays_none():
    q, k, v, _ = inputs(1, 1, 1, 40, 8)
    with torch.no_grad():
        k[0, 0, 20, 3] = float("nan")
    out = attention(q, k, v, causal=True)
    assert out[0, 0, :20].isfinite().all()
    assert out[0, 0, 20:].isnan().all()


@needs_vectors
def test_every_instruction_set_and_number_of_threads_gives_the_same_bits(monkeypatch):
    q, k, v, grad = inputs(3, 4, 2, 45, 24, torch.bfloat16)
    mask = random_mask(3, 45, "segments")

    def bits():
        with torch.no_grad():
            out, lse = module._forward(q, k, v, mask, True, 9)
            return [out, lse, *module._backward(grad, q, k, v, lse, mask, True, 9)]

    wanted = bits()
    monkeypatch.setattr(module, "MIN_SHARED", 1)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert all(map(torch.equal, bits(), wanted))
    finally:
        torch.set_num_threads(threads)
    for name in ("attend", "attend_back"):
        whole = getattr(compiled, name)
        monkeypatch.setattr(compiled, name, lambda *a, f=whole: f(*a, isa=0), raising=False)
    assert all(map(torch.equal, bits(), wanted))


@pytest.mark.slow
@needs_vectors
def test_the_operator_of_compiled_graphs_is_declared_as_torch_wants_it():
    q, k, v, _ = inputs(2, 4, 2, 12, 8)
    given = q, k, v, random_mask(2, 12, "segments"), True, 0
    checks = "test_schema", "test_autograd_registration", "test_faketensor"
    torch.library.opcheck(module._operator, given, test_utils=checks)


@pytest.mark.slow
@needs_vectors
def test_a_compiled_graph_gives_the_same_bits():
    def both(attend):
        q, k, v, grad = inputs(2, 4, 2, 12, 8)
        out = attend(q * 1.0, k, v)
        out.backward(grad)
        return [out, q.grad, k.grad, v.grad]

    def plain(q, k, v):
        return attention(q, k, v, causal=True)

    graph = torch.compile(plain, backend="aot_eager", fullgraph=True)
    assert all(map(torch.equal, both(graph), both(plain)))
