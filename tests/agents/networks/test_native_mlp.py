"""The compiled path of small policies: the numbers and gradients of torch, on any processor."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from playout.agents.kernels.mlp._mlp import NativeMLP
from playout.agents.networks.actor_critic import build_policy
from playout.agents.networks.config import NetworkConfig
from playout.agents.networks.policy import Minibatch
from playout.agents.optim.adam import Adam


def pair(obs_size, action_space, config):
    """The same policy twice, the second with its compiled path."""
    found = []
    for compiled in (False, True):
        policy = build_policy(spaces.Box(-9, 9, (obs_size,)), action_space, config, seed=3)
        rng = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for p in policy.parameters():
                p.add_(torch.randn(p.shape, generator=rng) * 0.3)
        optimizer = Adam(policy.parameters(), lr=1e-3)
        if compiled:
            policy.accelerate()
            assert policy.compiled is not None
        found.append((policy, optimizer))
    return found


CASES = [
    (4, spaces.Discrete(2), NetworkConfig(), False),
    (7, spaces.Discrete(5), NetworkConfig(hidden=(33, 20), activation="relu"), True),
    (3, spaces.Box(-1, 1, (3,)), NetworkConfig(hidden=(32,)), False),
    (3, spaces.Box(-1, 1, (20,)), NetworkConfig(hidden=(), shared_trunk=False), False),
    (5, spaces.Discrete(3), NetworkConfig(shared_trunk=True), True),
    (5, spaces.Box(-1, 1, (2,)), NetworkConfig(shared_trunk=True, hidden=(17, 64, 16)), False),
    (16, spaces.Box(-1, 1, (6,)), NetworkConfig(hidden=(256, 128, 81), activation="relu"), False),
    (17, spaces.Discrete(3), NetworkConfig(shared_trunk=True, hidden=(128,)), False),
]


@pytest.mark.parametrize("rows", [1, 6, 131])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_outputs_and_gradients_are_those_of_torch(case, rows):
    obs_size, action_space, config, masked = CASES[case]
    rng = torch.Generator().manual_seed(rows)
    obs = torch.randn(rows, obs_size, generator=rng)
    mask = None
    if isinstance(action_space, spaces.Discrete):
        actions = torch.randint(0, int(action_space.n), (rows,), generator=rng)
        if masked:
            mask = torch.rand(rows, int(action_space.n), generator=rng) < 0.6
            mask[torch.arange(rows), actions] = True
            mask[0] = False
    else:
        actions = torch.randn(rows, *action_space.shape, generator=rng)
    zeros = torch.zeros(rows)
    batch = Minibatch(obs, actions, zeros, zeros, zeros, zeros, zeros == 0, mask)
    grads = [torch.randn(rows, generator=rng) for _ in range(3)]
    results = []
    for policy, optimizer in pair(obs_size, action_space, config):
        optimizer.zero_grad()
        logprobs, entropy, values = policy.evaluate(batch)
        policy.backward((logprobs, entropy, values), *grads)
        found = (logprobs, entropy, values, optimizer.grad)
        results.append([x.detach().clone() for x in found])
    for ours, theirs in zip(*results, strict=True):
        scale = 1.0 + float(theirs.abs().max())
        torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=3e-6)


def test_acting_agrees_with_evaluation_and_never_takes_a_masked_action():
    (_, _), (policy, _) = pair(7, spaces.Discrete(5), NetworkConfig())
    rng = torch.Generator().manual_seed(0)
    obs = torch.randn(500, 7, generator=rng)
    mask = torch.rand(500, 5, generator=rng) < 0.4
    mask[:, 1] = True
    step = policy.step(obs, mask=mask, generator=rng)
    assert mask[torch.arange(500), step.action].all()
    zeros = torch.zeros(500)
    batch = Minibatch(obs, step.action, zeros, zeros, zeros, zeros, zeros == 0, mask)
    logprobs, _, values = policy.evaluate(batch)
    assert torch.equal(logprobs, step.logprob) and torch.equal(values, step.value)
    best = policy.step(obs, mask=mask, deterministic=True)
    assert (best.logprob >= step.logprob).all()


def test_samples_have_the_probabilities_of_the_logits():
    (policy, _), (compiled, _) = pair(4, spaces.Discrete(4), NetworkConfig())
    obs = torch.randn(1, 4, generator=torch.Generator().manual_seed(5)).expand(40_000, 4)
    rng = torch.Generator().manual_seed(0)
    counts = torch.bincount(compiled.step(obs, generator=rng).action, minlength=4)
    wanted = torch.softmax(policy.head.out(policy.policy_trunk.step(obs[:1], None)[0]), 1)[0]
    torch.testing.assert_close(counts / 40_000, wanted.detach(), atol=0.01, rtol=0)


def test_every_instruction_set_gives_the_same_bits():
    rng = np.random.default_rng(0)

    def layer(num_in, num_out, activation):
        weight = rng.normal(size=(num_out, num_in)).astype(np.float32)
        bias = rng.normal(size=num_out).astype(np.float32)
        return weight, bias, np.zeros_like(weight), np.zeros_like(bias), activation

    body = [layer(5, 37, 1), layer(37, 64, 2), layer(64, 131, 1)]
    out, value = layer(131, 3, 0), layer(131, 1, 0)
    obs = rng.normal(size=(101, 5)).astype(np.float32)
    actions = rng.integers(0, 3, 101)
    grad = rng.normal(size=101).astype(np.float32)
    results = []
    for isa in (0, 1, 2):
        layers = [
            [(w, b, np.zeros_like(w), np.zeros_like(b), a) for w, b, _, _, a in part]
            for part in (body, [out], [value])
        ]
        network = NativeMLP(*layers, isa=isa)
        network.prepare()
        outputs = [np.empty(101, np.float32) for _ in range(3)]
        network.evaluate(obs, None, actions, *outputs)
        network.backward(grad, grad, grad)
        grads = [x for part in layers for _, _, w, b, _ in part for x in (w, b)]
        results.append([x.tobytes() for x in (*outputs, *grads)])
    assert results[0] == results[1] == results[2]


def test_policies_it_does_not_know_keep_to_torch():
    box = spaces.Box(-1, 1, (4,))
    others = [
        (spaces.Box(0, 255, (4, 36, 36), np.uint8), spaces.Discrete(2), NetworkConfig()),
        (box, spaces.MultiBinary(2), NetworkConfig()),
        (box, spaces.Box(-1, 1, (2,)), NetworkConfig(squash=True)),
        (box, spaces.Discrete(2), NetworkConfig(recurrent="gru")),
        (box, spaces.Discrete(2), NetworkConfig(activation="silu")),
        (box, spaces.Discrete(2), NetworkConfig(hidden=(512,))),
        (spaces.Discrete(4), spaces.Discrete(2), NetworkConfig()),
    ]
    for observation_space, action_space, config in others:
        policy = build_policy(observation_space, action_space, config)
        policy.accelerate()
        assert policy.compiled is None


def test_new_weights_are_taken_over():
    (plain, _), (compiled, _) = pair(4, spaces.Discrete(2), NetworkConfig())
    obs = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    compiled.step(obs, deterministic=True)
    with torch.no_grad():
        for p in plain.parameters():
            p.mul_(0.5)
    compiled.load_state_dict(plain.state_dict())
    torch.testing.assert_close(compiled.value(obs), plain.value(obs), rtol=1e-5, atol=1e-6)


def test_observations_of_the_wrong_size_and_actions_out_of_range_are_refused():
    (_, _), (policy, _) = pair(4, spaces.Discrete(2), NetworkConfig())
    with pytest.raises(ValueError, match="must have 4 numbers, not 5"):
        policy.step(torch.zeros(2, 5), deterministic=True)
    zeros = torch.zeros(2)
    batch = Minibatch(torch.zeros(2, 4), torch.tensor([0, 2]), zeros, zeros, zeros, zeros, zeros)
    with pytest.raises(ValueError, match="action 2 is not below 2"):
        policy.evaluate(batch)
