"""The update against a plain NumPy version of the loss, finite differences and unequal cuts."""

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces
from playout.agents.networks.actor_critic import build_policy
from playout.agents.networks.config import NetworkConfig
from playout.agents.networks.policy import Minibatch
from playout.agents.optim.adam import Adam
from playout.agents.ppo.gae import compute_gae
from playout.agents.ppo.loss import Scale, measure, surrogate, tensor_surrogate
from playout.agents.ppo.rollout import Rollout
from playout.agents.ppo.update import PPOConfig, ppo_update
from playout.errors import ConfigError, DivergedError

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


def rollout(rows=4, steps=16, seed=0, obs=3):
    rng = torch.Generator().manual_seed(seed)
    ro = Rollout(
        obs=torch.randn(rows, steps, obs, generator=rng),
        actions=torch.randint(0, 2, (rows, steps), generator=rng),
        logprobs=torch.full((rows, steps), -0.69),
        values=torch.zeros(rows, steps),
        rewards=torch.randn(rows, steps, generator=rng),
        terminations=torch.rand(rows, steps, generator=rng) < 0.1,
        truncations=torch.zeros(rows, steps, dtype=torch.bool),
        valid=torch.rand(rows, steps, generator=rng) < 0.9,
        last_values=torch.zeros(rows),
    )
    compute_gae(ro, gamma=0.99, gae_lambda=0.95)
    return ro


def learner(seed=0):
    policy = build_policy(
        spaces.Box(-1, 1, (3,)), spaces.Discrete(2), NetworkConfig(hidden=(8,)), seed=seed
    )
    return policy, Adam(policy.parameters(), lr=1e-2)


def generator():
    return torch.Generator().manual_seed(0)


def test_the_gradient_of_one_step_is_that_of_the_plain_formula():
    ro = rollout()
    config = PPOConfig(num_epochs=1, minibatch_size=1000, ent_coef=0.01)
    policy, ours = learner()
    ours.lr = 1e-12  # the step itself is Adam's test
    metrics = ppo_update(policy, ours, ro, config, generator=generator())
    other, _ = learner()
    valid = ro.valid
    flat = Minibatch(
        obs=ro.obs[valid],
        actions=ro.actions[valid],
        logprobs=ro.logprobs[valid],
        values=ro.values[valid],
        advantages=ro.advantages[valid],
        returns=ro.returns[valid],
        valid=valid[valid],
    )
    logprobs, entropy, values = other.evaluate(flat)
    adv = flat.advantages
    adv = (adv - adv.mean()) / (adv.std(correction=0) + 1e-8)
    ratio = (logprobs - flat.logprobs).exp()
    policy_loss = -torch.min(ratio * adv, ratio.clamp(0.8, 1.2) * adv).mean()
    loss = policy_loss + 0.25 * (values - flat.returns).square().mean() - 0.01 * entropy.mean()
    other.zero_grad(set_to_none=True)
    loss.backward()
    for a, b in zip(policy.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=5e-6)
    norm = torch.cat([p.grad.reshape(-1) for p in other.parameters()]).norm()
    assert metrics["train/grad_norm"] == pytest.approx(float(norm), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adam_takes_the_steps_of_torch(dtype):
    mine, other = (
        [torch.nn.Parameter(torch.linspace(-1, 1, n).to(dtype)) for n in (3, 17)] for _ in "ab"
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


def test_microbatches_sum_to_the_whole_minibatch():
    results = []
    for size in (0, 3, 7):
        policy, optimizer = learner()
        config = PPOConfig(num_epochs=1, minibatch_size=1000, microbatch_size=size, ent_coef=0.01)
        ppo_update(policy, optimizer, rollout(), config, generator=generator())
        results.append(torch.cat([p.detach().reshape(-1) for p in policy.parameters()]))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(results[2], results[0], rtol=1e-4, atol=1e-6)


def test_rows_and_steps_give_the_same_gradient():
    results = []
    for by, size in (("steps", 1000), ("rows", 4)):
        policy, optimizer = learner()
        config = PPOConfig(num_epochs=1, minibatch_size=size, batch_by=by)
        ppo_update(policy, optimizer, rollout(), config, generator=generator())
        results.append(torch.cat([p.detach().reshape(-1) for p in policy.parameters()]))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-6)


def test_a_torch_optimiser_can_take_the_steps():
    policy, _ = learner()
    other, ours = learner()
    theirs = torch.optim.AdamW(policy.parameters(), lr=1e-2, eps=1e-5, weight_decay=0.0)
    config = PPOConfig(num_epochs=2, minibatch_size=16)
    first = ppo_update(policy, theirs, rollout(), config, generator=generator())
    second = ppo_update(other, ours, rollout(), config, generator=generator())
    assert first["train/policy_gradient_loss"] == pytest.approx(
        second["train/policy_gradient_loss"], abs=1e-4
    )


def test_target_kl_ends_the_update_before_the_step_that_would_pass_it():
    config = PPOConfig(num_epochs=50, minibatch_size=16, target_kl=0.002)
    policy, optimizer = learner()
    optimizer.lr = 0.05
    metrics = ppo_update(policy, optimizer, rollout(), config, generator=generator())
    assert 0 < metrics["train/num_gradient_steps"] < 50 * 4
    assert metrics["train/approx_kl"] > 0.003


def test_advantages_can_be_normalised_over_the_batch_or_not_at_all():
    ro = rollout()
    scale = measure(ro.advantages, ro.valid, True)
    chosen = ro.advantages[ro.valid].double()
    assert float(scale.shift) == pytest.approx(float(chosen.mean()), abs=1e-6)
    assert float(scale.scale) == pytest.approx(float(chosen.std(correction=0)), rel=1e-6)
    assert measure(ro.advantages, ro.valid, False) == Scale(0.0, 1.0, int(ro.valid.sum()))
    for options in ({"norm_adv": False}, {"norm_adv_by": "batch"}):
        policy, optimizer = learner()
        config = PPOConfig(num_epochs=1, minibatch_size=16, **options)
        ppo_update(policy, optimizer, rollout(), config, generator=generator())


def test_a_nan_loss_raises_and_leaves_the_weights_alone():
    policy, optimizer = learner()
    before = optimizer.flat.clone()
    ro = rollout()
    ro.returns[0, 0] = float("nan")
    ro.valid[0, 0] = True
    with pytest.raises(DivergedError, match="not finite"):
        config = PPOConfig(num_epochs=1, minibatch_size=1000)
        ppo_update(policy, optimizer, ro, config, generator=generator())
    assert torch.equal(optimizer.flat, before)


def test_settings_that_make_no_sense_are_refused():
    for options in (
        {"clip_coef": 0.0},
        {"gamma": 1.2},
        {"num_epochs": 0},
        {"target_kl": -1.0},
        {"batch_by": "tokens"},
        {"learning_rate": float("nan")},
    ):
        with pytest.raises(ConfigError, match=next(iter(options))):
            PPOConfig(**options)
    assert dataclasses.asdict(PPOConfig())["vf_coef"] == 0.5


def test_a_rollout_without_advantages_is_refused():
    ro = rollout()
    ro.advantages = None
    with pytest.raises((ConfigError, AssertionError), match="compute_gae"):
        ppo_update(*learner(), ro, PPOConfig(), generator=generator())
