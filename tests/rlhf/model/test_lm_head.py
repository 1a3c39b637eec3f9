"""Log-probabilities and gradients at the vocabulary: compiled and by torch, against float64."""

import pytest
import torch
from playout.rlhf.model.layers import lm_head
from playout.rlhf.model.layers.lm_head import cross_entropy, token_logprobs
from torch.nn import functional as F

ROWS, SIZE = 21, 150  # neither is a multiple of what the compiled code does at once


def world(dtype):
    """Hidden states and a vocabulary whose logits are those of `dtype` in float64 as well."""
    drawn = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS, 8, generator=drawn).to(dtype)
    weight = (2 * torch.randn(SIZE, 8, generator=drawn)).to(dtype)
    targets = torch.randint(0, SIZE, (ROWS,), generator=drawn)
    targets[0] = (hidden[0].float() @ weight.float().T).argmax()
    hidden[0] *= 8  # its target is all but certain
    return hidden.requires_grad_(), weight.requires_grad_(), targets


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("plain", "threads"), [(False, 1), (False, 2), (True, 1)])
def test_log_probabilities_entropies_and_their_gradients_are_those_of_float64(
    dtype, plain, threads, monkeypatch
):
    monkeypatch.setattr("playout.rlhf.model.layers.elementwise.MIN_SHARED", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(lm_head, "is_plain", lambda *_: plain)
    hidden, weight, targets = world(dtype)
    logits = F.linear(hidden, weight).detach().double().requires_grad_()  # rounded as ours are
    log_p = logits.log_softmax(-1)
    right = log_p.gather(1, targets[:, None])[:, 0], -(log_p.exp() * log_p).sum(-1)
    ours = token_logprobs(hidden, weight, targets, chunk=8)
    for mine, theirs in zip(ours, right, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=2e-5, atol=2e-5)
    mix, spread = torch.linspace(-1, 1, ROWS), torch.linspace(0.5, -0.5, ROWS)
    (grad,) = torch.autograd.grad((right[0] * mix + right[1] * spread).sum(), logits)
    found = torch.autograd.grad((ours[0] * mix + ours[1] * spread).sum(), (hidden, weight))
    wanted = grad @ weight.double(), grad.T @ hidden.double()
    close = 1e-4 if dtype == torch.float32 else 0.02
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=close, atol=10 * close)
    # The target that is nearly certain keeps its small gradient instead of 1 - 1 = 0.
    mine, theirs = found[0][0].double(), wanted[0][0]
    assert 0 < theirs.norm() < 1e-3 and (mine - theirs).norm() < 0.05 * theirs.norm()


def test_a_choice_among_a_few_tokens_has_the_likelihood_of_that_choice():
    hidden, weight, targets = world(torch.float32)
    allowed = torch.full((ROWS, 4), -1)
    barred = torch.zeros(ROWS, SIZE, dtype=torch.bool)
    for row in range(0, ROWS, 2):  # every other row is free
        some = torch.tensor([int(targets[row]), *{0, row, 149}.difference([int(targets[row])])])
        allowed[row, : len(some)] = some
        barred[row] = True
        barred[row, some] = False
    log_p = (F.linear(hidden, weight) / 0.7).masked_fill(barred, -torch.inf).log_softmax(-1)
    p = log_p.exp()
    right = log_p.gather(1, targets[:, None])[:, 0], -(p * log_p.masked_fill(barred, 0)).sum(-1)
    ours = token_logprobs(hidden, weight, targets, temperature=0.7, allowed=allowed)
    mix, spread = torch.linspace(-1, 1, ROWS), torch.linspace(0.5, -0.5, ROWS)
    both = []
    for found in (ours, right):
        loss = (found[0] * mix + found[1] * spread).sum()
        both.append((*found, *torch.autograd.grad(loss, (hidden, weight))))
    for mine, theirs in zip(*both, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_and_its_gradient_do_not_depend_on_how_rows_are_cut(dtype, monkeypatch):
    results = []
    for threads, chunk in ((1, 512), (2, 512), (2, 5)):
        monkeypatch.setattr("playout.rlhf.model.layers.elementwise.MIN_SHARED", 1)
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        hidden, weight, targets = world(dtype)
        loss, _ = cross_entropy(hidden, weight, targets, chunk=chunk)
        results.append((loss, *torch.autograd.grad(loss, (hidden, weight))))
    for first, second in zip(results[0], results[1], strict=True):
        assert torch.equal(first, second)
    close = 1e-5 if dtype == torch.float32 else 1e-3  # sums over rows are cut as chunks are
    torch.testing.assert_close(results[0], results[2], rtol=0.02, atol=close)


def test_a_target_outside_the_vocabulary_is_refused():
    hidden, weight, targets = world(torch.float32)
    targets[3] = SIZE
    with pytest.raises(IndexError, match="targets must be from 0 to 149"):
        token_logprobs(hidden, weight, targets)
    with pytest.raises(IndexError, match="targets must be from 0 to 149"):
        cross_entropy(hidden, weight, targets)


def test_no_rows_have_no_log_probabilities():
    logprobs, entropies = token_logprobs(
        torch.zeros(0, 8), torch.zeros(SIZE, 8), torch.zeros(0, dtype=torch.long)
    )
    assert logprobs.shape == entropies.shape == (0,)


def test_of_no_rows_there_is_nothing_to_learn_among_a_few_tokens():
    hidden, weight = torch.zeros(0, 8, requires_grad=True), torch.ones(5, 8, requires_grad=True)
    targets, allowed = torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3, dtype=torch.int64)
    found = token_logprobs(hidden, weight, targets, allowed=allowed)
    assert [part.shape for part in found] == [(0,), (0,)]
    sum(part.sum() for part in found).backward()
    assert not weight.grad.any()
