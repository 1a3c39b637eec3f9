"""The protocol of policies: hooks that a policy of your own leaves out."""

import pytest
import torch
from playout.agents.networks.policy import PolicyStep, as_policy
from playout.errors import ConfigError
from small_ppo import minibatch
from torch import nn


class Constant(nn.Module):
    """A policy as a user would write one: the methods that must be there, and no hook."""

    def __init__(self):
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(2))

    def initial_state(self, num_rows):
        return None

    def step(self, obs, state=None, mask=None, *, generator=None, deterministic=False):
        action = torch.randint(0, 2, (len(obs),), generator=generator)
        return PolicyStep(action, torch.full((len(obs),), -0.7), self.value(obs), None)

    def value(self, obs, state=None):
        return torch.zeros(len(obs))

    def evaluate(self, batch):
        logprobs = torch.log_softmax(self.logit, 0)[batch.actions]
        return logprobs, torch.zeros_like(logprobs), torch.zeros_like(logprobs)

    def to_env(self, actions):
        return actions.numpy()


def test_a_policy_of_your_own_gets_the_hooks_that_it_leaves_out():
    policy = as_policy(Constant())
    assert isinstance(policy, Constant) and not policy.recurrent and policy.metrics() == {}
    assert list(policy.state_dict()) == ["logit"]
    obs = torch.zeros(3, 5)
    outputs = policy.evaluate(minibatch(obs, policy.step(obs)))
    policy.backward(outputs, torch.ones(3), None, torch.ones(3))
    assert policy.logit.grad.abs().sum() > 0
    with pytest.raises(ConfigError, match=r"Linear cannot be a policy.*initial_state"):
        as_policy(nn.Linear(1, 1))
