"""Our distributions against torch's and scipy's, and their samples against their own densities."""

import numpy as np
import pytest
import torch
from playout.agents.networks.distributions import (
    Bernoulli,
    Categorical,
    Gaussian,
    MultiCategorical,
    Product,
    SquashedGaussian,
)
from scipy import integrate, stats


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


def test_categorical_agrees_with_torch(generator):
    logits = torch.randn(50, 6, generator=generator) * 3
    ours, theirs = Categorical(logits), torch.distributions.Categorical(logits=logits)
    actions = torch.randint(0, 6, (50,), generator=generator)
    torch.testing.assert_close(ours.log_prob(actions), theirs.log_prob(actions))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    assert torch.equal(ours.mode(), logits.argmax(1))


def test_masked_categorical_is_the_one_over_the_legal_actions(generator):
    logits = torch.randn(40, 5, generator=generator)
    mask = torch.rand(40, 5, generator=generator) < 0.5
    mask[:, 2] = True
    ours = Categorical(logits, mask)
    for row in range(40):
        legal = mask[row].nonzero().squeeze(1)
        theirs = torch.distributions.Categorical(logits=logits[row, legal])
        wanted = theirs.log_prob(torch.arange(len(legal)))
        torch.testing.assert_close(ours.logits[row, legal], wanted)
        torch.testing.assert_close(ours.entropy()[row], theirs.entropy())
    for _ in range(50):
        assert mask.gather(1, ours.sample(generator).unsqueeze(1)).all()
    assert mask.gather(1, ours.mode().unsqueeze(1)).all()


def test_gradients_stay_finite_under_masks_and_large_weights(generator):
    logits = torch.randn(3, 4, generator=generator, requires_grad=True)
    mask = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    ours = Categorical(logits, mask)
    (1e4 * (ours.entropy().sum() + ours.log_prob(torch.tensor([0, 1, 2])).sum())).backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[1] == 0).all()  # nothing is legal: the distribution is constant


def test_a_row_without_legal_actions_is_uniform():
    ours = Categorical(torch.tensor([[5.0, 1.0]]), torch.zeros(1, 2))
    torch.testing.assert_close(ours.logits.exp(), torch.full((1, 2), 0.5))


def test_samples_have_the_right_frequencies(generator):
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0]).expand(40_000, 4)
    counts = torch.bincount(Categorical(logits).sample(generator), minlength=4).numpy()
    expected = torch.softmax(logits[0].double(), 0).numpy() * 40_000
    assert stats.chisquare(counts, expected).pvalue > 1e-4


def test_multi_categorical_is_a_product(generator):
    logits = torch.randn(20, 7, generator=generator)
    ours = MultiCategorical(logits, [3, 4])
    parts = [torch.distributions.Categorical(logits=x) for x in logits.split([3, 4], dim=1)]
    actions = ours.sample(generator)
    assert actions.shape == (20, 2) and (actions.max(0).values < torch.tensor([3, 4])).all()
    wanted = parts[0].log_prob(actions[:, 0]) + parts[1].log_prob(actions[:, 1])
    torch.testing.assert_close(ours.log_prob(actions), wanted)
    torch.testing.assert_close(ours.entropy(), parts[0].entropy() + parts[1].entropy())
    mask = torch.ones(20, 7)
    mask[:, :2] = 0
    assert (MultiCategorical(logits, [3, 4], mask).sample(generator)[:, 0] == 2).all()


def test_bernoulli_agrees_with_torch(generator):
    logits = torch.randn(30, 4, generator=generator) * 4
    ours, theirs = Bernoulli(logits), torch.distributions.Bernoulli(logits=logits)
    bits = ours.sample(generator)
    torch.testing.assert_close(ours.log_prob(bits), theirs.log_prob(bits.float()).sum(1))
    torch.testing.assert_close(ours.entropy(), theirs.entropy().sum(1))
    assert torch.equal(ours.mode(), (logits > 0).long())


def test_gaussian_agrees_with_scipy(generator):
    mean, log_std = torch.randn(30, 3, generator=generator), torch.tensor([-1.0, 0.0, 0.7])
    ours = Gaussian(mean, log_std)
    actions = ours.sample(generator)
    wanted = stats.norm.logpdf(actions.numpy(), mean.numpy(), log_std.exp().numpy()).sum(1)
    np.testing.assert_allclose(ours.log_prob(actions), wanted, rtol=1e-5, atol=1e-5)
    entropy = sum(stats.norm.entropy(scale=float(s)) for s in log_std.exp())
    np.testing.assert_allclose(ours.entropy(), entropy, rtol=1e-6)
    many = Gaussian(torch.zeros(100_000, 1), torch.tensor([0.5])).sample(generator).numpy()[:, 0]
    assert stats.kstest(many / np.exp(0.5), "norm").pvalue > 1e-4


