"""Objectives against finite differences, closed forms and plain loops."""

import math

import numpy as np
import pytest
import torch
from playout.agents.pretraining.config import OBJECTIVES, PretrainConfig
from playout.agents.pretraining.data.pictures import Pictures
from playout.agents.pretraining.data.positions import Positions, positions_of_game
from playout.agents.pretraining.objectives import labels as labels_module
from playout.agents.pretraining.objectives.contrastive import Contrastive, info_nce, vicreg
from playout.agents.pretraining.objectives.labels import LOSSES, Classes, Outcomes
from playout.agents.pretraining.objectives.objective import Batch, rectangles
from playout.agents.pretraining.objectives.pretext import Colour, Patches, turn
from playout.agents.pretraining.objectives.reconstruction import gaussian_kl
from playout.agents.pretraining.objectives.registry import make_objective
from playout.agents.pretraining.trunk import new_trunk
from playout.errors import ConfigError


def coloured(count=6, size=12):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    labels = np.arange(count) % 3
    return Pictures(name="set", pixels=pixels, labels=labels, classes=("a", "b", "c"))


def batch_of(data, count=6):
    rows = np.arange(count)
    images = torch.from_numpy(data.images(rows)).double()
    policy = data.policy(rows)
    return Batch(
        images,
        torch.from_numpy(data.labels[rows]),
        None if policy is None else torch.from_numpy(policy).double(),
        images.flip(3),
    )


@pytest.fixture(scope="module")
def positions():
    return positions_of_game("tic_tac_toe", count=300, seed=1).train


def check_gradient(data, objective_name, monkeypatch):
    """The derivative of the loss along a random direction, by halves of a small step."""
    config = PretrainConfig(objective=objective_name)
    trunk = new_trunk(data, network="auto" if isinstance(data, Positions) else "grid", size="tiny")
    objective = make_objective(trunk, data, config)
    trunk.double()
    objective.double().eval()
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # nothing is rounded on the way
    batch = batch_of(data)
    weights = [*trunk.net.parameters(), *objective.parameters()]
    noise = torch.Generator().manual_seed(7)
    with torch.no_grad():  # fresh biases are 0, where empty cells would stand on a kink
        for p in weights:
            p.add_(0.05 * torch.randn(p.shape, generator=noise, dtype=p.dtype))

    def loss():
        return objective.losses(batch, torch.Generator().manual_seed(3))["loss"]

    value = loss()
    gradients = torch.autograd.grad(value, weights, allow_unused=True)
    generator = torch.Generator().manual_seed(5)
    directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in weights]
    expected = sum(
        float((g * d).sum()) for g, d in zip(gradients, directions, strict=True) if g is not None
    )
    found = []
    with torch.no_grad():
        for step in (1e-8, -1e-8):
            for p, d in zip(weights, directions, strict=True):
                p.add_(d, alpha=step)
            found.append(float(loss()))
            for p, d in zip(weights, directions, strict=True):
                p.sub_(d, alpha=step)
    assert (found[0] - found[1]) / 2e-8 == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert any(g is not None and float(g.abs().max()) > 0 for g in gradients[:2])


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "next"])
def test_gradients_are_those_of_finite_differences(name, monkeypatch):
    check_gradient(coloured(), name, monkeypatch)


@pytest.mark.parametrize("name", ["supervised", "masked", "vae", "contrastive", "next"])
def test_gradients_on_positions_are_those_of_finite_differences(name, positions, monkeypatch):
    check_gradient(positions, name, monkeypatch)


def test_the_divergence_of_normals_is_that_of_torch():
    mean, log_variance = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    ours = gaussian_kl(mean, log_variance)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    standard = torch.distributions.Normal(torch.zeros(5, 7), torch.ones(5, 7))
    theirs = torch.distributions.kl_divergence(normal, standard).sum(1)
    torch.testing.assert_close(ours, theirs)


def test_infonce_of_a_toy_has_its_closed_form():
    # Two pairs: partners are equal, the others at right angles.
    first = torch.eye(2)
    loss, right = info_nce(first, first.clone(), temperature=0.5)
    expected = -2 + math.log(math.exp(2) + 2 * math.exp(0))
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    assert float(right) == 1.0


def test_infonce_is_the_plain_loop():
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, 5, 3, generator=generator)
    both = [v / v.norm() for v in [*first, *second]]
    total = 0.0
    for i, v in enumerate(both):
        partner = (i + 5) % 10
        others = [math.exp(float(v @ w) / 0.3) for j, w in enumerate(both) if j != i]
        total -= float(v @ both[partner]) / 0.3 - math.log(sum(others))
    loss, _ = info_nce(first, second, temperature=0.3)
    assert float(loss) == pytest.approx(total / 10, rel=1e-5)


