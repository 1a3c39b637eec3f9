"""Advantages against an independent definition: sums over the steps that follow, one by one."""

import numpy as np
import pytest
import torch
from playout.agents.ppo.gae import compute_gae, doubling_gae, plain_gae
from playout.agents.ppo.rollout import Rollout
from playout.errors import ConfigError, DivergedError


def make(rewards, values, last, term=None, trunc=None, valid=None, bootstrap=None):
    rewards = torch.tensor(rewards, dtype=torch.float32)
    none = torch.zeros(rewards.shape, dtype=torch.bool)
    flags = [none if x is None else torch.tensor(x, dtype=torch.bool) for x in (term, trunc)]
    valid = ~none if valid is None else torch.tensor(valid, dtype=torch.bool)
    return Rollout(
        obs=torch.zeros(*rewards.shape, 1),
        actions=none.long(),
        logprobs=torch.zeros(rewards.shape),
        values=torch.tensor(values, dtype=torch.float32),
        rewards=rewards,
        terminations=flags[0],
        truncations=flags[1],
        valid=valid,
        last_values=torch.tensor(last, dtype=torch.float32),
        bootstrap_values=None if bootstrap is None else torch.tensor(bootstrap).float(),
    )


def definition(ro, gamma, lam):
    """A(t) = sum over k of (gamma lam)^k delta(t + k) along the valid steps of one episode."""
    rows, steps = ro.rewards.shape
    out = np.zeros((rows, steps))
    r, v = ro.rewards.double().numpy(), ro.values.double().numpy()
    for i in range(rows):
        order = [t for t in range(steps) if ro.valid[i, t]]
        deltas = {}
        for n, t in enumerate(order):
            if ro.terminations[i, t]:
                future = 0.0
            elif ro.truncations[i, t] and ro.bootstrap_values is not None:
                future = float(ro.bootstrap_values[i, t])
            elif ro.truncations[i, t]:
                future = v[i, t + 1] if t + 1 < steps else float(ro.last_values[i])
            else:
                future = v[i, order[n + 1]] if n + 1 < len(order) else float(ro.last_values[i])
            deltas[t] = r[i, t] + gamma * future - v[i, t]
        for n, t in enumerate(order):
            weight = 1.0
            for later in order[n:]:
                out[i, t] += weight * deltas[later]
                weight *= gamma * lam
                if ro.terminations[i, later] or ro.truncations[i, later]:
                    break
    return out


def test_hand_computed_numbers_with_a_termination():
    ro = make([[1.0, 2.0, 3.0]], [[0.5, 1.0, 1.5]], [2.0], term=[[0, 1, 0]])
    compute_gae(ro, gamma=0.5, gae_lambda=0.5)
    # deltas: 1 + .5 - .5 = 1; 2 - 1 = 1; 3 + 1 - 1.5 = 2.5
    assert ro.advantages.tolist() == [[1.25, 1.0, 2.5]]
    assert ro.returns.tolist() == [[1.75, 2.0, 4.0]]


def test_truncation_bootstraps_from_the_value_of_the_next_observation():
    ro = make([[1.0, 0.0, 5.0]], [[0.0, 10.0, 0.0]], [0.0], trunc=[[1, 0, 0]], valid=[[1, 0, 1]])
    compute_gae(ro, gamma=0.9, gae_lambda=1.0)
    # Step 1 is the reset row of NEXT_STEP: its value is that of the episode's last observation.
    assert ro.advantages[0].tolist() == pytest.approx([1 + 9.0, 0.0, 5.0])
    assert ro.returns[0].tolist() == pytest.approx([10.0, 10.0, 5.0])


def test_invalid_steps_pass_the_future_through_to_the_step_before_them():
    whole = make([[1.0, 2.0, 3.0]], [[0.1, 0.2, 0.3]], [0.4])
    holed = make(
        [[1.0, 99.0, 2.0, 99.0, 3.0, 99.0]],
        [[0.1, 7.0, 0.2, 7.0, 0.3, 7.0]],
        [0.4],
        term=[[0, 1, 0, 1, 0, 1]],
        valid=[[1, 0, 1, 0, 1, 0]],
    )
    for ro in (whole, holed):
        compute_gae(ro, gamma=0.9, gae_lambda=0.8)
    assert torch.equal(holed.advantages[0, ::2], whole.advantages[0])
    assert holed.advantages[0, 1::2].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("bootstrap", [False, True])
def test_random_rollouts_agree_with_the_definition(bootstrap):
    rng = np.random.default_rng(1)
    for gamma, lam in ((0.99, 0.95), (1.0, 1.0), (0.9, 0.0)):
        shape = (5, 23)
        ro = make(
            rng.normal(size=shape),
            rng.normal(size=shape),
            rng.normal(size=5),
            term=rng.random(shape) < 0.1,
            trunc=rng.random(shape) < 0.1,
            valid=rng.random(shape) < 0.8,
            bootstrap=rng.normal(size=shape) if bootstrap else None,
        )
        compute_gae(ro, gamma=gamma, gae_lambda=lam)
        np.testing.assert_allclose(ro.advantages, definition(ro, gamma, lam), atol=2e-5)
        np.testing.assert_allclose(ro.returns, ro.advantages + ro.values, atol=2e-6)
        plain = plain_gae(ro, gamma=gamma, gae_lambda=lam)
        torch.testing.assert_close(plain[0], ro.advantages, atol=2e-5, rtol=0)
        torch.testing.assert_close(plain[1], ro.returns, atol=2e-5, rtol=0)
        doubled = doubling_gae(ro, gamma=gamma, gae_lambda=lam)
        torch.testing.assert_close(doubled, plain, atol=2e-5, rtol=0)


def test_a_nan_reward_is_named_with_its_row_and_step():
    ro = make([[0.0, 0.0], [0.0, float("nan")]], [[0.0, 0.0]] * 2, [0.0, 0.0])
    with pytest.raises(DivergedError, match=r"row 1 at step 1 .* nan"):
        compute_gae(ro, gamma=0.99, gae_lambda=0.95)


def test_a_nan_in_an_invalid_step_does_not_matter():
    ro = make([[0.0, float("nan")]], [[0.0, 0.0]], [0.0], valid=[[1, 0]])
    compute_gae(ro, gamma=0.99, gae_lambda=0.95)
    assert torch.isfinite(ro.advantages).all()


def test_wrong_shapes_and_discounts_are_refused():
    ro = make([[0.0, 0.0]], [[0.0, 0.0]], [0.0])
    with pytest.raises(ConfigError, match="gamma"):
        compute_gae(ro, gamma=1.5, gae_lambda=0.95)
    ro.values = torch.zeros(1, 3)
    with pytest.raises(ConfigError, match=r"values has shape \[1, 3\]"):
        compute_gae(ro, gamma=0.9, gae_lambda=0.95)
