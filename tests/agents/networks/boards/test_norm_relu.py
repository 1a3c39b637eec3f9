"""The compiled layer against torch's operations in float32."""

import pytest
import torch
from playout.agents.networks.boards.norm_relu import norm_relu
from torch import nn


def seeded(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def trunk(*shape, seed):
    """A bfloat16 tensor as the networks hold it, that wants a gradient."""
    x = (2 * seeded(*shape, seed=seed) + 1).bfloat16()
    return x.to(memory_format=torch.channels_last).requires_grad_()


def norm_of(channels):
    norm = nn.BatchNorm2d(channels)
    with torch.no_grad():
        norm.weight.copy_(seeded(channels, seed=5))
        norm.bias.copy_(seeded(channels, seed=6))
    return norm


def plain(x, norm, residual):
    y = norm(x)
    return torch.relu(y if residual is None else y + residual)


def close(mine, theirs):
    """Equal but for the last bit of bfloat16."""
    torch.testing.assert_close(mine.float(), theirs, rtol=1 / 128, atol=1e-2)


# Rows that fill blocks of 64 and rows that do not.
@pytest.mark.parametrize("shape", [(64, 32, 6, 7), (3, 16, 5, 5), (2, 64, 8, 8)])
@pytest.mark.parametrize("added", [False, True])
def test_values_and_gradients_are_those_of_separate_operations(shape, added):
    x, grad = trunk(*shape, seed=1), seeded(*shape, seed=2).bfloat16()
    residual = trunk(*shape, seed=3) if added else None
    mine, theirs = norm_of(shape[1]), norm_of(shape[1])
    y = norm_relu(x, mine, residual)
    y.backward(grad)

    wide = x.detach().float().requires_grad_()
    more = residual.detach().float().requires_grad_() if added else None
    wanted = plain(wide, theirs, more)
    wanted.backward(grad.float())
    assert y.dtype == torch.bfloat16
    close(y, wanted.detach())
    # Where rounding moves y across 0 the gradient is another: hardly anywhere.
    same = (y > 0) == (wanted > 0)
    assert same.float().mean() > 0.99
    scale = wide.grad.abs().max()
    torch.testing.assert_close(
        torch.where(same, x.grad.float(), 0) / scale,
        torch.where(same, wide.grad, 0) / scale,
        rtol=1 / 64,
        atol=5e-3,
    )
    if residual is not None and more is not None:
        assert torch.equal(
            torch.where(same, residual.grad.float(), 0), torch.where(same, more.grad, 0)
        )
    for name in ("weight", "bias"):
        found, expected = getattr(mine, name).grad, getattr(theirs, name).grad
        torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2 * expected.abs().max())


def test_other_widths_take_the_separate_operations():
    x, residual = trunk(5, 20, 3, 3, seed=1), trunk(5, 20, 3, 3, seed=2)
    assert torch.equal(norm_relu(x, norm_of(20), residual), plain(x, norm_of(20), residual))


def test_a_whole_network_in_bfloat16_takes_the_separate_operations():
    x = trunk(5, 32, 3, 3, seed=1)
    assert torch.equal(norm_relu(x, norm_of(32).bfloat16()), plain(x, norm_of(32).bfloat16(), None))


def test_running_statistics_follow_as_in_torch():
    mine, theirs = norm_of(32), norm_of(32)
    for seed in range(3):
        x = trunk(9, 32, 6, 7, seed=seed)
        norm_relu(x, mine)
        theirs(x.float())
    for name, wanted in theirs.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[name], wanted, rtol=1e-5, atol=1e-5)


def test_evaluation_uses_running_statistics():
    norm = norm_of(32).eval()
    x = trunk(4, 32, 3, 3, seed=1)
    close(norm_relu(x, norm), plain(x.float(), norm, None))
    assert norm.num_batches_tracked == 0


def test_a_residual_is_broadcast_and_gets_the_summed_gradient():
    x, grad = trunk(8, 32, 6, 7, seed=1), seeded(8, 32, 6, 7, seed=2).bfloat16()
    place = trunk(1, 32, 6, 7, seed=3)
    whole = place.detach().expand(8, 32, 6, 7).clone().requires_grad_()
    one, other = norm_relu(x, norm_of(32), place), norm_relu(x, norm_of(32), whole)
    assert torch.equal(one, other)
    one.backward(grad)
    other.backward(grad)
    close(place.grad, whole.grad.float().sum(dim=0, keepdim=True))


def test_any_memory_layout_gives_the_same():
    x = trunk(4, 32, 6, 7, seed=1)
    wanted = norm_relu(x, norm_of(32))
    found = norm_relu(x.detach().contiguous(), norm_of(32))
    assert torch.equal(found, wanted)


def test_what_is_not_a_number_stays_so():
    x = trunk(4, 32, 3, 3, seed=1).detach()
    x[1, 3, 2, 2] = float("nan")
    y = norm_relu(x, norm_of(32))
    assert y[:, 3].isnan().all()
    assert not y[:, :3].isnan().any() and not y[:, 4:].isnan().any()


def test_a_plane_without_variance_gives_no_infinities():
    x = torch.full((4, 32, 3, 3), 7.0).bfloat16().requires_grad_()
    norm = norm_of(32)
    y = norm_relu(x, norm)
    y.backward(torch.ones_like(y))
    assert y.isfinite().all() and x.grad.isfinite().all() and norm.weight.grad.isfinite().all()
