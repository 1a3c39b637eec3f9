"""The language policy: log-probabilities, values, references, and the same PPO as everywhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from playout.agents.networks.policy import Minibatch, TrainablePolicy
from playout.agents.ppo.gae import compute_gae
from playout.agents.ppo.rollout import Rollout
from playout.agents.ppo.update import ppo_update
from playout.errors import ConfigError
from playout.rlhf.generation.generate import generate
from playout.rlhf.generation.responses import responses_of
from playout.rlhf.generation.sampling import SamplingConfig
from playout.rlhf.model.adapters.lora import LoRAConfig, add_adapters
from playout.rlhf.model.reference import Reference, sequence_logprobs
from playout.rlhf.model.transformer import Transformer, TransformerConfig
from playout.rlhf.online.config import RLHFConfig
from playout.rlhf.online.policy import LanguagePolicy
from torch import nn
from torch.nn import functional as F

SHAPE = TransformerConfig(
    40, 32, 48, 2, 4, 2, max_position_embeddings=32, pad_token_id=0, eos_token_id=1
)


def language_ppo(**changes):
    return replace(RLHFConfig().ppo_config(), **changes)


def make(critic=False, **changes):
    model = Transformer(SHAPE, seed=3)
    with torch.no_grad():
        model.embed_tokens.mul_(10)
    own = Transformer(SHAPE, seed=5) if critic else None
    return LanguagePolicy(model, critic=own, **changes)


def rows(count=6, width=12, seed=0):
    rng = np.random.default_rng(seed)
    ids = torch.from_numpy(rng.integers(2, 40, (count, width)))
    starts, ends = rng.integers(1, 5, count), rng.integers(6, width + 1, count)
    places = np.arange(1, width)
    valid = torch.from_numpy((places >= starts[:, None]) & (places < ends[:, None]))
    return ids[:, :-1], ids[:, 1:], valid


def batch_of(obs, actions, valid):
    zero = torch.zeros(valid.shape)
    return Minibatch(obs, actions, zero, zero, zero, zero, valid=valid)


def test_log_probabilities_are_those_of_the_tempered_distribution_on_responses_only():
    policy = make(temperature=0.7)
    obs, actions, valid = rows()
    logprobs, entropies, values = policy.evaluate(batch_of(obs, actions, valid))
    whole = torch.log_softmax(policy.model.logits(policy.model(obs)) / 0.7, -1)
    expected = whole.gather(-1, actions[..., None])[..., 0] * valid
    torch.testing.assert_close(logprobs, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        entropies, -(whole.exp() * whole).sum(-1) * valid, atol=1e-4, rtol=1e-4
    )
    assert (values == 0).all() and values.shape == valid.shape


def test_padding_on_the_right_changes_no_log_probability():
    policy = make()
    obs, actions, valid = rows()
    first, _, _ = policy.assess(obs, actions, valid)
    wide = [F.pad(x, (0, 7)) for x in (obs, actions)]
    second, _, _ = policy.assess(*wide, F.pad(valid, (0, 7)), rows=2)
    torch.testing.assert_close(second[:, :11], first)
    assert (second[:, 11:] == 0).all()


@pytest.mark.parametrize("critic", [False, True])
def test_the_value_head_is_fitted_to_returns_by_least_squares(critic):
    policy = make(critic=critic)
    obs, _, valid = rows(40)
    trunk = policy.critic if critic else policy.model
    hidden = (trunk(obs)[valid] * trunk.norm).detach()
    truth = torch.randn(32, generator=torch.Generator().manual_seed(0))
    returns = torch.zeros(valid.shape)
    returns[valid] = hidden @ truth
    policy.fit_values(obs, valid, returns, ridge=1e-9)
    _, _, values = policy.assess(obs, torch.zeros_like(obs), valid)
    torch.testing.assert_close(values, returns, atol=2e-2, rtol=1e-2)


def test_log_probabilities_of_generation_are_those_of_the_policy():
    policy = make(temperature=0.8)
    prompts = [[1, 5, 6], [1, 9], [1, 8, 30, 31, 7]]

    class Text:
        pad_id = 0

        def decode(self, ids, *, continues=False):
            return ""

    out = generate(
        policy.model,
        prompts,
        max_new_tokens=9,
        stop=[1],
        sampling=SamplingConfig(0.8),
        seed=4,
    )
    samples = responses_of(out, Text(), ["a", "b", "c"])
    logprobs, _, _ = policy.assess(samples.obs, samples.actions, samples.valid)
    for row in range(3):
        length = int(out.lengths[row])
        torch.testing.assert_close(
            logprobs[row][samples.valid[row]],
            out.logprobs[row, :length],
            atol=1e-4,
            rtol=1e-4,
        )
        assert samples.valid[row].sum() == length
        assert samples.actions[row][samples.valid[row]][-1] == out.responses[row, length - 1]


class Plain(nn.Module, TrainablePolicy):
    """The same network over single steps: each sees its row and acts at its place."""

    def __init__(self, model, head):
        super().__init__()
        self.model, self.head = model, head

    def evaluate(self, batch):
        ids, place = batch.obs["ids"], batch.obs["place"]
        hidden = self.model(ids)[torch.arange(len(ids)), place]
        log_p = torch.log_softmax(self.model.logits(hidden), -1)
        entropy = -(log_p.exp() * log_p).sum(-1)
        chosen = log_p.gather(1, batch.actions[:, None])[:, 0]
        return chosen, entropy, self.head(hidden, self.model.norm)


def rollout_of(policy, seed=0):
    obs, actions, valid = rows(8, seed=seed)
    logprobs, _, values = policy.assess(obs, actions, valid)
    generator = torch.Generator().manual_seed(seed)
    last = valid & (valid.cumsum(1) == valid.sum(1, keepdim=True))
    rollout = Rollout(
        obs=obs,
        actions=actions,
        logprobs=logprobs,
        values=values,
        rewards=torch.randn(valid.shape, generator=generator) * valid,
        terminations=last,
        truncations=torch.zeros_like(valid),
        valid=valid,
        last_values=torch.zeros(len(obs)),
    )
    compute_gae(rollout, gamma=1.0, gae_lambda=0.95)
    return rollout


def test_ppo_on_responses_equals_ppo_on_the_same_numbers_as_single_steps():
    config = language_ppo(num_epochs=3, minibatch_size=8, ent_coef=0.01, learning_rate=1e-3)
    policy = make()
    rollout = rollout_of(policy)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
    ours = ppo_update(policy, optimizer, rollout, config, generator=generator)

    twin = make()
    plain = Plain(twin.model, twin.value_head)
    index = rollout.valid.nonzero()
    flat = {
        name: getattr(rollout, name)[rollout.valid][:, None]
        for name in ("actions", "logprobs", "values", "rewards", "advantages", "returns")
    }
    one = torch.ones(len(index), 1, dtype=torch.bool)
    steps = Rollout(
        obs={"ids": rollout.obs[index[:, 0]][:, None], "place": index[:, 1][:, None]},
        terminations=one,
        truncations=~one,
        valid=one,
        last_values=torch.zeros(len(index)),
        **flat,
    )
    settings = language_ppo(
        num_epochs=3,
        minibatch_size=len(index),
        batch_by="steps",
        ent_coef=0.01,
        learning_rate=1e-3,
    )
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    theirs = ppo_update(plain, optimizer, steps, settings, generator=generator)
    for (name, a), b in zip(policy.model.named_parameters(), twin.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4, msg=name)
    for name in ("train/policy_gradient_loss", "train/value_loss", "train/approx_kl"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-5)


def test_microbatches_change_memory_and_not_the_result():
    found = []
    for size in (0, 3):
        policy = make()
        config = language_ppo(num_epochs=2, minibatch_size=8, microbatch_size=size)
        optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
        generator = torch.Generator().manual_seed(0)
        ppo_update(policy, optimizer, rollout_of(policy), config, generator=generator)
        found.append(torch.cat([p.detach().flatten() for p in policy.parameters()]))
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-5)


def test_a_reference_stays_what_the_policy_was():
    for adapted in (False, True):
        model = make().model
        if adapted:
            add_adapters(model, LoRAConfig(rank=2))
        tensors = rows()
        reference = Reference(model)
        before = sequence_logprobs(model, *tensors)[0]
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.05)
        assert not torch.allclose(sequence_logprobs(model, *tensors)[0], before)
        torch.testing.assert_close(reference.logprobs(*tensors, rows=4), before.detach())
        assert (reference.model is model) == adapted


def test_what_cannot_be_a_policy_is_refused():
    encoder = Transformer(TransformerConfig(40, 32, 48, 2, 4, 2, causal=False))
    with pytest.raises(ConfigError, match="encoder"):
        LanguagePolicy(encoder)
    with pytest.raises(ConfigError, match="temperature"):
        make(temperature=0.0)
