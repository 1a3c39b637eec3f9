"""Policies for every kind of space: shapes, initialisation, collection equal to learning."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from playout.agents.networks.actor_critic import ActorCritic, build_policy
from playout.agents.networks.config import NetworkConfig
from playout.agents.networks.encoders.choice import build_encoder
from playout.agents.networks.policy import Minibatch
from playout.agents.networks.trunks import Trunk
from playout.agents.vector.actions import one_action
from playout.errors import ConfigError
from small_ppo import minibatch
from torch import nn

VECTOR = spaces.Box(-1, 1, (5,))


OBSERVATIONS = {
    "vector": (VECTOR, {}),
    "matrix": (spaces.Box(-1, 1, (3, 4)), {}),
    "discrete": (spaces.Discrete(7, start=2), {}),
    "multi_discrete": (spaces.MultiDiscrete([3, 4]), {}),
    "multi_binary": (spaces.MultiBinary(6), {}),
    "nature": (spaces.Box(0, 255, (4, 36, 36), np.uint8), {"network": "nature"}),
    "channels_last": (spaces.Box(0, 255, (40, 40, 3), np.uint8), {}),
    "impala": (spaces.Box(0, 255, (3, 24, 24), np.uint8), {"network": "impala"}),
    "grid": (spaces.Box(-1, 1, (2, 6, 7)), {}),
    "dict": (spaces.Dict({"x": VECTOR, "n": spaces.Discrete(3)}), {}),
    "dict_with_image": (
        spaces.Dict({"x": VECTOR, "image": spaces.Box(0, 255, (8, 8, 1), np.uint8)}),
        {},
    ),
}


ACTIONS = {
    "discrete": spaces.Discrete(4, start=1),
    "multi_discrete": spaces.MultiDiscrete([[2, 3], [4, 5]]),
    "multi_binary": spaces.MultiBinary((2, 2)),
    "box": spaces.Box(-2, 3, (2, 2), np.float32),
    "dict": spaces.Dict(
        {
            "choice": spaces.Discrete(4, start=1),
            "more": spaces.Tuple([spaces.Box(-2, 3, (2,), np.float32), spaces.MultiBinary(3)]),
        }
    ),
}


def samples(space, count):
    space.seed(0)
    found = [space.sample() for _ in range(count)]
    if isinstance(space, spaces.Dict):
        return {
            key: torch.from_numpy(np.stack([np.asarray(x[key]) for x in found]))
            for key in space.spaces
        }
    return torch.from_numpy(np.stack([np.asarray(x) for x in found]))


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_learning_sees_what_collection_saw_for_every_observation_space(name):
    space, options = OBSERVATIONS[name]
    policy = build_policy(space, spaces.Discrete(3), NetworkConfig(**options), seed=1)
    obs = samples(space, 6)
    step = policy.step(obs, generator=torch.Generator().manual_seed(0))
    logprobs, entropy, values = policy.evaluate(minibatch(obs, step))
    torch.testing.assert_close(logprobs, step.logprob, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(values, step.value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(policy.value(obs), step.value, rtol=1e-4, atol=1e-5)
    assert entropy.shape == (6,) and (entropy > 1.0).all()  # nearly uniform at first


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("squash", [False, True])
def test_actions_reach_the_environment_in_its_own_form(name, squash):
    space = ACTIONS[name]
    policy = build_policy(VECTOR, space, NetworkConfig(squash=squash), seed=1)
    obs = samples(VECTOR, 40)
    step = policy.step(obs, generator=torch.Generator().manual_seed(0))
    for action in policy.to_env(step.action):
        assert space.contains(one_action(space, action))
    logprobs, _, _ = policy.evaluate(minibatch(obs, step))
    torch.testing.assert_close(logprobs, step.logprob, rtol=1e-4, atol=1e-5)
    greedy = policy.step(obs, deterministic=True)
    assert torch.equal(greedy.action, policy.step(obs, deterministic=True).action)


def test_masks_keep_illegal_actions_away_in_collection_and_learning():
    policy = build_policy(VECTOR, spaces.Discrete(4), seed=0)
    obs, mask = samples(VECTOR, 100), torch.zeros(100, 4, dtype=torch.bool)
    mask[:50, 2] = mask[50:, 0] = mask[50:, 1] = True
    step = policy.step(obs, mask=mask, generator=torch.Generator().manual_seed(0))
    assert (step.action[:50] == 2).all() and (step.action[50:] < 2).all()
    logprobs, entropy, _ = policy.evaluate(minibatch(obs, step, mask))
    torch.testing.assert_close(logprobs, step.logprob)
    assert (entropy[:50] == 0).all()


def test_weights_start_orthogonal_with_the_usual_gains():
    policy = build_policy(VECTOR, spaces.Discrete(3), seed=0)
    hidden = policy.policy_trunk.layers.layers[1].weight
    torch.testing.assert_close(hidden @ hidden.T, 2.0 * torch.eye(64), atol=1e-4, rtol=1e-4)
    head = policy.head.out.weight
    torch.testing.assert_close(head @ head.T, 1e-4 * torch.eye(3), atol=1e-7, rtol=1e-3)
    assert float(policy.value_head.weight.detach().norm()) == pytest.approx(1.0, rel=1e-4)
    assert all((p == 0).all() for n, p in policy.named_parameters() if n.endswith("bias"))


def test_the_seed_decides_the_weights_and_global_randomness_is_left_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, second, third = (build_policy(VECTOR, spaces.Discrete(2), seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    flat = [torch.cat([p.reshape(-1) for p in q.parameters()]) for q in (first, second, third)]
    assert torch.equal(flat[0], flat[1]) and not torch.equal(flat[0], flat[2])


def test_trunks_are_separate_for_vectors_and_shared_for_images_unless_told():
    image = spaces.Box(0, 255, (4, 36, 36), np.uint8)
    assert build_policy(VECTOR, spaces.Discrete(2)).value_trunk is not None
    assert build_policy(image, spaces.Discrete(2)).value_trunk is None
    shared = NetworkConfig(shared_trunk=True)
    assert build_policy(VECTOR, spaces.Discrete(2), shared).value_trunk is None


class Doubler(nn.Module):
    """An encoder as a user would write one."""

    def __init__(self, space):
        super().__init__()
        self.num_features = 2 * space.shape[0]

    def forward(self, obs):
        return torch.cat([obs, obs], dim=1)


class Whole(ActorCritic):
    """A whole policy of the user's own."""

    def __init__(self, observation_space, action_space):
        super().__init__(observation_space, action_space, NetworkConfig(hidden=(4,)))


