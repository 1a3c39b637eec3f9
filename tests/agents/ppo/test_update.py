"""The update: gradients, equal results for unequal cuts, early ends, faults."""

import pytest
import torch
from gymnasium import spaces
from playout.agents.networks.actor_critic import build_policy
from playout.agents.networks.config import NetworkConfig
from playout.agents.networks.policy import Minibatch
from playout.agents.optim.adam import Adam
from playout.agents.optim.names import OPTIMIZERS
from playout.agents.ppo.config import PPOConfig
from playout.agents.ppo.gae import compute_gae
from playout.agents.ppo.loss import Scale, measure
from playout.agents.ppo.rollout import Rollout
from playout.agents.ppo.update import policy_optimizer, ppo_update
from playout.errors import ConfigError, DivergedError


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


def test_a_rollout_without_advantages_is_refused():
    ro = rollout()
    ro.advantages = None
    with pytest.raises((ConfigError, AssertionError), match="compute_gae"):
        ppo_update(*learner(), ro, PPOConfig(), generator=generator())


def seeing(**network):
    """A policy of small pictures, and pictures for it."""
    space = spaces.Box(0, 255, (12, 12, 1), "uint8")
    config = NetworkConfig(network="grid", hidden=(8,), **network)
    policy = build_policy(space, spaces.Discrete(2), config, seed=1)
    ro = rollout()
    pictures = torch.randint(0, 256, (*ro.valid.shape, 12, 12, 1), dtype=torch.uint8)
    ro.obs = pictures
    return policy, ro


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_of_a_policy_the_encoders_alone_take_the_rate_of_the_trunk(rate, separate):
    steps = []
    for share in (1.0, rate):
        torch.manual_seed(0)
        policy, ro = seeing(shared_trunk=not separate)
        before = {name: p.detach().clone() for name, p in policy.named_parameters()}
        config = PPOConfig(
            optimizer="sgd", learning_rate=0.1, trunk_rate=share, num_epochs=1,
            minibatch_size=1000, max_grad_norm=0,
        )  # fmt: skip
        optimizer = policy_optimizer(policy, config)
        ppo_update(policy, optimizer, ro, config, generator=generator())
        steps.append({name: p.detach() - before[name] for name, p in policy.named_parameters()})
    encoders = {name for name in steps[0] if ".encoder." in name}
    assert len(encoders) == (12 if separate else 6)
    for name, step in steps[0].items():
        wanted = step * rate if name in encoders else step
        torch.testing.assert_close(steps[1][name], wanted, rtol=1e-3, atol=1e-7)
        assert rate > 0 or name not in encoders or not steps[1][name].any()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_makes_the_loss_of_ppo_smaller(name):
    rates = {"sgd": 0.3, "momentum": 0.05, "muon": 0.02}
    config = PPOConfig(
        optimizer=name, learning_rate=rates.get(name, 0.01), num_epochs=8, minibatch_size=16
    )
    two_layers = NetworkConfig(hidden=(8, 8))
    policy = build_policy(spaces.Box(-1, 1, (3,)), spaces.Discrete(2), two_layers, seed=0)
    optimizer = policy_optimizer(policy, config)
    ro = rollout()
    losses = [
        ppo_update(policy, optimizer, ro, config, generator=generator())["train/value_loss"]
        for _ in range(3)
    ]
    assert losses[-1] < losses[0]


def test_optimisers_that_find_nothing_to_move_are_refused():
    policy, _ = learner()
    for options, said in (
        ({"optimizer": "muon"}, "muon moves convolutions and matrices"),
        ({"trunk_rate": 0.1}, "trunk_rate is an encoder's"),
    ):
        with pytest.raises(ConfigError, match=said):
            policy_optimizer(policy, PPOConfig(**options))
    with pytest.raises(ConfigError, match=r"optimizer must be one of sgd, .*, not 'lion'"):
        PPOConfig(optimizer="lion")