def test_vicreg_is_the_plain_loop():
    generator = torch.Generator().manual_seed(2)
    first, second = torch.randn(2, 6, 4, generator=generator).double().numpy()
    alike = ((first - second) ** 2).mean()
    spread = covariance = 0.0
    for view in (first, second):
        deviation = np.sqrt(view.var(0) + 1e-4)
        spread += np.maximum(0, 1 - deviation).mean() / 2
        matrix = np.cov(view.T)
        covariance += sum(matrix[i, j] ** 2 for i in range(4) for j in range(4) if i != j) / 4
    loss, _ = vicreg(torch.from_numpy(first), torch.from_numpy(second))
    assert float(loss) == pytest.approx(25 * alike + 25 * spread + covariance, rel=1e-9)


def test_turning_is_numpys():
    images = torch.randn(4, 2, 5, 5)
    turned = turn(images, torch.tensor([0, 1, 2, 3]))
    for kind in range(4):
        assert np.array_equal(turned[kind], np.rot90(images[kind].numpy(), kind, (1, 2)))
    wide = torch.randn(2, 1, 3, 4)
    upside = turn(wide, torch.tensor([0, 1]))
    assert np.array_equal(upside[1, 0], wide[1, 0].numpy()[::-1])


def test_the_second_patch_lies_where_its_label_says():
    # A picture whose pixels tell their own place.
    size = 24
    rows, columns = np.mgrid[0:size, 0:size]
    pixels = np.stack([rows * 10, columns * 10, rows * 0]).astype(np.uint8)[None].repeat(32, 0)
    data = Pictures(name="set", pixels=pixels, labels=np.zeros(32, np.int64))
    objective = Patches(new_trunk(data, network="grid"))
    images = torch.from_numpy(data.images(np.arange(32)))
    batch = Batch(images, torch.zeros(32, dtype=torch.long))
    centre = torch.ones(32, 2, dtype=torch.long)
    places = torch.arange(32) % 8
    moves = torch.tensor(Patches.NEIGHBOURS)[places]
    tall = objective.side[0]
    middle = slice((size - tall) // 2, (size - tall) // 2 + tall)

    def corner(patches):
        """Row and column of the upper left pixel of what is shown."""
        shown = patches[:, :2, middle, middle][:, :, 0, 0] * 255 / 10
        return shown.round().long()

    first = corner(objective._cut(batch, centre, torch.Generator().manual_seed(0)))
    second = corner(objective._cut(batch, centre + moves, torch.Generator().manual_seed(9)))
    difference = second - first
    # A cell is 8 pixels and the jitter at most 1: the sign of the move shows, and the gap.
    assert torch.equal((difference / 8.0).round().long(), moves)
    assert int(difference[moves != 0].abs().min()) >= 7


def test_colours_are_told_from_what_is_not_grey():
    grey = torch.full((1, 3, 4, 4), 0.4)
    assert (Colour.targets(grey) == Colour.BINS // 2).all()
    red = torch.zeros(1, 3, 4, 4)
    red[:, 0] = 1.0
    blue_bin, red_bin = Colour.targets(red)[0, :, 0, 0].tolist()
    assert blue_bin < Colour.BINS // 2 < red_bin


def test_colour_of_grey_pictures_is_refused():
    data = Pictures(
        name="set", pixels=np.zeros((4, 1, 12, 12), np.uint8), labels=np.zeros(4, np.int64)
    )
    with pytest.raises(ConfigError, match="three channels"):
        make_objective(new_trunk(data), data, PretrainConfig(objective="colour"))


def test_masks_hide_their_share_of_whole_patches():
    hidden = rectangles((1, 9, 12), 50, 3, 0.25, torch.Generator().manual_seed(0))
    assert hidden.shape == (50, 1, 9, 12)
    assert (hidden.flatten(1).float().mean(1) == 0.25).all()
    blocks = hidden.view(50, 3, 3, 4, 3).float().mean(dim=(2, 4))
    assert set(blocks.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("places", ["seen", "hidden"])
def test_a_masked_loss_looks_at_hidden_places_only(places):
    data = coloured()
    trunk = new_trunk(data, network="grid")
    objective = make_objective(trunk, data, PretrainConfig(objective="masked", patch=3))
    # What is drawn does not depend on what is seen, so that losses tell which targets count.
    drawn = torch.randn(6, 3, 12, 12, generator=torch.Generator().manual_seed(8))
    objective.draw = torch.nn.Identity()
    trunk.map = lambda images: drawn
    images = batch_of(data).images.float()
    hidden = rectangles(trunk.shape, 6, 3, 0.5, torch.Generator().manual_seed(4))
    other = torch.where(hidden if places == "hidden" else ~hidden, 1 - images, images)
    found = [
        objective.losses(Batch(x, torch.zeros(6).long()), torch.Generator().manual_seed(4))
        for x in (images, other)
    ]
    for key in ("loss", "squared_error"):
        assert (float(found[0][key]) == float(found[1][key])) is (places == "seen")


@pytest.mark.parametrize("weighed", [False, True])
def test_smoothed_and_weighed_classes_are_torchs(weighed):
    data = coloured()
    trunk = new_trunk(data, network="grid")
    weights = torch.tensor([0.5, 2.0, 1.0]) if weighed else None
    objective = Classes(trunk, 3, label_smoothing=0.2, class_weights=weights)
    batch = batch_of(data)
    images, labels = batch.images.float(), batch.labels
    found = objective.losses(Batch(images, labels), torch.Generator())["loss"]
    theirs = torch.nn.functional.cross_entropy(
        objective.logits(images), labels, weight=weights, label_smoothing=0.2, reduction="none"
    )
    torch.testing.assert_close(found, theirs.mean())


def test_rare_classes_weigh_by_the_mean_count_over_their_own():
    data = coloured().subset(np.array([0, 1, 3, 4, 0, 3]))  # of class a four, of b two, of c none
    config = PretrainConfig(balance=True)
    weights = make_objective(new_trunk(data, network="grid"), data, config).weights
    assert weights.tolist() == [0.75, 1.5, 0.0]


def test_mixed_pictures_have_mixed_labels(monkeypatch):
    data = coloured()
    objective = Classes(new_trunk(data, network="grid"), 3, mixup=0.5).train()
    seen = []
    objective.logits = lambda images, *_: seen.append(images) or images[:, :, 0, 0]
    shares = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0, 0.9])
    monkeypatch.setattr(labels_module, "_beta", lambda *_: shares)
    batch = batch_of(data)
    images, labels = batch.images.float(), batch.labels
    found = objective.losses(Batch(images, labels), torch.Generator().manual_seed(3))["loss"]
    order = torch.randperm(6, generator=torch.Generator().manual_seed(3))
    total = 0.0
    for row, other in enumerate(order.tolist()):
        share = shares[row]
        mixed = share * images[row] + (1 - share) * images[other]
        torch.testing.assert_close(seen[0][row], mixed)
        logs = mixed[:, 0, 0].log_softmax(0)
        total -= float(share * logs[labels[row]] + (1 - share) * logs[labels[other]]) / 6
    assert float(found) == pytest.approx(total, rel=1e-5)


def test_the_bound_of_the_vae_is_that_of_torchs_distributions():
    data = coloured()
    objective = make_objective(
        new_trunk(data, network="grid"), data, PretrainConfig(objective="vae", latent=5, beta=3.0)
    )
    images = batch_of(data).images.float()
    found = objective.losses(Batch(images, torch.zeros(6).long()), torch.Generator().manual_seed(2))
    mean, log_variance = objective.posterior(images)
    noise = torch.randn(6, 5, generator=torch.Generator().manual_seed(2))
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    standard = torch.distributions.Normal(torch.zeros(6, 5), torch.ones(6, 5))
    drawn = objective.decode(posterior.mean + posterior.stddev * noise)
    continuous = torch.distributions.Bernoulli(logits=drawn, validate_args=False)
    nats = continuous.log_prob(images).flatten(1).sum(1)
    kl = torch.distributions.kl_divergence(posterior, standard).sum(1)
    torch.testing.assert_close(found["elbo"], (nats - kl).mean().detach())
    pixels = images[0].numel()
    torch.testing.assert_close(found["loss"], (-nats + 3 * kl).mean() / pixels)


def test_smoothed_labels_of_positions_lean_to_every_move_and_to_a_draw(positions):
    trunk = new_trunk(positions, size="tiny").eval()
    batch = batch_of(positions)
    batch = Batch(batch.images.float(), batch.labels, batch.policy.float())
    plain, smooth = (
        Outcomes(trunk, label_smoothing=share).losses(batch, torch.Generator())["loss"]
        for share in (0.0, 0.3)
    )
    logits, value = trunk.net.heads(batch.images)
    evenly = -logits.log_softmax(1).mean(1).mean()
    draw = torch.nn.functional.binary_cross_entropy_with_logits(value[:, 0], torch.full((6,), 0.5))
    torch.testing.assert_close(smooth, 0.7 * plain + 0.3 * (evenly + draw))


def test_losses_have_names_and_closed_forms():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.5]])
    wanted = torch.nn.functional.one_hot(torch.tensor([0, 2]), 3).float()
    logs, shares = logits.log_softmax(1), logits.softmax(1)
    right = shares[[0, 1], [0, 2]]
    for name, terms in (
        ("cross_entropy", -right.log()),
        ("mse", (shares - wanted).square().sum(1)),
        ("mae", 2 * (1 - right)),
        ("focal", -((1 - right) ** 2) * right.log()),
    ):
        torch.testing.assert_close(LOSSES[name](logs, wanted).sum(1), terms)
    assert len(LOSSES) == 4


