"""Several optimisers as one: each moves its own, with one norm, and all go on from their state."""

import pytest
import torch
from playout.agents.optim.adam import Adam
from playout.agents.optim.chained import ChainedOptimizer, make_optimizer
from playout.agents.optim.device_adam import DeviceAdam
from playout.agents.optim.muon import Muon
from playout.agents.optim.names import OPTIMIZERS
from playout.errors import CheckpointError, ConfigError, DivergedError
from torch import nn

SHAPES = [(6, 4), (5,), (4, 6), (3, 4)]
INNER = (0, 2)


def fresh():
    rng = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=rng)) for shape in SHAPES]


def both(parameters, lr=1e-2):
    rest = [one for i, one in enumerate(parameters) if i not in INNER]
    muon = Muon([parameters[i] for i in INNER], lr=lr, weight_decay=0.1)
    adam = Adam(rest, lr=lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    return ChainedOptimizer([(1.0, muon), (1.0, adam)], lr=lr)


def both_of(matrix, rest):
    parts = [(1.0, Muon([matrix], lr=1.0)), (1.0, Adam([rest], lr=1.0))]
    return ChainedOptimizer(parts, lr=1.0)


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
    with pytest.raises(CheckpointError, match="other optimisers"):
        optimizer.load_state_dict(adam.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(before, parameters, strict=True))


def test_a_state_of_earlier_versions_with_muon_beside_adam_goes_on():
    first, second = fresh(), fresh()
    old, new = both(first), both(second, lr=0.5)
    old.zero_grad()
    give(first, 0)
    old.step(1.0)
    (_, muon), (_, adam) = old.parts
    new.load_state_dict({**adam.state_dict(), **muon.state_dict()})
    found, wanted = new.state_dict(), old.state_dict()
    assert found["step_count"] == 1 and found["lr"] == 1e-2
    for mine, theirs in zip(found["parts"], wanted["parts"], strict=True):
        assert all(
            torch.equal(mine[n], x) for n, x in theirs.items() if isinstance(x, torch.Tensor)
        )


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3), nn.Linear(3, 1))


def stepped(net, optimizer, count=2):
    rng = torch.Generator().manual_seed(7)
    for _ in range(count):
        optimizer.zero_grad()
        net(torch.randn(5, 1, 4, 4, generator=rng)).square().mean().backward()
        optimizer.step(0.5)
    return [p.detach().clone() for p in net.parameters()]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_part_of_the_weights_takes_a_share_of_every_optimisers_steps(name):
    slow = ("0.weight", "0.bias")

    def moved(**rates):
        net = small_net()
        before = {n: p.detach().clone() for n, p in net.named_parameters()}
        optimizer = make_optimizer(
            net, name, lr=0.01, weight_decay=0.1, inner=["2.weight"], **rates
        )
        stepped(net, optimizer, count=1)
        return {n: p.detach() - before[n] for n, p in net.named_parameters()}

    plain, shared = moved(), moved(slow=slow, share=0.25)
    for parameter, step in plain.items():
        assert step.abs().max() > 0
        wanted = step * 0.25 if parameter in slow else step
        torch.testing.assert_close(shared[parameter], wanted, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_takes_the_same_steps_on_a_device(second, name):
    found = []
    for device in ("cpu", second):
        net = small_net().to(device)
        optimizer = make_optimizer(net, name, lr=0.01, weight_decay=0.1, slow=["2.bias"], share=0.5)
        rng = torch.Generator().manual_seed(7)
        for _ in range(3):
            optimizer.zero_grad()
            x = torch.randn(5, 1, 4, 4, generator=rng).to(device)
            net(x).square().mean().backward()
            optimizer.step(0.5)
        found.append(torch.cat([p.detach().cpu().reshape(-1) for p in net.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_adam_alone_stays_the_one_that_waits_for_no_device(second):
    net = small_net().to(second)
    assert isinstance(make_optimizer(net, "adam", lr=0.01, weight_decay=0.1), DeviceAdam)
    net[0].requires_grad_(False)  # a share of what does not learn tells nothing apart
    rest = make_optimizer(net, "adam", lr=0.01, weight_decay=0, slow=["0.weight"], share=0.0)
    assert isinstance(rest, DeviceAdam)


def test_what_no_optimiser_can_move_is_said():
    with pytest.raises(ConfigError, match=r"optimizer must be one of sgd, .*, not 'lion'"):
        make_optimizer(small_net(), "lion", lr=0.1, weight_decay=0)
    with pytest.raises(ConfigError, match="muon moves convolutions and matrices"):
        make_optimizer(nn.Linear(3, 2), "muon", lr=0.1, weight_decay=0)
    mixed = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1).double())
    with pytest.raises(ConfigError, match="one type on one device"):
        make_optimizer(mixed, "sgd", lr=0.1, weight_decay=0)