def test_your_own_module_is_found_by_name(monkeypatch):
    import sys
    import types

    module = types.ModuleType("my_networks")
    module.Doubler, module.Whole = Doubler, Whole
    monkeypatch.setitem(sys.modules, "my_networks", module)
    config = NetworkConfig(network="my_networks:Doubler", hidden=(8,))
    policy = build_policy(VECTOR, spaces.Discrete(2), config)
    assert policy.policy_trunk.layers.layers[0].weight.shape == (8, 10)
    whole = build_policy(VECTOR, spaces.Discrete(2), NetworkConfig(network="my_networks:Whole"))
    assert isinstance(whole, Whole)
    for name in ("my_networks:Nope", "no_such_module:X"):
        with pytest.raises(ConfigError, match="cannot find network"):
            build_policy(VECTOR, spaces.Discrete(2), NetworkConfig(network=name))


def test_spaces_and_networks_that_do_not_exist_get_one_clear_line():
    with pytest.raises(ConfigError, match="Text"):
        build_policy(spaces.Text(4), spaces.Discrete(2))
    with pytest.raises(ConfigError, match="actions of type Text"):
        build_policy(VECTOR, spaces.Text(4))
    with pytest.raises(ConfigError, match="unknown network 'resnet50'"):
        image = spaces.Box(0, 255, (4, 36, 36), np.uint8)
        build_policy(image, spaces.Discrete(2), NetworkConfig(network="resnet50"))
    with pytest.raises(ConfigError, match="unknown activation"):
        build_policy(VECTOR, spaces.Discrete(2), NetworkConfig(activation="sinus"))
    with pytest.raises(ConfigError, match=r"36 x 36 .*; choose --network impala or grid$"):
        small = spaces.Box(0, 255, (3, 8, 8), np.uint8)
        build_policy(small, spaces.Discrete(2), NetworkConfig(network="nature"))
    with pytest.raises(ConfigError, match="finite bounds"):
        unbounded = spaces.Box(-np.inf, np.inf, (1,))
        build_policy(VECTOR, unbounded, NetworkConfig(squash=True))