@pytest.mark.parametrize("name", ["cross_entropy", "mse", "mae", "focal"])
def test_outcomes_are_learned_by_a_loss_of_that_name_and_weighed_by_how_rare_they_are(
    name, positions
):
    trunk = new_trunk(positions, size="tiny").eval()
    batch = batch_of(positions)
    batch = Batch(batch.images.float(), batch.labels, batch.policy.float())
    weights = torch.tensor([0.5, 3.0, 1.5])
    found = []
    for share in (1.0, 0.0):
        outcomes = Outcomes(trunk, value_weight=share, loss=name, class_weights=weights)
        found.append(outcomes.losses(batch, torch.Generator())["loss"])
    chance = trunk.net.heads(batch.images)[1][:, 0].sigmoid()
    score = batch.labels.float() / 2
    both = torch.stack([chance, 1 - chance], 1), torch.stack([score, 1 - score], 1)
    each = LOSSES[name](both[0].log(), both[1]).sum(1) * weights[batch.labels]
    torch.testing.assert_close(found[0] - found[1], each.mean(), rtol=1e-4, atol=1e-6)


def test_settings_name_the_loss_and_the_weights_of_outcomes(positions):
    trunk = new_trunk(positions, size="tiny")
    config = PretrainConfig(loss="focal", balance=True)
    config.refuse_unused(pictures=False)
    made = make_objective(trunk, positions, config)
    assert made.loss == "focal"
    counts = np.bincount(positions.labels, minlength=3)
    there = counts > 0
    assert np.allclose(made.weights.numpy()[there] * counts[there], counts.sum() / there.sum())
    assert not made.weights.numpy()[~there].any()
    for data in (positions, coloured()):
        fresh = new_trunk(data, size="tiny", network="auto")
        with pytest.raises(ConfigError, match="unknown loss 'guess'"):
            make_objective(fresh, data, PretrainConfig(loss="guess"))


