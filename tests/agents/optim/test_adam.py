"""Adam over one flat buffer: the steps of torch, and exact continuation."""

import pytest
import torch
from playout.agents.optim.adam import Adam


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adam_takes_the_steps_of_torch(dtype):
    mine, other = (
        [torch.nn.Parameter(torch.linspace(-1, 1, n).to(dtype)) for n in (3, 17)] for _ in range(2)
    )
    ours = Adam(mine, lr=1e-2, weight_decay=0.1)
    theirs = torch.optim.AdamW(other, lr=1e-2, eps=1e-5, weight_decay=0.1)
    rng = torch.Generator().manual_seed(0)
    for _ in range(20):
        ours.zero_grad()
        for a, b in zip(mine, other, strict=True):
            grad = torch.randn(a.shape, generator=rng, dtype=dtype)
            a.grad += grad
            b.grad = grad
        norm = torch.nn.utils.clip_grad_norm_(other, 0.5)
        assert ours.step(0.5) == pytest.approx(float(norm), rel=1e-5)
        theirs.step()
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_adam_continues_from_its_state_to_the_last_bit():
    def run(stop):
        parameter = torch.nn.Parameter(torch.ones(9))
        optimizer = Adam([parameter], lr=0.1)
        for step in range(6):
            if step == stop:
                state, value = optimizer.state_dict(), parameter.detach().clone()
                parameter = torch.nn.Parameter(value)
                optimizer = Adam([parameter], lr=0.5)
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            parameter.grad += torch.arange(9) - 4.0 + step
            optimizer.step(1.0)
        return parameter.detach()

    assert torch.equal(run(None), run(3))
