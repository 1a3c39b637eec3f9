"""Recurrent cores: the compiled recurrence and resets within rows."""

import pytest
import torch
from gymnasium import spaces
from playout.agents.networks.actor_critic import build_policy
from playout.agents.networks.config import NetworkConfig
from playout.agents.networks.policy import Minibatch, map_tree

VECTOR = spaces.Box(-1, 1, (5,))


@pytest.mark.parametrize(("kind", "size"), [("lstm", 16), ("lstm", 64), ("gru", 16)])
@pytest.mark.parametrize("shared", [False, True])
def test_recurrent_learning_equals_stepping_with_resets(kind, size, shared):
    config = NetworkConfig(recurrent=kind, recurrent_size=size, hidden=(8,), shared_trunk=shared)
    policy = build_policy(VECTOR, spaces.Discrete(4), config, seed=2)
    rows, steps = 5, 20
    rng = torch.Generator().manual_seed(1)
    obs = torch.randn(rows, steps, 5, generator=rng)
    starts = torch.rand(rows, steps, generator=rng) < 0.2
    starts[0] = False
    initial = map_tree(lambda x: torch.randn(x.shape, generator=rng), policy.initial_state(rows))
    state, taken = initial, []
    for t in range(steps):
        keep = (~starts[:, t]).unsqueeze(1)
        state = map_tree(lambda x, keep=keep: x * keep, state)
        step = policy.step(obs[:, t], state, generator=rng)
        state = step.state
        taken.append(step)
    actions, logprobs, values = (
        torch.stack([getattr(s, name) for s in taken], 1) for name in ("action", "logprob", "value")
    )
    batch = Minibatch(
        obs=obs,
        actions=actions,
        logprobs=logprobs,
        values=values,
        advantages=values,
        returns=values,
        valid=starts,
        episode_starts=starts,
        initial_state=initial,
    )
    again, _, values_again = policy.evaluate(batch)
    torch.testing.assert_close(again, logprobs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(values_again, values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [8, 32])  # packed by torch, and compiled
def test_the_recurrent_gradient_equals_the_one_through_an_unrolled_loop(size):
    config = NetworkConfig(recurrent="lstm", recurrent_size=size, hidden=(), shared_trunk=True)
    policy = build_policy(VECTOR, spaces.Discrete(3), config, seed=2)
    rng = torch.Generator().manual_seed(1)
    obs = torch.randn(3, 9, 5, generator=rng)
    starts = torch.rand(3, 9, generator=rng) < 0.3
    zeros = torch.zeros(3, 9)
    initial = policy.initial_state(3)
    batch = Minibatch(
        obs=obs,
        actions=zeros.long(),
        logprobs=zeros,
        values=zeros,
        advantages=zeros,
        returns=zeros,
        valid=zeros == 0,
        episode_starts=starts,
        initial_state=initial,
    )
    logprobs, _, values = policy.evaluate(batch)
    (logprobs.sum() + values.square().sum()).backward()
    packed = [p.grad.clone() for p in policy.parameters()]
    policy.zero_grad()
    state, total = initial[0], 0.0
    for t in range(9):
        state = tuple(x * (~starts[:, t]).unsqueeze(1) for x in state)
        features, state = policy.policy_trunk.step(obs[:, t], state)
        value = policy.value_head(features).squeeze(1)
        total = total + policy.head(features).log_prob(zeros[:, 0]).sum() + value.square().sum()
    total.backward()
    for ours, theirs in zip(packed, [p.grad for p in policy.parameters()], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 8, 13])
def test_the_compiled_recurrence_is_torchs_lstm_cell_by_cell(rows):
    from playout.agents.networks.recurrent import Core

    core = Core("lstm", 5, 32)
    rng = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, 7, 5, generator=rng)
    state = tuple(torch.randn(rows, 32, generator=rng) for _ in range(2))
    starts = torch.rand(rows, 7, generator=rng) < 0.3
    found = core(x.flatten(0, 1), state, starts).view(rows, 7, 32)
    for t in range(7):
        state = tuple(part * (~starts[:, t]).unsqueeze(1) for part in state)
        features, state = core.step(x[:, t], state)
        torch.testing.assert_close(found[:, t], features, rtol=1e-5, atol=2e-6)