def test_squashed_gaussian_has_the_density_and_entropy_of_tanh_of_a_normal():
    mean, log_std = torch.tensor([[0.7]]), torch.tensor([-0.3])
    ours = SquashedGaussian(mean, log_std)

    def density(y):
        x = np.arctanh(y)
        return stats.norm.pdf(x, 0.7, np.exp(-0.3)) / (1.0 - y * y)

    for y in (-0.9, -0.2, 0.4, 0.99):
        action = torch.tensor([[np.arctanh(y)]], dtype=torch.float32)
        assert float(ours.log_prob(action)) == pytest.approx(np.log(density(y)), abs=1e-4)
    wanted = -integrate.quad(lambda y: density(y) * np.log(density(y)), -0.9999999, 0.9999999)[0]
    assert float(ours.entropy()) == pytest.approx(wanted, abs=2e-3)


def test_saturated_squashed_actions_keep_finite_log_probabilities():
    ours = SquashedGaussian(torch.full((1, 1), 30.0), torch.zeros(1))
    assert torch.isfinite(ours.log_prob(torch.full((1, 1), 30.0))).all()
    assert float(SquashedGaussian.squash(torch.tensor(30.0))) == 1.0


def test_the_same_generator_seed_gives_the_same_samples():
    logits = torch.zeros(100, 9)
    first, second = (Categorical(logits).sample(torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)


def test_a_product_is_its_parts_side_by_side(generator):
    choice = Categorical(torch.randn(20, 3, generator=generator))
    gaussian = Gaussian(torch.randn(20, 2, generator=generator), torch.zeros(2))
    product = Product([choice, gaussian], [0, 2])
    actions = product.sample(generator)
    assert actions.shape == (20, 3) and actions.dtype == torch.float32
    wanted = choice.log_prob(actions[:, 0]) + gaussian.log_prob(actions[:, 1:])
    torch.testing.assert_close(product.log_prob(actions), wanted)
    torch.testing.assert_close(product.entropy(), choice.entropy() + gaussian.entropy())
    assert torch.equal(product.mode()[:, 0].long(), choice.mode())


def test_numbers_drawn_ahead_give_the_same_frequencies_and_never_an_illegal_action(generator):
    logits, mask = torch.tensor([[0.0, 1.0, 2.0, -30.0]]), torch.tensor([[1, 0, 1, 1]])
    ours = Categorical(logits.expand(20_000, 4), mask.expand(20_000, 4))
    drawn = ours.from_noise(torch.rand(20_000, ours.noise_size, generator=generator))
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(shares, ours.logits[0].exp(), atol=0.01, rtol=0)
    largest = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0)).expand(3, 1)
    for legal in range(4):
        one = torch.zeros(3, 4)
        one[:, legal] = 1.0
        for noise in (largest, torch.zeros(3, 1)):
            assert (Categorical(torch.randn(3, 4) * 9, one).from_noise(noise) == legal).all()


def test_every_distribution_takes_as_many_numbers_as_it_says(generator):
    parts = [
        Categorical(torch.randn(5, 3)),
        MultiCategorical(torch.randn(5, 7), (3, 4)),
        Bernoulli(torch.randn(5, 2)),
        Gaussian(torch.zeros(5, 3), torch.zeros(3)),
        SquashedGaussian(torch.zeros(5, 3), torch.zeros(3)),
    ]
    product = Product(parts, (0, 2, 2, 3, 3))
    assert product.noise_size == 1 + 2 + 2 + 3 + 3
    noise = torch.rand(5, product.noise_size, generator=generator)
    joined = product.from_noise(noise)
    assert torch.equal(joined[:, 0].long(), parts[0].from_noise(noise[:, :1]))
    assert torch.equal(joined[:, 1:3].long(), parts[1].from_noise(noise[:, 1:3]))
    assert torch.equal(joined[:, 3:5].long(), parts[2].from_noise(noise[:, 3:5]))
    assert torch.equal(joined[:, 5:8], noise[:, 5:8]) and torch.equal(joined[:, 8:], noise[:, 8:])
