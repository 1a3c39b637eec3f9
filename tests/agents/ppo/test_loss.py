"""The loss and its gradient against a plain NumPy version and finite differences."""

import numpy as np
import pytest
import torch
from playout.agents.networks.policy import Minibatch
from playout.agents.ppo.config import PPOConfig
from playout.agents.ppo.loss import measure, surrogate, tensor_surrogate

SHAPE = (6, 5)


def batch_of(seed=0, valid_share=0.8, shape=SHAPE):
    rng = torch.Generator().manual_seed(seed)

    def normal(scale=1.0):
        return torch.randn(shape, generator=rng) * scale

    old = normal(0.3) - 1.0
    batch = Minibatch(
        obs=None,
        actions=None,
        logprobs=old,
        values=normal(),
        advantages=normal(2.0),
        returns=normal(),
        valid=torch.rand(shape, generator=rng) < valid_share,
    )
    return (old + normal(0.3), normal(0.1) + 0.6, batch.values + normal(0.4)), batch


def loss_in_numpy(logprobs, entropy, values, batch, config, scale):
    """The loss as the paper writes it, step by step, in double precision."""
    total, count = 0.0, int(batch.valid.sum())
    for index in np.argwhere(batch.valid.numpy()):
        i = tuple(index)
        ratio = np.exp(float(logprobs[i]) - float(batch.logprobs[i]))
        adv = (float(batch.advantages[i]) - float(scale.shift)) / float(scale.scale)
        c = config.clip_coef
        policy = -min(ratio * adv, min(max(ratio, 1 - c), 1 + c) * adv)
        v, ret, old = float(values[i]), float(batch.returns[i]), float(batch.values[i])
        value = (v - ret) ** 2
        if config.clip_vloss:
            reach = config.vf_clip_coef
            near = old + min(max(v - old, -reach), reach)
            value = max(value, (near - ret) ** 2)
        total += policy + config.vf_coef * 0.5 * value - config.ent_coef * float(entropy[i])
    return total / count


@pytest.mark.parametrize("clip_vloss", [False, True])
@pytest.mark.parametrize("form", [surrogate, tensor_surrogate])
def test_gradient_of_the_surrogate_agrees_with_finite_differences(form, clip_vloss):
    config = PPOConfig(clip_vloss=clip_vloss, ent_coef=0.02, clip_coef=0.25)
    outputs, batch = batch_of(3)
    scale = measure(batch.advantages, batch.valid, True)
    found = form(*outputs, batch, config, scale)
    grads = (found.logprob_grad, found.entropy_grad, found.value_grad)
    outputs = [x.double() for x in outputs]
    for which, grad in enumerate(grads):
        for index in np.ndindex(*SHAPE):
            sides = []
            for step in (1e-5, -1e-5):
                moved = [x.clone() for x in outputs]
                moved[which][index] += step
                sides.append(loss_in_numpy(*moved, batch, config, scale))
            assert float(grad[index]) == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=2e-5)


@pytest.mark.parametrize("clip_vloss", [False, True])
def test_compiled_and_tensor_forms_agree(clip_vloss):
    config = PPOConfig(clip_vloss=clip_vloss, ent_coef=0.01)
    for seed in range(5):
        outputs, batch = batch_of(seed)
        scale = measure(batch.advantages, batch.valid, True)
        ours, theirs = (
            form(*outputs, batch, config, scale) for form in (surrogate, tensor_surrogate)
        )
        for name in ("logprob_grad", "value_grad", "entropy_grad"):
            torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))
        np.testing.assert_allclose(ours.stats, theirs.stats.numpy(), rtol=1e-4, atol=1e-6)


def test_reported_losses_are_those_of_the_definition():
    config = PPOConfig(ent_coef=0.0, vf_coef=0.7)
    outputs, batch = batch_of(1)
    scale = measure(batch.advantages, batch.valid, False)
    policy, value, entropy, kl, clipped = surrogate(*outputs, batch, config, scale).stats
    wanted = loss_in_numpy(*outputs, batch, config, scale)
    assert policy + 0.7 * value == pytest.approx(wanted, rel=1e-5)
    log_ratio = (outputs[0] - batch.logprobs)[batch.valid].double()
    assert kl == pytest.approx(float((log_ratio.exp() - 1 - log_ratio).mean()), rel=1e-4)
    assert clipped == pytest.approx(float(((log_ratio.exp() - 1).abs() > 0.2).double().mean()))
    assert entropy == pytest.approx(float(outputs[1][batch.valid].mean()), rel=1e-5)


def test_invalid_steps_have_no_say_even_if_they_hold_nonsense():
    config = PPOConfig(ent_coef=0.01)
    outputs, batch = batch_of(2)
    scale = measure(batch.advantages, batch.valid, True)
    clean = surrogate(*outputs, batch, config, scale)
    bad = ~batch.valid
    dirty = [x.masked_fill(bad, 1e30) for x in outputs]
    for field in ("logprobs", "values", "advantages", "returns"):
        setattr(batch, field, getattr(batch, field).masked_fill(bad, -1e30))
    assert measure(batch.advantages, batch.valid, True) == scale
    for form in (surrogate, tensor_surrogate):
        found = form(*dirty, batch, config, scale)
        torch.testing.assert_close(found.logprob_grad, clean.logprob_grad)
        assert (found.value_grad[bad] == 0).all() and (found.logprob_grad[bad] == 0).all()
        assert np.isfinite(np.asarray(found.stats)).all()
