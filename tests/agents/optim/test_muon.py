import pytest
import torch
from playout.agents.optim.choice import make_optimizers
from playout.agents.optim.muon import COEFFICIENTS, orthogonal


def plain(x, iterations):
    """The iteration as it is usually written, on the whole matrix."""
    a, b, c = COEFFICIENTS
    x = x / x.norm()
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


@pytest.mark.parametrize("shape", [(8, 72), (32, 32), (72, 8), (1, 5)])
@pytest.mark.parametrize("iterations", [1, 5])
def test_the_small_iteration_equals_that_on_the_whole_matrix(shape, iterations):
    matrix = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wide = matrix.T if shape[0] > shape[1] else matrix
    wanted = plain(wide, iterations)
    found = orthogonal(matrix[None], iterations=iterations)[0]
    torch.testing.assert_close(
        found, wanted.T if shape[0] > shape[1] else wanted, atol=1e-6, rtol=0
    )


def test_directions_stay_and_all_lengths_come_near_one():
    matrix = torch.randn(16, 144, generator=torch.Generator().manual_seed(2))
    found = orthogonal(matrix[None])[0]
    lengths = torch.linalg.svdvals(found)
    assert lengths.min() > 0.6 and lengths.max() < 1.3
    # Same singular vectors: the product with the nearest orthogonal matrix is nearly symmetric.
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = found @ (u @ v).T
    assert (inner - inner.T).abs().max() < 1e-3


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw", "muon"])
@pytest.mark.parametrize("bias", [True, False])
def test_frozen_parameters_stay_and_the_others_learn(name, bias):
    body = torch.nn.Conv2d(2, 4, 3).requires_grad_(False)
    # Without biases that learn, one of the groups is frozen as a whole.
    net = torch.nn.Sequential(body, torch.nn.Flatten(), torch.nn.Linear(4, 1, bias=bias))
    before = [p.clone() for p in net.parameters()]
    for optimizer in make_optimizers(net, name, lr=0.02, weight_decay=0.5):
        optimizer.zero_grad()
        net(torch.ones(1, 2, 3, 3)).sum().backward()
        optimizer.apply()
    same = [torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True)]
    assert same == [True, True, *(False for _ in same[2:])]