@pytest.mark.parametrize("name", LOSSES)
def test_weights_of_classes_weigh_pictures_whatever_the_loss(name):
    data, weights = coloured(), torch.tensor([0.5, 2.0, 1.0])
    trunk = new_trunk(data, network="grid")
    objective = Classes(trunk, 3, loss=name, class_weights=weights)
    images = batch_of(data).images.float()
    labels = torch.from_numpy(data.labels[:6])
    logits = objective.logits(images).detach().requires_grad_()
    objective.logits = lambda *_: logits
    found = objective.losses(Batch(images, labels), torch.Generator())["loss"]
    wanted = torch.nn.functional.one_hot(labels, 3).float()
    each = LOSSES[name](logits.log_softmax(1), wanted).sum(1)
    torch.testing.assert_close(found, (each * weights[labels]).mean())


@pytest.mark.parametrize("alpha", [0.3, 1.0, 1.5, 8.0, 40.0])
def test_shares_of_mixup_have_the_distribution_that_its_name_says(alpha):
    from scipy import stats

    found = labels_module._beta(alpha, 4000, torch.Generator().manual_seed(0)).numpy()
    # Of a thousand seeds one would be refused.
    assert stats.kstest(found, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["infonce", "vicreg"])
def test_features_are_compared_in_float32_whatever_the_trunk_computes_in(kind):
    data = coloured(32)
    objective = Contrastive(new_trunk(data, network="grid"), kind=kind, hide=0.0, temperature=0.05)
    projected = torch.randn(32, 128, generator=torch.Generator().manual_seed(0)) * 3
    objective._view = lambda images, *_: images
    batch = Batch(projected, torch.zeros(32).long(), None, projected.roll(1, 1))
    plain = objective.losses(batch, torch.Generator())
    with torch.autocast("cpu", torch.bfloat16):
        lowered = objective.losses(batch, torch.Generator())
    assert all(torch.equal(lowered[key], value) for key, value in plain.items())


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        ({"objective": "contrastive", "hide": 0.001}, "--hide$"),
        ({"objective": "masked", "mask": 0.001}, "--mask or"),
    ],
)
def test_what_hides_nothing_names_its_own_flag(settings, flags):
    data = coloured()
    objective = make_objective(new_trunk(data, network="grid"), data, PretrainConfig(**settings))
    with pytest.raises(ConfigError, match=f"change {flags}"):
        objective.losses(batch_of(data), torch.Generator())
