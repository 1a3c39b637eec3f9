"""Muon and Adam as one optimiser: each moves its own, and both go on from their state."""

import pytest
import torch
from playout.agents.optim.adam import Adam
from playout.agents.optim.muon import Muon
from playout.agents.optim.muon_adam import MuonAdam
from playout.errors import CheckpointError, DivergedError
from torch import nn

SHAPES = [(6, 4), (5,), (4, 6), (3, 4)]
INNER = (0, 2)


def fresh():
    rng = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=rng)) for shape in SHAPES]


def both(parameters, **changes):
    settings = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1, **changes}
    return MuonAdam(parameters, [parameters[i] for i in INNER], **settings)


def both_of(matrix, rest):
    return MuonAdam([matrix, rest], [matrix], lr=1.0)


def give(parameters, step):
    rng = torch.Generator().manual_seed(100 + step)
    for parameter in parameters:
        parameter.grad += torch.randn(parameter.shape, generator=rng)


def test_matrices_take_steps_of_muon_and_the_rest_those_of_adam_with_one_norm():
    mine, other = fresh(), fresh()
    ours = both(mine)
    muon = Muon([other[i] for i in INNER], lr=1e-2, weight_decay=0.1)
    adam = Adam([other[1], other[3]], lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for step in range(5):
        ours.lr = muon.lr = adam.lr = 1e-2 / (step + 1)
        for one in (ours, muon, adam):
            one.zero_grad()
        give(mine, step)
        give(other, step)
        norm = float(nn.utils.clip_grad_norm_(other, 0.5))
        assert ours.advance(0.5) == pytest.approx(norm, rel=1e-5)
        muon.apply()
        adam.apply()
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_gradient_of_low_rank_makes_no_long_step():
    rng = torch.Generator().manual_seed(3)
    matrix, rest = nn.Parameter(torch.zeros(64, 96)), nn.Parameter(torch.zeros(2))
    optimizer = both_of(matrix, rest)
    low = torch.randn(64, 3, generator=rng) @ torch.randn(3, 96, generator=rng)
    for _ in range(5):
        optimizer.zero_grad()
        matrix.grad += low + 1e-3 * torch.randn(64, 96, generator=rng)
        before = matrix.detach().clone()
        optimizer.advance()
        # 3 directions of 64, each as long as all would be in a full matrix.
        assert float((matrix.detach() - before).square().mean().sqrt()) < 0.3 * 0.2


def test_it_continues_from_its_state_to_the_last_bit():
    def run(stop):
        parameters = fresh()
        optimizer = both(parameters)
        for step in range(6):
            if step == stop:
                state = optimizer.state_dict()
                parameters = [nn.Parameter(p.detach().clone()) for p in parameters]
                optimizer = both(parameters, lr=0.5)
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            give(parameters, step)
            optimizer.advance(1.0)
        return torch.cat([p.detach().flatten() for p in parameters])

    assert torch.equal(run(None), run(3))


def test_a_gradient_that_is_not_finite_and_a_state_of_another_optimiser_change_nothing():
    parameters = fresh()
    optimizer = both(parameters)
    optimizer.zero_grad()
    give(parameters, 0)
    parameters[0].grad[0, 0] = float("nan")
    before = [p.detach().clone() for p in parameters]
    with pytest.raises(DivergedError, match="not finite"):
        optimizer.advance(1.0)
    adam = Adam(fresh(), lr=1e-2)
    with pytest.raises(CheckpointError, match="not one of Muon"):
        optimizer.load_state_dict(adam.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(before, parameters, strict=True))