def test_parallel_trunks_give_the_same_numbers_and_gradients(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1}, raising=False)
    config = NetworkConfig(recurrent="lstm", recurrent_size=32, hidden=(8,))
    policy = build_policy(VECTOR, spaces.Discrete(3), config, seed=2)
    rng = torch.Generator().manual_seed(1)
    zeros = torch.zeros(6, 10)
    batch = Minibatch(
        obs=torch.randn(6, 10, 5, generator=rng),
        actions=zeros.long(),
        logprobs=zeros,
        values=zeros,
        advantages=zeros,
        returns=zeros,
        valid=zeros == 0,
        episode_starts=torch.rand(6, 10, generator=rng) < 0.2,
        initial_state=policy.initial_state(6),
    )
    grads = [torch.randn(6, 10, generator=rng) for _ in range(3)]
    plain = policy.evaluate(batch)
    torch.autograd.backward(list(plain), grads)
    wanted = [p.grad.clone() for p in policy.parameters()]
    policy.zero_grad(set_to_none=True)
    policy.accelerate()
    assert policy.parallel is not None
    found = policy.evaluate(batch)
    policy.backward(found, *grads)
    for a, b in zip(plain, found, strict=True):
        assert torch.equal(a, b)
    for a, p in zip(wanted, policy.parameters(), strict=True):
        assert torch.equal(a, p.grad)


def test_a_recurrent_policy_refuses_single_steps():
    policy = build_policy(VECTOR, spaces.Discrete(3), NetworkConfig(recurrent="gru"))
    obs = samples(VECTOR, 4)
    step = policy.step(obs, policy.initial_state(4))
    with pytest.raises(ConfigError, match="rows"):
        policy.evaluate(minibatch(obs, step))


def test_a_device_without_autocast_lowers_the_same_products(monkeypatch):
    space = spaces.Box(0, 255, (8, 8, 1), np.uint8)
    policy = build_policy(space, spaces.Discrete(3), NetworkConfig(hidden=(8,)))
    policy.use_dtype(torch.bfloat16)
    obs = torch.randint(0, 255, (5, 8, 8, 1), dtype=torch.uint8)
    plain = policy.value(obs)
    features = policy.policy_trunk.step(obs, None)[0]
    assert features.dtype == torch.float32

    def refuse(*args):
        raise RuntimeError("no autocast here")

    monkeypatch.setattr(torch, "autocast", refuse)
    assert torch.equal(policy.value(obs), plain)
    policy.policy_trunk.step(obs, None)[0].sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in policy.policy_trunk.parameters())


def test_a_backend_of_any_name_hides_no_part_of_a_network(monkeypatch):
    monkeypatch.setattr(nn.Module, "second", lambda self, device: self, raising=False)
    policy = build_policy(
        spaces.Box(0, 255, (36, 36, 1), np.uint8), spaces.Discrete(3), NetworkConfig("impala")
    )
    assert policy.value(torch.zeros(1, 36, 36, 1, dtype=torch.uint8)).shape == (1,)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("residual=flase", "residual is true or false"),
        ("dropout=x", "dropout is a number"),
        ("dropout=1.5", "dropout is a number"),
    ],
)
def test_a_stack_refuses_values_that_it_cannot_have(options, said):
    pixels = spaces.Box(0, 255, (1, 16, 16), np.uint8)
    with pytest.raises(ConfigError, match=said):
        build_encoder(pixels, f"stack(depth=2,width=4,{options})")
    with pytest.raises(ConfigError, match=r"a stack is written as stack\(depth=8, width=32\), not"):
        build_encoder(pixels, f"stack(depth=2,{options}")


@pytest.mark.parametrize("shared", [True, False])
def test_an_answer_asks_each_trunk_once_and_is_what_a_step_tells(shared, monkeypatch):
    policy = build_policy(VECTOR, spaces.Discrete(3), NetworkConfig(shared_trunk=shared), seed=1)
    obs, asked, step = samples(VECTOR, 4), [], Trunk.step
    value = policy.step(obs, generator=torch.Generator()).value
    monkeypatch.setattr(Trunk, "step", lambda *given: asked.append(1) or step(*given))
    with torch.no_grad():
        logits, values = policy.answer(obs)
    assert len(asked) == (1 if shared else 2)
    assert logits.shape == (4, 3) and torch.equal(values, value)
