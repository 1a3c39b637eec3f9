"""Adam on a device: the steps of torch without waiting, and one state with the processor's Adam."""

import math

import pytest
import torch
from playout.agents.optim.adam import Adam
from playout.agents.optim.device_adam import DeviceAdam, make_adam
from playout.errors import CheckpointError, DivergedError
from second_device import crossings


def parameters(device="cpu"):
    return [torch.nn.Parameter(torch.linspace(-1, 1, n).to(device)) for n in (3, 17)]


def give(params, *grads):
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad.to(param.device)


def drawn(rng):
    return torch.randn(3, generator=rng), torch.randn(17, generator=rng)


@pytest.mark.parametrize("fused", [False, True])
def test_adam_takes_the_steps_of_torch_on_a_device_and_crosses_nothing(second, fused):
    mine, other = parameters(second), parameters()
    ours = make_adam(mine, lr=1e-2, weight_decay=0.1)
    assert isinstance(ours, DeviceAdam) and not ours.fused
    ours.fused = fused
    theirs = torch.optim.AdamW(other, lr=1e-2, eps=1e-5, weight_decay=0.1)
    rng = torch.Generator().manual_seed(0)
    for _ in range(20):
        grads = drawn(rng)
        ours.zero_grad()
        give(mine, *grads)
        give(other, *(grad.clone() for grad in grads))
        norm = torch.nn.utils.clip_grad_norm_(other, 0.5)
        with crossings() as found:
            own = ours.advance(0.5)
        assert found.total == 0, found
        assert float(own) == pytest.approx(float(norm), rel=1e-5)
        theirs.step()
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a.detach().cpu(), b.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fused", [False, True])
def test_a_gradient_that_is_not_finite_or_a_skipped_step_changes_nothing(second, fused):
    params = parameters(second)
    optimizer = DeviceAdam(params, lr=0.1)
    optimizer.fused = fused
    bad = torch.full((3,), math.nan), torch.ones(17)
    for grads, skip in ((bad, False), (drawn(torch.Generator()), True)):
        give(params, *grads)
        optimizer.advance(0.5, skip=torch.tensor(skip, device=second))
    give(params, *bad)
    with pytest.raises(DivergedError, match="not finite"):
        optimizer.step(0.5)
    assert optimizer.step_count == 0
    assert all(torch.equal(a.cpu(), b) for a, b in zip(params, parameters(), strict=True))
    give(params, torch.ones(3), torch.ones(17))
    optimizer.step(0.5)
    assert optimizer.step_count == 1
    assert all(bool(torch.isfinite(p).all()) for p in params)


def test_a_state_goes_on_from_a_device_to_the_processor_and_back(second):
    there, here = parameters(second), parameters()
    ours, theirs = make_adam(there, lr=0.1), make_adam(here, lr=0.1)
    assert isinstance(theirs, Adam)
    rng = torch.Generator().manual_seed(0)
    for _ in range(3):
        grads = drawn(rng)
        give(there, *grads)
        ours.advance(1.0)
        for param, grad in zip(here, grads, strict=True):
            param.grad.copy_(grad)
        theirs.advance(1.0)
    other = make_adam(parameters(second), lr=0.5)
    other.load_state_dict(theirs.state_dict())
    for key in ("exp_avg", "exp_avg_sq"):
        for state in (ours.state_dict(), other.state_dict()):
            torch.testing.assert_close(state[key].cpu(), theirs.state_dict()[key])
    assert other.step_count == 3 and other.lr == 0.1
    with pytest.raises(CheckpointError, match="holds 20 numbers"):
        DeviceAdam(parameters(second)[:1], lr=0.1).load_state_dict(ours.state_dict())
